//! The scrub: reads all that a running shard holds, again and again, so that rot is found while there is still something to
//! mend it from.
//!
//! ```text
//!   a tour   versions, in the order of the index ─► parts of uploads ─► anchors, checkpoint, log ─► pause ─► the next
//!                │                                                               │
//!                └── a note of how far it is, in the log, now and then           └── copies that do not hold: a new checkpoint
//! ```
//!
//! It is the last to get anything: one read at a time of a bounded size, at a bounded rate, and only when nobody else has
//! work on this core, or has had for [`PATIENCE`], so that it comes round under any load; memory it takes only where some is
//! free. What it reads is pinned before, so that nothing that was overwritten meanwhile is taken for damage. Metadata may take
//! the largest leases: of a core's shards one reads it at a time.

use super::{
    Shard,
    reading::{Gate, Reading},
    space,
};
use crate::{
    core_engine::CoreEngine,
    error::{Error, Region},
    events::FoundBy,
    index::{
        Index,
        key::{decode, encode},
    },
    inspect::{Finding, Problem, Severity, ShardImage, check_structures, name_in},
    layout::{BucketId, Content, Entry, ScrubPosition, ScrubRecord, UploadId},
    reactor::{Core, Grant, Moment, yield_once},
    verify::{Bad, Job, Leave, Pace, Place, verify},
};
use crossdock_transport::memory::BufferLease;
use std::{
    cell::{Cell, RefCell},
    future::Future,
    ops::Bound,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

/// Bytes read at a time.
const RUN_BYTES: usize = 256 * 1024;
/// Records looked at before other tasks run.
const WALK_STEP: usize = 256;
/// How long the scrub lets others go before it, for one read.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long until it looks again whether they are done.
const STEP: Duration = Duration::from_millis(2);
/// The longest that it sleeps without looking whether the shard is being closed.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// How often the metadata is read before it is left for the next tour, because checkpoints came in between.
const METADATA_ATTEMPTS: usize = 4;

/// How a store scrubs itself in the background: see [`crate::Builder::scrub`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSchedule {
    /// Bytes that all shards together read a second at most.
    pub bytes_per_second: u64,
    /// From the end of a tour to the beginning of the next.
    pub pause: Duration,
}

impl Default for ScrubSchedule {
    /// 32 MiB a second, and a week between tours.
    fn default() -> ScrubSchedule {
        ScrubSchedule { bytes_per_second: 32 << 20, pause: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// How fast a tour may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubRate {
    /// Bytes that a shard reads a second at most; none: no limit.
    pub bytes_per_second: Option<u64>,
    /// Whether it lets everybody else go first.
    pub yields: bool,
}

/// How far a shard's scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubProgress {
    /// The shard.
    pub shard: u16,
    /// Which tour this is, from 1; 0: there was none.
    pub tour: u64,
    /// Whether it is under way.
    pub running: bool,
    /// When it began, milliseconds since 1970 (UTC), by the engine's wall clock.
    pub started_ms: u64,
    /// When the last whole tour ended; 0: there was none.
    pub finished_ms: u64,
    /// Bytes verified in this tour.
    pub bytes: u64,
    /// Bytes that there are to verify now.
    pub bytes_total: u64,
    /// What this tour found.
    pub findings: u64,
    /// What the last whole tour found.
    pub findings_before: u64,
}

/// The scrub of one shard.
#[derive(Default)]
pub(super) struct Scrub {
    running: Cell<bool>,
    /// The shard is about to be closed.
    stopping: Cell<bool>,
    /// The tour under way, further on than what was last logged of it.
    record: RefCell<Option<ScrubRecord>>,
}

impl Scrub {
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.get()
    }

    #[cfg(test)]
    pub(super) fn set_running(&self, running: bool) {
        self.running.set(running);
    }
}

/// Lets the next tour begin, however this one ended.
struct Running(Rc<Shard>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.scrub.running.set(false);
        self.0.progress.notify();
    }
}

impl Shard {
    /// How far the scrub is.
    pub(crate) fn scrub_progress(&self) -> ScrubProgress {
        let state = self.state.borrow();
        let bytes_total = state.catalog.buckets().map(|b| b.usage.bytes.saturating_add(b.usage.upload_bytes));
        let bytes_total = bytes_total.fold(0, u64::saturating_add);
        let live = self.scrub.record.borrow();
        let (shard, running) = (self.id(), self.scrub.running.get());
        match live.as_ref().or(state.catalog.scrub()) {
            None => ScrubProgress { shard, running, bytes_total, ..ScrubProgress::default() },
            Some(record) => ScrubProgress {
                shard,
                tour: record.tour,
                running,
                started_ms: record.started_ms,
                finished_ms: record.finished_ms,
                bytes: record.bytes,
                bytes_total,
                findings: record.findings,
                findings_before: record.findings_before,
            },
        }
    }

