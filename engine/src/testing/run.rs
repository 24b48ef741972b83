//! Runs a history against the engine and compares what is there with what the clients know.
//!
//! Compared are, while clients work: every answer. At rest, before a close and after every recovery: the bytes, tag and
//! attributes of each version of each key (R1, R2, R3), uploads and their parts, buckets and their usage, listings; that space is used just where
//! it is reachable (R4), that every lease is back, and that damage is reported as damage, of no more than what was damaged
//! (R5). All the time: that something goes on.

pub use super::report::RunReport;
use super::{
    client::{Call, Shared, list_all, list_all_versions, read},
    damage::Flip,
    harm::Tolerance,
    history::{End, History, Hurt, Step, Trouble, Work},
    knowledge::{Knowledge, Known},
    model::Model,
    operation::{CLIENTS, Key, Operation, SHARED_BUCKET, list_delimiter, own_bucket},
    readers::Held,
    versions::Seen,
    world::{OpenFailure, World, WorldOptions},
};
use crate::{
    core_engine::CoreEngine,
    device::simulated::{Fault, Times},
    error::{Corruption, Error, OpenError},
    inspect::Severity,
    layout::{Version, Versioning},
    object::types::{GetOptions, ListOptions, ListStart, Select, Which},
};
use bytes::Bytes;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
};

/// One in so many ends of lives the disks are checked as they lie.
const CHECK_DISKS_EVERY: u8 = 4;
/// One in so many times at rest an undamaged store is scrubbed.
const SCRUB_EVERY: u8 = 8;
/// One in so many times at rest old uploads are given up.
const EXPIRE_EVERY: u8 = 4;

/// Steps in which a moment to cut the power at comes, or it is cut all the same.
const MOMENT_STEPS_MAX: u32 = 20_000;

pub(super) type Checked = Result<(), String>;

/// Draws the history of a seed and runs it.
///
/// # Errors
/// What did not hold, in words; the seed gives it again.
pub fn run(seed: u64, operations: u64) -> Result<RunReport, String> {
    run_history(&History::draw(seed, operations))
}

/// Runs a history.
///
/// # Errors
/// What did not hold, in words; the history gives it again.
pub fn run_history(history: &History) -> Result<RunReport, String> {
    let mut run = Run::start(history.seed, history.options)?;
    for life in history.steps.split_inclusive(|step| matches!(step, Step::End(_))) {
        run.life(life)?;
        if run.refused {
            return Ok(run.report());
        }
    }
    run.end(&End::Close { after: None }, &Rc::default())?;
    let serves_all = history.options.raw || !history.options.apart;
    let takes_all = serves_all && history.options.index_bytes_max == u64::MAX;
    if takes_all && run.little_room && !run.damaged && !run.refused && !run.is_spoilt() {
        run.verify_room()?;
    }
    Ok(run.report())
}

