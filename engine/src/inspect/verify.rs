//! Reads the bytes of objects and compares every checksum.
//!
//! Several objects are read at a time, each in runs of whole checksum blocks. A block that does not hold is read once
//! more: what was wrong may have been the way and not the medium.

use super::{claims::combine, finding::Problem, image::ShardImage};
use crate::{
    error::Region,
    layout::{
        BLOCK_BYTES, ChecksumTable, Content, EXTENT_CHECKSUM_BYTES, PACKED_CHECKSUM_BYTES, UploadId, checksum,
    },
    reactor::{Moment, Task},
    shard::reading::Reading,
};
use crossdock_transport::memory::{BufferLease, LEASE_BYTES_MAX};
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

/// What a verification obeys.
pub(crate) struct Pace {
    /// Bytes a second, if there is a limit.
    rate: Option<u64>,
    started: Moment,
    bytes: Cell<u64>,
    stopped: Cell<bool>,
    observer: RefCell<Observer>,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>, started: Moment, observer: Observer) -> Rc<Pace> {
        let (bytes, stopped) = (Cell::new(0), Cell::new(false));
        Rc::new(Pace {
            rate: rate.filter(|rate| *rate > 0),
            started,
            bytes,
            stopped,
            observer: observer.into(),
        })
    }

    fn tell(&self, progress: Progress<'_>) {
        if !(self.observer.borrow_mut())(progress) {
            self.stopped.set(true);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    async fn before(&self, reading: &Reading, bytes: usize) {
        let before = self.bytes.get();
        self.bytes.set(before + bytes as u64);
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(before as f64 / rate as f64);
        let elapsed = reading.core.now().since(self.started);
        if let Some(wait) = due.checked_sub(elapsed).filter(|wait| !wait.is_zero()) {
            reading.core.sleep(wait).await;
        }
    }
}

/// A version, or a part of an upload.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    Object(Box<[u8]>),
    Part(UploadId, u16),
}

/// What is verified in one go.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) content: Content,
    pub(super) crc64: u64,
}

/// A place that does not hold.
#[derive(Clone)]
pub(super) struct Bad {
    pub(super) region: Region,
    pub(super) offset: u64,
    pub(super) part: Option<u16>,
    pub(super) problem: Problem,
}