    /// Scrubs again and again, until the core stops.
    pub(crate) async fn scrub_for_ever(self: Rc<Self>, schedule: ScrubSchedule) {
        let shards = u64::from(self.identity.geometry.shard_count).max(1);
        let bytes_per_second = Some((schedule.bytes_per_second / shards).max(1));
        loop {
            self.core.sleep(self.until_next_tour(schedule.pause)).await;
            match self.scrub(ScrubRate { bytes_per_second, yields: true }).await {
                Ok(tour) if tour.findings > 0 => {
                    tracing::error!(shard = self.id(), findings = tour.findings, "the scrub found damage");
                }
                Ok(tour) => {
                    tracing::info!(shard = self.id(), bytes = tour.bytes, "the scrub found no damage")
                }
                // The shard is being closed: the core stops soon.
                Err(_) => self.core.sleep(schedule.pause.max(SLEEP_MAX)).await,
            }
        }
    }

    /// A tour that was interrupted goes on at once. A wall clock that was set back makes nobody wait longer than a pause.
    fn until_next_tour(&self, pause: Duration) -> Duration {
        let state = self.state.borrow();
        let live = self.scrub.record.borrow();
        match live.as_ref().or(state.catalog.scrub()) {
            Some(record) if record.position == ScrubPosition::Over => {
                let since = self.core.wall_clock_ms().saturating_sub(record.finished_ms);
                pause.saturating_sub(Duration::from_millis(since))
            }
            _ => Duration::ZERO,
        }
    }

    /// Makes a tour, or goes on with the one that a restart interrupted; if one is under way, waits for its end. What is found is
    /// told to whoever subscribed.
    ///
    /// # Errors
    /// [`Error::Closed`]: the shard is being closed; the tour goes on when it is open again.
    pub(crate) async fn scrub(self: &Rc<Self>, rate: ScrubRate) -> Result<ScrubProgress, Error> {
        if self.scrub.stopping.get() {
            return Err(Error::Closed);
        }
        if self.scrub.running.replace(true) {
            self.progress.wait(|| (!self.scrub.running.get()).then_some(())).await;
            return Ok(self.scrub_progress());
        }
        let running = Running(self.clone());
        let record = self.begin_tour();
        let pace = Rc::new(IdlePace::new(self.clone(), rate));
        let tour =
            Tour { shard: self.clone(), bytes_before: record.bytes, pace, noted: Cell::new(self.core.now()) };
        self.scrub.record.replace(Some(record));
        let result = tour.run().await;
        if result.is_err() {
            tour.note().await;
        }
        let mut progress = self.scrub_progress();
        drop(running);
        progress.running = false;
        result.map(|()| progress)
    }

    /// Ends the tour that is under way, and lets no other begin. How far it is is logged, unless the log has no room: then the tour may
    /// wait for that until the shard is closed.
    pub(super) async fn stop_scrub(&self) {
        self.scrub.stopping.set(true);
        let ended = || !self.scrub.running.get() || self.state.borrow().log_full;
        self.progress.wait(|| ended().then_some(())).await;
    }

    fn begin_tour(&self) -> ScrubRecord {
        let state = self.state.borrow();
        let live = self.scrub.record.borrow();
        match live.as_ref().or(state.catalog.scrub()) {
            Some(record) if record.position != ScrubPosition::Over => record.clone(),
            last => ScrubRecord {
                tour: last.map_or(0, |last| last.tour) + 1,
                started_ms: self.core.wall_clock_ms(),
                finished_ms: last.map_or(0, |last| last.finished_ms),
                bytes: 0,
                findings: 0,
                findings_before: last.map_or(0, |last| last.findings),
                position: ScrubPosition::Start,
            },
        }
    }

    /// Tells whoever subscribed what is wrong.
    pub(super) fn tell(&self, finding: Finding, found_by: FoundBy) {
        if let Some(engine) = CoreEngine::of(&self.core) {
            engine.tell(finding, found_by);
        }
    }
}

/// One tour of a shard.
struct Tour {
    shard: Rc<Shard>,
    /// Bytes that the tour had verified before it was interrupted.
    bytes_before: u64,
    pace: Rc<IdlePace>,
    noted: Cell<Moment>,
}