/// As [`run_history`]; a panic is a failure like any other.
///
/// # Errors
/// What did not hold, or the panic's words.
pub fn run_caught(history: &History) -> Result<RunReport, String> {
    // Nothing of the world outlives the run, whatever state the panic left it in.
    let run = std::panic::AssertUnwindSafe(|| run_history(history));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// A world and what the clients know of it.
pub(super) struct Run {
    pub(super) world: World,
    pub(super) clients: Vec<Shared>,
    /// Bits that are flipped.
    pub(super) flips: Vec<Flip>,
    /// More is damaged than single bits.
    pub(super) damaged: bool,
    /// The store does not open for what is damaged.
    pub(super) refused: bool,
    /// Blocks went bad where the log does not say what was acknowledged.
    pub(super) may_have_hole: bool,
    /// An anchor rotted of which not all copies were the same.
    pub(super) may_lack_anchor: bool,
    /// Anchors that rotted.
    pub(super) rotten_anchors: u64,
    /// Keys and versions found corrupt.
    pub(super) corrupt: BTreeSet<(usize, Key, Option<Version>)>,
    /// Places that do not hold: several keys may share one.
    rotten: BTreeSet<(u16, u64)>,
    /// The store may run out of room without a fault.
    pub(super) little_room: bool,
    /// What was put to see whether a shard goes on may still be there.
    pub(super) probed: bool,
    /// The store is closed while clients are at work.
    closing: bool,
}

impl Run {
    /// A fresh store, open, with the bucket that all share.
    pub(super) fn start(seed: u64, options: WorldOptions) -> Result<Run, String> {
        let mut run = Run {
            world: World::new(seed, options),
            clients: (0..CLIENTS).map(|client| Rc::new(RefCell::new(Knowledge::new(client)))).collect(),
            flips: Vec::new(),
            damaged: false,
            refused: false,
            may_have_hole: false,
            may_lack_anchor: false,
            rotten_anchors: 0,
            corrupt: BTreeSet::new(),
            rotten: BTreeSet::new(),
            little_room: options.has_little_room(),
            probed: false,
            closing: false,
        };
        run.world.open().map_err(|error| format!("opening a fresh store: {error}"))?;
        let engine = run.world.engine(0);
        let made = run.world.try_run(async move { engine.create_bucket(SHARED_BUCKET, Bytes::new()).await });
        made.map_err(|stuck| stuck.to_string())?.map_err(|error| format!("making the bucket: {error}"))?;
        Ok(run)
    }

    fn report(&self) -> RunReport {
        let counts = self.world.disk.counts();
        let sum = |of: fn(&Knowledge) -> u64| self.clients.iter().map(|client| of(&client.borrow())).sum();
        RunReport {
            operations: sum(|known| known.operations),
            failed: sum(|known| known.failed),
            crashes: self.world.crashes,
            steps: self.world.steps,
            elapsed_ns: self.world.elapsed().as_nanos() as u64,
            disk: counts,
            corrupt_keys: self.corrupt.len() as u64,
            rotten_anchors: self.rotten_anchors,
            index_full: sum(|known| known.index_full),
            transfers: sum(|known| known.transfers),
            transfers_failed: sum(|known| known.transfers_failed),
            care: self.world.care,
            cached: self.world.cached,
        }
    }

    fn life(&mut self, steps: &[Step]) -> Checked {
        let mut queues: Vec<Vec<(usize, u64, Operation)>> = vec![Vec::new(); CLIENTS];
        let mut end = &End::Close { after: None };
        let mut later = Vec::new();
        for step in steps {
            match step {
                Step::Do { client, core, nonce, operation } => {
                    queues[*client].push((*core, *nonce, operation.clone()));
                }
                Step::Trouble(trouble @ Trouble::Hurts { after, .. }) => later.push((*after, trouble)),
                Step::Trouble(trouble) => self.begin_trouble(trouble),
                Step::End(this) => end = this,
            }
        }
        self.closing = matches!(end, End::Close { after: Some(_) });
        let busy = Rc::new(Cell::new(0));
        for (client, queue) in queues.into_iter().enumerate().filter(|(_, queue)| !queue.is_empty()) {
            busy.set(busy.get() + 1);
            self.start_client(client, queue, busy.clone());
        }
        for (after, trouble) in later {
            self.steps(after)?;
            self.begin_trouble(trouble);
        }
        self.end(end, &busy)
    }

    /// What is excused from here on.
    pub(super) fn tolerance(&self) -> Tolerance {
        let options = self.world.options();
        Tolerance {
            harm: self.world.harm().clone(),
            full: self.little_room,
            index: options.index_bytes_max < u64::MAX,
            closed: self.closing,
            card: options.card.loses(),
        }
    }

    /// Whether some of what is stored may not be as it was written, or was not read as it is.
    fn is_spoilt(&self) -> bool {
        self.damaged || self.world.harm().any_is_damaged()
    }

    fn may_have_stopped(&self) -> bool {
        self.world.harm().any_may_have_stopped()
    }

    fn begin_trouble(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Errors(plan) => self.world.disk.set_plan(*plan),
            Trouble::Hurts { shard, log, hurt, .. } => {
                let file = self.world.file(u16::from(*shard) % self.world.options().shards, *log);
                let (faults, times) = match hurt {
                    Hurt::Vanishes => {
                        (&[Fault::ReadError, Fault::WriteError, Fault::SyncError][..], Times::Sticky)
                    }
                    Hurt::WriteFails => (&[Fault::WriteError][..], Times::Once),
                    Hurt::SyncFails => (&[Fault::SyncError][..], Times::Once),
                };
                faults.iter().for_each(|fault| self.world.disk.inject(file, *fault, times));
            }
            Trouble::MisdirectedLog { shard, anchor } => {
                self.damaged = true;
                let file = self.world.file(u16::from(*shard) % self.world.options().shards, true);
                let anchors = self.world.anchors();
                let range = if *anchor { anchors } else { anchors.end..u64::MAX };
                self.world.disk.misdirect(file, range);
            }
            Trouble::MisdirectedWrites(count) => {
                self.damaged = true;
                for shard in 0..*count {
                    // Of a device not even the anchors would be safe; a data file holds nothing of the log in such a world.
                    if let Some(file) = self.world.disk.find(&format!("data-{shard}")) {
                        self.world.disk.inject(file, Fault::MisdirectedWrite, Times::Once);
                    }
                }
            }
        }
    }

    pub(super) fn start_client(
        &self,
        client: usize,
        queue: Vec<(usize, u64, Operation)>,
        busy: Rc<Cell<usize>>,
    ) {
        let known = self.clients[client].clone();
        let tolerance = self.tolerance();
        let engines: Vec<CoreEngine> =
            (0..self.world.core_count()).map(|core| self.world.engine(core)).collect();
        let home = engines[client % engines.len()].core().clone();
        let (card, held) = (self.world.card(), Held::default());
        let work = async move {
            for (core, nonce, operation) in queue {
                let one = engines[core % engines.len()].clone();
                let other = engines[(core + 1) % engines.len()].clone();
                let engines = [one, other];
                let (held, card, tolerance) = (held.clone(), card.clone(), tolerance.clone());
                let call = Call { known: known.clone(), engines, tolerance, nonce, held, card };
                // On the core it is meant for: an engine belongs to its core's thread.
                let core = call.engines[0].core().clone();
                let outcome = core.spawn_own(async move { call.perform(&operation).await }).await;
                let mut known = known.borrow_mut();
                known.operations += 1;
                if let Err(wrong) = outcome {
                    known.wrong.get_or_insert(wrong);
                    break;
                }
            }
            drop(held.take());
            busy.set(busy.get() - 1);
        };
        home.spawn_own(work).detach();
    }

    pub(super) fn wrong(&self) -> Checked {
        match self.clients.iter().find_map(|client| client.borrow_mut().wrong.take()) {
            Some(wrong) => Err(wrong),
            None => Ok(()),
        }
    }

    /// Steps until the clients are done.
    pub(super) fn drain(&mut self, busy: &Rc<Cell<usize>>) -> Checked {
        let done = self.world.run_until(|| busy.get() == 0);
        self.wrong()?;
        done.map_err(|stuck| format!("clients at work: {stuck}"))
    }

    fn steps(&mut self, count: u32) -> Checked {
        for _ in 0..count {
            if !self.world.step() {
                break;
            }
        }
        self.wrong()
    }

    /// Ends a life, and begins the next with a store that is open, undisturbed and as it should be.
    fn end(&mut self, end: &End, busy: &Rc<Cell<usize>>) -> Checked {
        (self.may_have_hole, self.may_lack_anchor) = (false, false);
        if self.world.disk.misdirects() {
            // A batch that goes elsewhere leaves no trace at the log's end: it is missed as soon as one after it is there.
            self.rest_and_seal(busy)?;
        }
        match end {
            End::Power { drained, after, recoveries, troubled_recovery } => {
                if *drained {
                    self.drain(busy)?;
                }
                self.steps(*after)?;
                self.world.crash();
                self.check_disks(Severity::Torn)?;
                if *troubled_recovery {
                    self.open_in_trouble()?;
                }
                self.world.disk.heal();
                for steps in recoveries {
                    self.world.open_and_crash_after(*steps);
                }
            }
            End::PowerDuring { work, after } => {
                self.come_to(*work, busy);
                self.steps(*after)?;
                self.world.crash();
                self.check_disks(Severity::Torn)?;
                self.world.disk.heal();
            }
            End::Kill { after } => {
                self.steps(*after)?;
                self.world.kill();
                self.world.disk.heal();
            }
            End::Close { after } => {
                match after {
                    Some(steps) => self.steps(*steps)?,
                    None => self.rest_and_verify(busy)?,
                }
                self.world.close().map_err(|stuck| format!("closing: {stuck}"))?;
                self.wrong()?;
                self.check_disks(Severity::Note)?;
                self.world.disk.heal();
            }
            End::RotAndPower { seed } => {
                self.rest_and_seal(busy)?;
                let read_by_recovery = self.world.replayed_log();
                self.world.crash();
                self.world.disk.heal();
                let mut rng = fastrand::Rng::with_seed(*seed);
                // A shard that stopped wrote no seal: rot in its last batch cannot be told from a torn tail.
                if let Some((file, range)) = rng.choice(read_by_recovery)
                    && !self.may_have_stopped()
                {
                    let flipped = self.world.disk.flip_some_bit_in(file, range, &mut rng);
                    self.note_flip(flipped);
                }
            }
            End::RotOfAnchor { during, seed } => {
                match during {
                    true => self.come_to(Work::Anchor, busy),
                    false => self.rest_and_seal(busy)?,
                }
                self.world.crash();
                self.world.disk.heal();
                self.rot_anchor(*during, *seed);
            }
            End::BadBlocks { after, seed } => {
                match after {
                    Some(steps) => self.steps(*steps)?,
                    None => self.rest_and_seal(busy)?,
                }
                let read_by_recovery = self.world.replayed_log();
                self.world.crash();
                self.world.disk.heal();
                self.spoil(read_by_recovery, after.is_some() || self.may_have_stopped(), *seed);
            }
            End::Rot { seed } => {
                self.rest_and_verify(busy)?;
                self.world.close().map_err(|stuck| format!("closing: {stuck}"))?;
                self.world.disk.heal();
                let mut rng = fastrand::Rng::with_seed(*seed);
                // A shard that stopped wrote no seal: rot in its last batch cannot be told from a torn tail.
                if !self.may_have_stopped() {
                    let flipped = self.world.disk.flip_some_bit(&mut rng);
                    self.note_flip(flipped);
                }
            }
        }
        self.closing = false;
        self.open()?;
        if self.refused {
            return Ok(());
        }
        self.sweep()?;
        self.verify().map_err(|wrong| format!("after {end:?}: {wrong}"))
    }

    /// Steps until a shard is at this work, or the clients are done.
    fn come_to(&mut self, work: Work, busy: &Rc<Cell<usize>>) {
        for _ in 0..MOMENT_STEPS_MAX {
            if busy.get() == 0 || self.world.is_at(work) || !self.world.step() {
                break;
            }
        }
    }

    /// Whether the disks as they lie hold a sound store: not after each life, for it reads every byte, and not where
    /// something was damaged.
    fn check_disks(&mut self, worst: Severity) -> Checked {
        let excused = self.may_have_stopped() || self.is_spoilt();
        if excused || self.world.rng().u8(0..CHECK_DISKS_EVERY) > 0 {
            return Ok(());
        }
        self.world.disk.heal();
        self.world.check_disks(worst)
    }

    /// A recovery during which the disk still fails may fail; the power then goes once more.
    fn open_in_trouble(&mut self) -> Checked {
        match self.world.open() {
            Ok(()) => {}
            Err(OpenFailure::Refused(OpenError::Device(error))) if self.world.harm().explains(&error) => {}
            // A short read of an anchor or a checkpoint is damage as far as anyone can tell.
            Err(OpenFailure::Refused(OpenError::Recovery { .. })) if self.is_spoilt() => {}
            Err(failure) => return Err(format!("opening on a failing disk: {failure}")),
        }
        self.world.crash();
        Ok(())
    }

    fn rest_and_verify(&mut self, busy: &Rc<Cell<usize>>) -> Checked {
        self.drain(busy)?;
        if self.may_have_stopped() {
            // What the shards that have stopped still show is checked by the clients, and all of it once they are open again. The others
            // go on.
            let checked = self.verify_others();
            self.world.disk.heal();
            return checked.map_err(|wrong| format!("beside shards that have stopped: {wrong}"));
        }
        self.world.disk.heal();
        self.verify().map_err(|wrong| format!("at rest: {wrong}"))
    }

    /// The same; and every log says then that all that was acknowledged is durable, but for those that stopped.
    fn rest_and_seal(&mut self, busy: &Rc<Cell<usize>>) -> Checked {
        self.rest_and_verify(busy)?;
        if !self.may_have_stopped() {
            self.world.seal().map_err(|stuck| format!("sealing: {stuck}"))?;
        }
        Ok(())
    }

    // ── what is there ──

    pub(super) fn ask<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        question: impl FnOnce(CoreEngine) -> F,
    ) -> Result<T, String> {
        let core = self.world.rng().usize(..8);
        let engine = self.world.engine(core);
        self.world.try_run(question(engine)).map_err(|stuck| stuck.to_string())
    }

    pub(super) fn verify(&mut self) -> Checked {
        self.world.come_to_rest().map_err(|stuck| stuck.to_string())?;
        self.corrupt.clear();
        self.rotten.clear();
        for client in 0..CLIENTS {
            self.verify_client(client)?;
        }
        let places = self.flips.len() + self.world.disk.bad_blocks();
        if !self.damaged && self.rotten.len() > places {
            return Err(format!("{places} flipped bits and bad blocks made {:?} corrupt", self.corrupt));
        }
        self.verify_listings()?;
        self.verify_care()?;
        self.world.come_to_rest().map_err(|stuck| stuck.to_string())?;
        self.world.check_at_rest()
    }

    /// The scrub at rest; where nothing is damaged not after each life, for it reads every byte.
    fn verify_care(&mut self) -> Checked {
        let places = self.flips.len() + self.world.disk.bad_blocks();
        let is_damaged = self.damaged || places > 0;
        if is_damaged || self.world.rng().u8(0..SCRUB_EVERY) == 0 {
            let corrupt = self.corrupt.clone();
            let damage_max = (!self.damaged).then_some(places);
            self.verify_scrub(&corrupt, damage_max)?;
        }
        if !self.damaged && !self.corrupt.is_empty() && self.world.rng().bool() {
            self.verify_repair()?;
        }
        if !is_damaged && self.world.rng().u8(0..EXPIRE_EVERY) == 0 {
            self.verify_expiry()?;
        }
        Ok(())
    }

    fn verify_client(&mut self, client: usize) -> Checked {
        let known = self.clients[client].clone();
        let name = own_bucket(client);
        let bucket = self.ask(move |engine| async move { engine.bucket(&name).await })?;
        {
            let mut known = known.borrow_mut();
            let is = match bucket {
                Ok(info) if !known.versioning.contains(&info.versioning) => {
                    let may_be = &known.versioning;
                    return Err(format!("client {client}: its bucket is {info:?}, where {may_be:?}"));
                }
                Ok(info) => {
                    known.versioning = vec![info.versioning];
                    let document = info.documents.get("document").map(|bytes| bytes.to_vec());
                    if !known.document.contains(&document) {
                        let may_be = &known.document;
                        return Err(format!(
                            "client {client}: its document is {document:?}, where {may_be:?}"
                        ));
                    }
                    known.document = vec![document];
                    true
                }
                Err(Error::NoSuchBucket) => {
                    known.versioning = vec![Versioning::Never];
                    known.document = vec![None];
                    false
                }
                Err(error) => return Err(format!("client {client}, its bucket: {error}")),
            };
            if !known.bucket.contains(&is) {
                return Err(format!("client {client}: its bucket is {is}, where {:?}", known.bucket));
            }
            known.bucket = vec![is];
            known.come_to_rest();
        }
        let keys: Vec<Key> = known.borrow().keys().map(|(key, _)| key).collect();
        for key in keys {
            let call = self.call(client);
            let (corrupt, checked) = self.ask(move |_| async move { verify_key(&call, key).await })?;
            checked.map_err(|wrong| format!("client {client}, {key:?}: {wrong}"))?;
            self.rotten.extend(corrupt.iter().map(|(_, at)| (at.shard, at.offset)));
            self.corrupt.extend(corrupt.into_iter().map(|(version, _)| (client, key, version)));
        }
        known.borrow_mut().resolve_completions();
        for slot in 0..super::operation::UPLOADS as u8 {
            let call = self.call(client);
            self.ask(move |_| async move { call.list_parts_at_rest(slot).await })?
                .map_err(|wrong| format!("client {client}, upload {slot}: {wrong}"))?;
        }
        for own in [false, true] {
            let call = self.call(client);
            self.ask(move |_| async move { call.list_uploads(own).await })?
                .map_err(|wrong| format!("client {client}, uploads: {wrong}"))?;
        }
        Ok(())
    }

    /// A client that asks about what is at rest.
    pub(super) fn call(&mut self, client: usize) -> Call {
        let (one, other) = (self.world.rng().usize(..8), self.world.rng().usize(..8));
        let engines = [self.world.engine(one), self.world.engine(other)];
        let (tolerance, held, card) = (self.tolerance(), Held::default(), self.world.card());
        Call { known: self.clients[client].clone(), engines, tolerance, nonce: 0, held, card }
    }

    fn verify_listings(&mut self) -> Checked {
        let mut model = Model::default();
        model.create_bucket(SHARED_BUCKET);
        for client in &self.clients {
            // With a damaged object or two nobody knows which of several it was.
            let Some(part) = model_of_client(&client.borrow()) else { return Ok(()) };
            model.join(part);
        }
        let found = self.ask(|engine| async move { engine.buckets().await })?;
        let found = found.map_err(|error| format!("buckets: {error}"))?;
        let names: Vec<String> = found.iter().map(|bucket| bucket.name.to_string()).collect();
        if names != model.buckets() {
            return Err(format!("buckets {names:?}, where {:?} are", model.buckets()));
        }
        for bucket in names {
            self.verify_listing(&model, &bucket)?;
        }
        Ok(())
    }

    fn verify_listing(&mut self, model: &Model, bucket: &str) -> Checked {
        let name = bucket.to_owned();
        let usage = self.ask(|engine| async move { engine.bucket_usage(&name).await })?;
        let usage = usage.map_err(|error| format!("usage of {bucket}: {error}"))?;
        let usage = [usage.objects, usage.versions, usage.delete_markers, usage.bytes];
        if usage != model.usage(bucket) {
            return Err(format!("usage of {bucket}: {usage:?}, where it is {:?}", model.usage(bucket)));
        }
        let rng = self.world.rng();
        let prefix: Vec<u8> = rng.choice([&b""[..], b"c1/", b"c2/dir/", b"none"]).unwrap_or(b"").into();
        let delimiter = list_delimiter(rng.u8(..));
        let limit = rng.usize(1..8);
        let expected = model.list(bucket, &prefix, delimiter, b"");
        let expected_versions = model.list_versions(bucket, &prefix, delimiter, b"");
        let options = ListOptions { prefix, delimiter: delimiter.into(), start: ListStart::First, limit };
        let (name, same) = (bucket.to_owned(), options.clone());
        let versions = self.ask(|engine| async move { list_all_versions(&engine, &name, same).await })?;
        let versions = versions.map_err(|error| format!("listing versions of {bucket}: {error}"))?;
        if versions != expected_versions {
            return Err(format!(
                "listing versions of {bucket}: expected {expected_versions:?}, found {versions:?}"
            ));
        }
        let name = bucket.to_owned();
        let found = self.ask(|engine| async move { list_all(&engine, &name, options).await })?;
        let found = found.map_err(|error| format!("listing {bucket}: {error}"))?;
        if found != expected {
            return Err(format!("listing {bucket}: expected {expected:?}, found {found:?}"));
        }
        Ok(())
    }
}

