//! Verifies all that a shard holds, several objects at a time.

use super::image::ShardImage;
use crate::{
    reactor::{Core, Moment, OwnTask},
    shard::reading::Reading,
    verify::{Bad, Job, Leave, Pace, Place, verify},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

/// Bytes read at a time.
const RUN_BYTES: usize = 1 << 20;
/// Objects read at a time.
const WINDOW: usize = 8;

/// How far a verification has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// So many bytes more were read.
    Bytes(u64),
    /// Every version up to this [`super::ObjectEntry::place`] was verified and holds.
    Upto(&'a [u8]),
}

/// Is told how far it is; says whether to go on.
pub(super) type Observer = Box<dyn FnMut(Progress<'_>) -> bool>;

/// Reads as fast as it may, and tells an observer.
pub(crate) struct Tempo {
    /// Bytes a second, if there is a limit.
    rate: Option<u64>,
    started: Moment,
    bytes: Cell<u64>,
    stopped: Cell<bool>,
    observer: RefCell<Observer>,
}

impl Tempo {
    pub(super) fn new(rate: Option<u64>, started: Moment, observer: Observer) -> Rc<Tempo> {
        let (bytes, stopped) = (Cell::new(0), Cell::new(false));
        let rate = rate.filter(|rate| *rate > 0);
        Rc::new(Tempo { rate, started, bytes, stopped, observer: observer.into() })
    }

    fn tell(&self, progress: Progress<'_>) {
        if !(self.observer.borrow_mut())(progress) {
            self.stopped.set(true);
        }
    }
}

impl Pace for Tempo {
    fn run_bytes(&self) -> usize {
        RUN_BYTES
    }

    fn leave<'a>(&'a self, core: &'a Core, bytes: usize) -> Leave<'a> {
        Box::pin(async move {
            let before = self.bytes.get();
            self.bytes.set(before + bytes as u64);
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(before as f64 / rate as f64);
                let elapsed = core.now().since(self.started);
                if let Some(wait) = due.checked_sub(elapsed).filter(|wait| !wait.is_zero()) {
                    core.sleep(wait).await;
                }
            }
            Some(core.pool().acquire(bytes).await)
        })
    }

    fn was_read(&self, bytes: u64) {
        self.tell(Progress::Bytes(bytes));
    }

    fn is_stopped(&self) -> bool {
        self.stopped.get()
    }
}

/// What lies at a place now.
pub(super) fn job_at(image: &ShardImage, place: &Place) -> Option<Job> {
    let (content, crc64) = match place {
        Place::Object(key) => image.at(key).map(|record| (record.content.clone(), record.crc64))?,
        Place::Part(upload, number) => {
            let part = image.catalog.upload(*upload)?.parts.get(number)?;
            (part.content.clone(), part.crc64)
        }
    };
    Some(Job { place: place.clone(), content, crc64 })
}

/// The jobs of a shard: its versions behind `after`, then the parts of its uploads.
fn jobs<'a>(image: &'a ShardImage, after: Option<&[u8]>) -> impl Iterator<Item = Job> + use<'a> {
    let objects = image.objects_after(after.unwrap_or_default()).map(|entry| Job {
        place: Place::Object(entry.place.into()),
        content: entry.record.content.clone(),
        crc64: entry.record.crc64,
    });
    let parts = image.uploads().flat_map(|upload| {
        let id = upload.record.upload;
        upload.parts.into_iter().map(move |part| Job {
            place: Place::Part(id, part.number),
            content: part.content.clone(),
            crc64: part.crc64,
        })
    });
    objects.chain(parts)
}

/// Verifies what a shard holds, in order; gives what does not hold.
pub(super) async fn verify_shard(
    reading: &Reading,
    image: &ShardImage,
    after: Option<&[u8]>,
    pace: &Rc<Tempo>,
) -> Vec<(Job, Vec<Bad>)> {
    let mut window: VecDeque<(Job, OwnTask<Vec<Bad>>)> = VecDeque::new();
    let mut suspects = Vec::new();
    let mut jobs = jobs(image, after);
    loop {
        while window.len() < WINDOW && !pace.is_stopped() {
            let Some(job) = jobs.next() else { break };
            let (reading, pace, work) = (reading.clone(), pace.clone(), job.clone());
            let task = reading.core.clone().spawn_own(async move { verify(&reading, &work, &*pace).await });
            window.push_back((job, task));
        }
        let Some((job, task)) = window.pop_front() else { break };
        let bad = task.await;
        if pace.is_stopped() {
            // What was begun is not known to be whole.
            break;
        }
        if !bad.is_empty() {
            suspects.push((job, bad));
        } else if let (Place::Object(place), true) = (&job.place, suspects.is_empty()) {
            // Not past a suspect: whoever goes on from here after a stop must meet it again.
            pace.tell(Progress::Upto(place));
        }
    }
    suspects
}