/// What is read next, held against reuse.
struct Next {
    job: Job,
    pin: space::Pin,
    position: Option<ScrubPosition>,
}

impl Tour {
    async fn run(&self) -> Result<(), Error> {
        if self.position() != ScrubPosition::Versions {
            self.versions().await?;
            self.change(|record| record.position = ScrubPosition::Versions);
        }
        self.parts().await?;
        let mend = self.metadata().await?;
        let now_ms = self.shard.core.wall_clock_ms();
        self.change(|record| (record.position, record.finished_ms) = (ScrubPosition::Over, now_ms));
        self.note().await;
        if mend {
            // Written anew, from the copies that hold.
            if let Err(error) = self.shard.checkpoint().await {
                tracing::warn!(%error, shard = self.shard.id(), "damaged copies of metadata are not mended yet");
            }
        }
        Ok(())
    }

    fn position(&self) -> ScrubPosition {
        self.shard
            .scrub
            .record
            .borrow()
            .as_ref()
            .map_or(ScrubPosition::Start, |record| record.position.clone())
    }

    fn change(&self, change: impl FnOnce(&mut ScrubRecord)) {
        if let Some(record) = self.shard.scrub.record.borrow_mut().as_mut() {
            record.bytes = self.bytes_before + self.pace.bytes.get();
            change(record);
        }
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.pace.is_stopped() { Err(Error::Closed) } else { Ok(()) }
    }

    async fn versions(&self) -> Result<(), Error> {
        let mut after = match self.position() {
            ScrubPosition::Behind { bucket, key, version } => Some(encode(bucket, &key, version)),
            _ => None,
        };
        loop {
            self.go_on()?;
            let (next, last) = self.next_version(after.as_deref());
            let (Some(last), next) = (last, next) else { return Ok(()) };
            match next {
                Some(next) => self.verify(next).await?,
                None => yield_once().await,
            }
            after = Some(last);
            if self.shard.core.now().since(self.noted.get())
                >= Duration::from_micros(self.shard.tuning.scrub_note_us)
            {
                self.note().await;
            }
        }
    }

    /// The next version with bytes to read, and the last place that was looked at.
    fn next_version(&self, after: Option<&[u8]>) -> (Option<Next>, Option<Box<[u8]>>) {
        let mut state = self.shard.state.borrow_mut();
        let state = &mut *state;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (encoded, record) in state.catalog.index.range(from).take(WALK_STEP) {
            last = Some(Box::from(encoded));
            if matches!(record.content, Content::Empty | Content::Inline(_)) {
                continue;
            }
            let (bucket, key, version) = decode(encoded);
            let position = Some(ScrubPosition::Behind { bucket, key: key.into(), version });
            let (place, content) = (Place::Object(encoded.into()), record.content.clone());
            let job = Job { place, content, crc64: record.crc64 };
            let pin = state.space.pin(&job.content);
            return (Some(Next { job, pin, position }), last);
        }
        (None, last)
    }

    async fn verify(&self, next: Next) -> Result<(), Error> {
        let Next { job, pin, position } = next;
        let bad = verify(&self.shard.reading(None), &job, &*self.pace).await;
        self.shard.close_object(pin);
        // What was begun and not finished is not known to be whole, and not known to be damaged.
        self.go_on()?;
        bad.into_iter().for_each(|bad| self.found(&job, bad));
        self.change(|record| {
            if let Some(position) = position {
                record.position = position;
            }
        });
        Ok(())
    }

    fn found(&self, job: &Job, bad: Bad) {
        let shard = &self.shard;
        let object = {
            let state = shard.state.borrow();
            let name = |bucket: BucketId, key: &[u8], version| {
                Some(name_in(&state.catalog, bucket, key, version, bad.part))
            };
            match &job.place {
                Place::Object(place) => {
                    let (bucket, key, version) = decode(place);
                    name(bucket, &key, Some(version))
                }
                Place::Part(upload, _) => {
                    let known = state.catalog.upload(*upload);
                    known.and_then(|known| name(known.record.bucket, &known.record.key, None))
                }
            }
        };
        let (region, offset, problem) = (Some(bad.region), Some(bad.offset), bad.problem);
        let severity = Severity::Damage;
        self.report(Finding { shard: Some(shard.id()), region, offset, object, severity, problem });
    }

    fn report(&self, finding: Finding) {
        self.change(|record| record.findings += 1);
        self.shard.tell(finding, FoundBy::Scrub);
    }