impl Job {
    /// What lies at a place now.
    pub(super) fn at(image: &ShardImage, place: &Place) -> Option<Job> {
        let (content, crc64) = match place {
            Place::Object(key) => image.at(key).map(|record| (record.content.clone(), record.crc64))?,
            Place::Part(upload, number) => {
                let part = image.catalog.upload(*upload)?.parts.get(number)?;
                (part.content.clone(), part.crc64)
            }
        };
        Some(Job { place: place.clone(), content, crc64 })
    }
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
    pace: &Rc<Pace>,
) -> Vec<(Job, Vec<Bad>)> {
    let mut window: VecDeque<(Job, Task<Vec<Bad>>)> = VecDeque::new();
    let mut suspects = Vec::new();
    let mut jobs = jobs(image, after);
    loop {
        while window.len() < WINDOW && !pace.is_stopped() {
            let Some(job) = jobs.next() else { break };
            let (reading, pace, work) = (reading.clone(), pace.clone(), job.clone());
            let task = reading.core.clone().spawn(async move { verify(&reading, &work, &pace).await });
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

/// Reads one object or part; gives what does not hold.
pub(super) async fn verify(reading: &Reading, job: &Job, pace: &Pace) -> Vec<Bad> {
    let mut bad = Vec::new();
    match &job.content {
        Content::Parts(parts) => {
            for part in parts {
                verify_one(reading, &part.content, part.crc64, Some(part.number), pace, &mut bad).await;
            }
        }
        content => {
            let part = match job.place {
                Place::Object(_) => None,
                Place::Part(_, number) => Some(number),
            };
            verify_one(reading, content, job.crc64, part, pace, &mut bad).await;
        }
    }
    bad
}

async fn verify_one(
    reading: &Reading,
    content: &Content,
    crc64: u64,
    part: Option<u16>,
    pace: &Pace,
    bad: &mut Vec<Bad>,
) {
    match content {
        // The index was checked as a whole when it was read; parts within parts are refused by the format.
        Content::Empty | Content::Inline(_) | Content::Parts(_) => {}
        Content::Packed { place, bytes, checksums } => {
            let run = Run {
                region: Region::Log,
                offset: reading.log_offset(*place),
                bytes: u64::from(*bytes),
                block: PACKED_CHECKSUM_BYTES,
                part,
            };
            run.verify(reading, checksums, pace, bad).await;
        }
        Content::Extents { extents, bytes, checksums } => {
            let Some(sums) = table(reading, checksums, part, pace, bad).await else { return };
            let (mut left, mut rest) = (*bytes, &sums[..]);
            for extent in extents {
                let here = left.min(extent.bytes());
                let count = (here as usize).div_ceil(EXTENT_CHECKSUM_BYTES).min(rest.len());
                let (mine, later) = rest.split_at(count);
                let (region, offset) = (Region::Data, reading.data_offset(*extent));
                let run = Run { region, offset, bytes: here, block: EXTENT_CHECKSUM_BYTES, part };
                run.verify(reading, mine, pace, bad).await;
                (left, rest) = (left - here, later);
            }
            let found = combine(&sums, *bytes, EXTENT_CHECKSUM_BYTES as u64);
            if found != crc64 {
                let offset = extents.first().map_or(0, |extent| reading.data_offset(*extent));
                let problem = Problem::Whole { expected: crc64, found };
                bad.push(Bad { region: Region::Data, offset, part, problem });
            }
        }
    }
}

/// The checksums, wherever they lie; none if they do not hold, which is then said.
async fn table(
    reading: &Reading,
    checksums: &ChecksumTable,
    part: Option<u16>,
    pace: &Pace,
    bad: &mut Vec<Bad>,
) -> Option<Vec<u64>> {
    let (extent, bytes, expected) = match checksums {
        ChecksumTable::Here(sums) => return Some(sums.clone()),
        ChecksumTable::Away { extent, bytes, checksum } => (*extent, *bytes, *checksum),
    };
    let offset = reading.data_offset(extent);
    let mut problem = Problem::Record("the checksum table is longer than its extent or a buffer");
    for _ in 0..2 {
        if u64::from(bytes) > extent.bytes() || bytes as usize > LEASE_BYTES_MAX {
            break;
        }
        match read(reading, Region::Data, offset, bytes as usize, pace).await {
            Ok(lease) => {
                let table = lease.as_slice().get(..bytes as usize).unwrap_or_default();
                let found = checksum(table);
                if found == expected && table.len() == bytes as usize {
                    let sums = table.as_chunks::<8>().0.iter();
                    return Some(sums.map(|sum| u64::from_le_bytes(*sum)).collect());
                }
                problem = Problem::Bytes { bytes, expected, found };
            }
            Err(error) => problem = error,
        }
    }
    bad.push(Bad { region: Region::Data, offset, part, problem });
    None
}

/// Bytes that lie in one piece.
struct Run {
    region: Region,
    offset: u64,
    bytes: u64,
    /// Bytes that one checksum covers.
    block: usize,
    part: Option<u16>,
}

impl Run {
    async fn verify(&self, reading: &Reading, sums: &[u64], pace: &Pace, bad: &mut Vec<Bad>) {
        // Packed bytes may start anywhere in a device block.
        let lead = (self.offset % BLOCK_BYTES as u64) as usize;
        let blocks_per_read = (RUN_BYTES - BLOCK_BYTES) / self.block;
        let mut at = 0;
        for sums in sums.chunks(blocks_per_read) {
            if pace.is_stopped() {
                return;
            }
            let bytes = (self.bytes - at).min((sums.len() * self.block) as u64) as usize;
            let start = self.offset + at;
            let mut wrong = self.compare(reading, start, bytes, lead, sums, pace).await;
            if !wrong.is_empty() {
                wrong = self.compare(reading, start, bytes, lead, sums, pace).await;
            }
            bad.extend(wrong);
            at += bytes as u64;
        }
    }

    async fn compare(
        &self,
        reading: &Reading,
        start: u64,
        bytes: usize,
        lead: usize,
        sums: &[u64],
        pace: &Pace,
    ) -> Vec<Bad> {
        let (region, part) = (self.region, self.part);
        let lease = match read(reading, region, start - lead as u64, lead + bytes, pace).await {
            Ok(lease) => lease,
            Err(problem) => return vec![Bad { region, offset: start, part, problem }],
        };
        let there = lease.as_slice().get(lead..).unwrap_or_default();
        let mut wrong = Vec::new();
        for (index, expected) in sums.iter().enumerate() {
            let at = index * self.block;
            let length = self.block.min(bytes - at);
            // Short when the device ends before: the checksum of less is another.
            let block = there.get(at..(at + length).min(there.len())).unwrap_or_default();
            let found = checksum(block);
            if found != *expected || block.len() != length {
                let problem = Problem::Bytes { bytes: length as u32, expected: *expected, found };
                wrong.push(Bad { region, offset: start + at as u64, part, problem });
            }
        }
        wrong
    }
}

async fn read(
    reading: &Reading,
    region: Region,
    offset: u64,
    bytes: usize,
    pace: &Pace,
) -> Result<BufferLease, Problem> {
    pace.before(reading, bytes).await;
    let padded = bytes.next_multiple_of(BLOCK_BYTES);
    let lease = reading.core.pool().acquire(padded).await;
    let read = reading.read(region, offset, padded, lease).await;
    pace.tell(Progress::Bytes(bytes as u64));
    read.map_err(|error| Problem::Device(error.to_string()))
}