/// Reads all there is of a key at rest. Says which of it is corrupt: versions, or what a reader of the key gets.
async fn verify_key(call: &Call, key: Key) -> (Vec<(Option<Version>, Corruption)>, Checked) {
    let (bucket, name) = (key.bucket(call.client()), key.bytes(call.client()));
    let options = GetOptions { select: Select::Whole, version: Which::Current };
    let found = read(call.engine(), &bucket, &name, options, usize::MAX).await;
    let mut corrupt = Vec::new();
    if let Err(Error::Corrupt(at)) = found {
        corrupt.push((None, at));
    }
    let checked = async {
        call.check_read(key, Select::Whole, found)?;
        let Some(numbers) = call.look_at_versions(key).await? else { return Ok(()) };
        let versions = call.with_key(key, |known| known.certain().cloned());
        // The newest was read.
        for (kept, number) in versions.into_iter().flatten().zip(numbers).skip(1) {
            let version = Which::Version(number);
            let found = call.check_version(key, version, &kept, Select::Whole).await;
            if let Seen::Corrupt(at) = found? {
                corrupt.push((Some(number), at));
            }
        }
        Ok(())
    };
    let checked = checked.await;
    (corrupt, checked)
}

/// What the client's keys are, if that is certain.
pub(super) fn model_of_client(known: &Knowledge) -> Option<Model> {
    let mut model = Model::default();
    model.create_bucket(SHARED_BUCKET);
    let [has_bucket] = known.bucket[..] else { return None };
    if has_bucket {
        model.create_bucket(&own_bucket(known.client));
    }
    for (key, value) in known.keys() {
        let value = Known::certain(value)?;
        model.set(&key.bucket(known.client), &key.bytes(known.client), value.clone());
    }
    Some(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::simulated::Lie;
    use proptest::prelude::*;

    /// Seeds of operations, faults and power cuts: nothing acknowledged is lost, nothing is mixed, nothing leaks.
    #[test]
    fn seeds_hold() {
        for seed in 0..100 {
            if let Err(error) = run(seed, 200) {
                panic!("seed {seed}: {error}");
            }
        }
    }

    /// A scrub that reads the log while it is written finds no damage in what is on its way.
    #[test]
    fn a_log_that_is_written_meanwhile_is_not_damaged() {
        assert_eq!(run(1220, 300).err(), None);
    }

    /// Of two readers at once the one that is heard first may have looked last: what came in between is no fault.
    #[test]
    fn readers_at_once_look_in_any_order() {
        assert_eq!(run(2694, 300).err(), None);
    }

    /// The checkers see each promise that a disk breaks, within a few seeds: a disk like that is to them what an engine is
    /// that does not wait for a sync, loses a write, does not check what it reads, or forgets a task.
    #[test]
    fn a_disk_that_lies_is_found_out() {
        let lies = [
            (Lie::IgnoresSync, 60),
            (Lie::IgnoresDurable, 20),
            (Lie::DropsWrites(300), 30),
            (Lie::FlipsReads(50), 60),
            (Lie::LosesCompletions(1000), 20),
        ];
        for (lie, seeds) in lies {
            let fails = |seed| run_caught(&History::draw(seed, 150).on_a_disk_that(lie)).err();
            let found = (0..seeds).find_map(|seed| fails(seed).map(|error| (seed, error)));
            let Some((seed, error)) = found else { panic!("{lie:?} was not seen in {seeds} seeds") };
            println!("{lie:?} was seen at seed {seed}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        /// Any list of operations and faults, as the fuzz target and proptest's own shrinking make them: the same checks.
        #[test]
        fn any_list_of_operations_holds(words in proptest::collection::vec(any::<u32>(), 1..120)) {
            let history = History::of_words(&words);
            prop_assert_eq!(run_caught(&history).err(), None, "{}", history);
        }
    }

    /// A seed gives the same run twice.
    #[test]
    fn a_seed_replays() {
        for seed in 7..12 {
            assert_eq!(run(seed, 100), run(seed, 100));
        }
    }
}