    async fn parts(&self) -> Result<(), Error> {
        let uploads: Vec<UploadId> =
            self.shard.state.borrow().catalog.uploads().map(|upload| upload.record.upload).collect();
        for upload in uploads {
            let numbers: Vec<u16> = {
                let state = self.shard.state.borrow();
                state
                    .catalog
                    .upload(upload)
                    .into_iter()
                    .flat_map(|known| known.parts.keys().copied())
                    .collect()
            };
            for number in numbers {
                self.go_on()?;
                let next = self.next_part(upload, number);
                if let Some(next) = next {
                    self.verify(next).await?;
                }
            }
        }
        Ok(())
    }

    fn next_part(&self, upload: UploadId, number: u16) -> Option<Next> {
        let mut state = self.shard.state.borrow_mut();
        let part = state.catalog.upload(upload)?.parts.get(&number)?;
        let (content, crc64) = (part.content.clone(), part.crc64);
        let job = Job { place: Place::Part(upload, number), content, crc64 };
        let pin = state.space.pin(&job.content);
        Some(Next { job, pin, position: None })
    }

    /// Waits until no other shard of this core has its metadata read.
    async fn turn(&self) -> Result<Option<Grant>, Error> {
        loop {
            self.go_on()?;
            // None: without an engine there is one shard at a time.
            let Some(engine) = CoreEngine::of(&self.shard.core) else { return Ok(None) };
            if let Some(turn) = engine.metadata_scrub() {
                return Ok(Some(turn));
            }
            self.shard.core.sleep(STEP).await;
        }
    }

    /// Reads every copy of anchor, checkpoint and log. Says whether one does not hold that another one stands in for.
    async fn metadata(&self) -> Result<bool, Error> {
        let shard = &self.shard;
        let _turn = self.turn().await?;
        let reading = shard.reading(Some(self.pace.clone()));
        for _ in 0..METADATA_ATTEMPTS {
            shard.progress.wait(|| (!shard.state.borrow().checkpointing).then_some(())).await;
            self.go_on()?;
            let (generation, settled_upto) = {
                let state = shard.state.borrow();
                // A shard whose log has a hole writes nothing more.
                let settled_upto = state.hole.map_or(state.durable_upto, |_| u64::MAX);
                (state.anchor.generation, settled_upto)
            };
            let found = look_at_metadata(&reading, settled_upto).await;
            self.go_on()?;
            let is_current = {
                let state = shard.state.borrow();
                state.anchor.generation == generation && !state.checkpointing
            };
            // A checkpoint since then has given what was read back to others.
            if is_current {
                // What a checkpoint makes good: all that the log said is in memory, also what can not be read of it any more.
                let has_hole = shard.state.borrow().hole.is_some();
                let can_be_mended = |finding: &Finding| {
                    let is_hole = matches!(finding.problem, Problem::Hole { .. });
                    finding.severity < Severity::Damage || is_hole && !has_hole
                };
                let mend = found.iter().any(can_be_mended);
                found.into_iter().for_each(|finding| self.report(finding));
                return Ok(mend);
            }
        }
        Ok(false)
    }

    /// Logs how far the tour is. Where it can not, more is read again after a restart, and that is all.
    async fn note(&self) {
        self.noted.set(self.shard.core.now());
        self.change(|_| {});
        let Some(record) = self.shard.scrub.record.borrow().clone() else { return };
        let shard = &self.shard;
        let wants_room = shard.room_can_be_made(&shard.state.borrow());
        // A full store is not filled with notes: the last zones of its log are for deletes.
        if wants_room && !shard.make_room().await {
            return;
        }
        let may = {
            let state = self.shard.state.borrow();
            self.shard.check_writable(&state).is_ok() && self.shard.check_room(&state).is_ok()
        };
        if may && let Err(error) = self.shard.log_entry(Entry::Scrub(record)).await {
            tracing::debug!(%error, shard = self.shard.id(), "how far the scrub is was not logged");
        }
    }
}

/// Every copy of anchor, checkpoint and log that does not hold, but for batches behind `settled_upto`.
async fn look_at_metadata(reading: &Reading, settled_upto: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let looked = async {
        let image = ShardImage::read_structures(reading).await?;
        if let Some(finding) = missing_end(reading, &image, settled_upto) {
            findings.push(finding);
        }
        check_structures(reading, &image, &mut |finding| findings.push(finding)).await
    };
    if let Err(error) = looked.await {
        findings.push(crate::inspect::unreadable(reading.identity.shard, &error));
    }
    findings.retain(|finding| finding.severity > Severity::Note && was_there(&finding.problem, settled_upto));
    findings
}

/// The log seems to end before what is known to be durable: to recovery that would be a torn tail, with nothing to tell it better.
fn missing_end(reading: &Reading, image: &ShardImage, settled_upto: u64) -> Option<Finding> {
    let sequence = image.next_sequence();
    // A shard that has a hole knows of it, and of nothing behind it.
    let is_missing = image.hole().is_none() && settled_upto != u64::MAX && sequence <= settled_upto;
    let (region, offset) = reading.files.locate(Region::Log, reading.log_offset(image.log_end()));
    let (shard, problem) = (Some(reading.identity.shard), Problem::Hole { sequence });
    let (region, offset) = (Some(region), Some(offset));
    is_missing.then_some(Finding { shard, region, offset, object: None, severity: Severity::Damage, problem })
}

/// Whether what a problem is of was all there before anything was read.
///
/// A batch behind `settled_upto`, the last one known to be durable before, is being written while the log is read. It may lie in
/// a stretch that was read before it came, and a later header, in the next zone, be read after it came and say that it is
/// durable: to one who takes the log to stand still, that is a hole.
fn was_there(problem: &Problem, settled_upto: u64) -> bool {
    match *problem {
        Problem::BatchCopy { sequence, .. } | Problem::Hole { sequence } => sequence <= settled_upto,
        _ => true,
    }
}

/// Goes on when nobody else wants to.
struct IdlePace {
    shard: Rc<Shard>,
    rate: ScrubRate,
    /// When the next bytes are due.
    due: Cell<Moment>,
    bytes: Cell<u64>,
}

impl IdlePace {
    fn new(shard: Rc<Shard>, rate: ScrubRate) -> IdlePace {
        let due = Cell::new(shard.core.now());
        IdlePace { shard, rate, due, bytes: Cell::new(0) }
    }

    /// Whether somebody waits for this core or for this shard.
    fn others_work(&self) -> bool {
        let shard_works = {
            let state = self.shard.state.borrow();
            // One pin is the scrub's own.
            !state.queue.is_empty() || !state.in_flight.is_empty() || state.space.pin_count() > 1
        };
        shard_works || CoreEngine::of(&self.shard.core).is_some_and(|engine| engine.is_at_work())
    }

    async fn wait(&self, core: &Core, bytes: usize) {
        if let Some(rate) = self.rate.bytes_per_second {
            let due = self.due.get().max(core.now());
            while core.now() < due && !self.is_stopped() {
                core.sleep(due.since(core.now()).min(SLEEP_MAX)).await;
            }
            self.due.set(due.after(Duration::from_secs_f64(bytes as f64 / rate as f64)));
        }
        if self.rate.yields {
            let last = core.now().after(PATIENCE);
            while self.others_work() && core.now() < last && !self.is_stopped() {
                core.sleep(STEP).await;
            }
        }
    }
}

impl IdlePace {
    /// Never in the queue for memory, where somebody might wait behind it.
    async fn free_lease(&self, core: &Core, bytes: usize) -> Option<BufferLease> {
        while !self.is_stopped() {
            if let Some(lease) = core.pool().try_acquire(bytes) {
                return Some(lease);
            }
            core.sleep(STEP).await;
        }
        None
    }
}

impl Gate for IdlePace {
    fn pass(&self, bytes: usize) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.wait(&self.shard.core, bytes))
    }

    fn memory(&self, bytes: usize) -> Leave<'_> {
        Box::pin(self.free_lease(&self.shard.core, bytes))
    }
}

impl Pace for IdlePace {
    fn run_bytes(&self) -> usize {
        RUN_BYTES
    }

    fn leave<'a>(&'a self, core: &'a Core, bytes: usize) -> Leave<'a> {
        Box::pin(async move {
            self.wait(core, bytes).await;
            self.free_lease(core, bytes).await
        })
    }

    fn was_read(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn is_stopped(&self) -> bool {
        self.shard.closing.get() || self.shard.scrub.is_stopping()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::DecodeError;

    /// A batch that may have come while the log was read is not judged, neither its copies nor whether the log breaks off at it.
    #[test]
    fn batches_under_way_are_not_judged() {
        for sequence in [8, 9, 10] {
            let copy = Problem::BatchCopy { sequence, back: false, error: DecodeError::Checksum };
            for problem in [copy, Problem::Hole { sequence }] {
                assert_eq!(was_there(&problem, 9), sequence <= 9, "{problem}");
                assert!(was_there(&problem, u64::MAX), "{problem}");
            }
        }
        let anchor = Problem::Copy { structure: "anchor", copy: 0, error: None };
        assert!(was_there(&anchor, 0));
    }
}
