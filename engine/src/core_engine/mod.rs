//! The engine as one core sees it: for front ends that run on the cores' own threads.

mod admission;
mod buckets;
mod care;
mod reach;
pub(crate) mod repair;
#[cfg(test)]
mod tests;
mod uploads;

pub(crate) use admission::CoreLimits;
pub use reach::Caller;

use crate::{
    cache::ReadCache,
    error::{Error, Resource},
    events::{CorruptionEvent, CorruptionEvents, EventHub, FoundBy},
    inspect::Finding,
    layout::{Geometry, Version},
    metrics::CoreMetrics,
    object::{
        copy,
        footprint::read_bytes_max,
        get::{Get, PinGuard},
        list,
        piece::Name,
        put::{Put, Target, check_body},
        types::{
            AttributesChange, BucketRevision, CommitOptions, Delete, Deleted, GetOptions, ListOptions,
            Listing, ObjectInfo, PartInfo, PutOptions, Select, VersionListing, Which, WriteCondition,
        },
    },
    reactor::{
        Core, Grant, Signal,
        executor::Ended,
        panics::{Failures, caught},
    },
    shard::{
        Shard, ShardFiles,
        requests::{AttributesRequest, CopySource, CopyTarget, check_key},
    },
    store::Placement,
};
use bytes::Bytes;
use std::{
    any::Any, cell::RefCell, collections::BTreeMap, future::Future, rc::Rc, sync::Arc, time::Duration,
};

/// Most deletes of one [`CoreEngine::delete_many`].
pub const DELETES_MAX: usize = 1000;

/// How an upload becomes an object.
#[derive(Clone, Debug, Default)]
pub struct CompleteOptions {
    /// The entity tag; none: the engine makes one (see [`CommitOptions::etag`]).
    pub etag: Option<crate::layout::EntityTag>,
    /// The embedder's own bytes; none: those the upload was begun with.
    pub attributes: Option<Bytes>,
    /// What must hold for the completion to happen.
    pub condition: WriteCondition,
    /// See [`CommitOptions::decided_by`]. A repetition changes nothing, and is answered all the same.
    pub decided_by: Option<BucketRevision>,
}

/// The engine on one of its cores. Cheap to clone, not `Send`; see [`crate::Engine`] for the handle that is.
#[derive(Clone)]
pub struct CoreEngine(Rc<CoreState>, Option<Duration>);

pub(crate) struct CoreState {
    pub(crate) core: Core,
    pub(crate) placement: Arc<Placement>,
    /// This core's handles of every shard's files.
    pub(crate) files: Vec<ShardFiles>,
    /// The shards this core owns.
    pub(crate) shards: Vec<Option<Rc<Shard>>>,
    pub(crate) limits: CoreLimits,
    pub(crate) cache: ReadCache,
    /// Every core is up, and front ends may begin.
    pub(crate) opened: Flag,
    /// This core is to finish.
    pub(crate) stop: Flag,
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) events: Arc<EventHub>,
    /// The cores of this store that have failed.
    pub(crate) failures: Arc<Failures>,
    /// What front ends keep here.
    pub(crate) attached: RefCell<Vec<Rc<dyn Any>>>,
}

/// How often an object is opened for one reader who waits for memory: more than once because it may be another version by then, which
/// needs more; not for ever, since one that changes all the time could keep a reader waiting as long.
const OPENED_AT_MOST: usize = 4;

/// What whoever names a core that there is not is told.
pub(crate) const NO_SUCH_CORE: Error = Error::InvalidArgument("there is no such core");

/// Does on a core what somebody gave it to do, with an engine that waits as long as that one's.
pub(crate) async fn given<T, W, F>(core: Core, wait: Option<Duration>, work: W) -> Result<T, Error>
where
    W: FnOnce(CoreEngine) -> F,
    F: Future<Output = T>,
{
    let state = core.local::<CoreState>().ok_or(Error::Closed)?;
    // The work is begun where its panics are caught, too.
    let done = caught(&core, Box::pin(async move { work(CoreEngine(state, wait)).await })).await;
    done.map_err(|panic| {
        core.count_panic("work that was given to a core", &panic);
        Error::Panicked
    })
}

/// Raised once, and who waits for it.
#[derive(Default)]
pub(crate) struct Flag {
    raised: std::cell::Cell<bool>,
    signal: Signal,
}

impl Flag {
    pub(crate) fn raise(&self) {
        self.raised.set(true);
        self.signal.notify();
    }

    pub(crate) async fn raised(&self) {
        self.signal.wait(|| self.raised.get().then_some(())).await;
    }
}

impl CoreEngine {
    pub(crate) fn new(state: CoreState) -> CoreEngine {
        let state = Rc::new(state);
        state.core.set_local(state.clone());
        let (metrics, failures, core) = (state.metrics.clone(), state.failures.clone(), state.core.index());
        state.core.on_panic(move |ended| match ended {
            Ended::Caught => metrics.panics.add(1),
            Ended::Core => failures.note(core),
        });
        CoreEngine(state, None)
    }

    /// The engine of the core this runs on.
    pub(crate) fn of(core: &Core) -> Option<CoreEngine> {
        core.local::<CoreState>().map(|state| CoreEngine(state, None))
    }

    /// This engine, whose operations wait for their share of what is bounded so long at most, whatever the store was opened
    /// with: what a caller has left of its own deadline. With [`Duration::ZERO`] they are told [`Error::Busy`] at once.
    ///
    /// It is admission that is bounded: an operation that was let in takes the time that its device takes.
    pub fn waiting_at_most(&self, wait: Duration) -> CoreEngine {
        CoreEngine(self.0.clone(), Some(wait))
    }

    /// The core: its clock, its memory, its transports, and tasks on it.
    pub fn core(&self) -> &Core {
        &self.0.core
    }

    /// Runs `work` with the engine of another core, or this one, and resolves with its result: for front ends whose session
    /// with a client lives there.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: there is no such core. [`Error::Closed`], [`Error::CoreFailed`]: it has stopped. [`Error::Panicked`]: the
    /// work has, and the core goes on.
    ///
    /// # Cancellation
    /// The work runs to its end all the same.
    pub async fn on_core<T, W, F>(&self, core: usize, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(CoreEngine) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        if core >= self.core().count() {
            return Err(NO_SUCH_CORE);
        }
        let wait = self.1;
        let reply = self.core().call(core, move |core| given(core, wait, work));
        reply.await.unwrap_or_else(|_| Err(self.why_gone(core)))
    }

    /// What whoever waited in vain for an answer of that core is told.
    pub(crate) fn why_gone(&self, core: usize) -> Error {
        self.0.failures.why_gone(core)
    }

    pub(crate) fn failures(&self) -> &Arc<Failures> {
        &self.0.failures
    }

    /// Keeps something of a front end's on this core, for its work that comes from other cores ([`CoreEngine::on_core`]): one
    /// of each type, until the core stops.
    pub fn attach<T: 'static>(&self, what: Rc<T>) {
        let mut attached = self.0.attached.borrow_mut();
        attached.retain(|known| !known.is::<T>());
        attached.push(what);
    }

    /// What [`CoreEngine::attach`] keeps here.
    pub fn attached<T: 'static>(&self) -> Option<Rc<T>> {
        self.0.attached.borrow().iter().find_map(|known| known.clone().downcast().ok())
    }

    /// What front ends keep here may hold this engine, which holds them.
    pub(crate) fn detach_all(&self) {
        let attached = self.0.attached.take();
        drop(attached);
    }

    /// How the store was formatted.
    pub fn geometry(&self) -> Geometry {
        self.0.placement.geometry
    }

    pub(crate) fn files(&self, shard: u16) -> &ShardFiles {
        &self.0.files[usize::from(shard)]
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> u16 {
        self.0.placement.geometry.shard_count
    }

    /// The shard that holds a key. A front end may steer a connection to [`CoreEngine::core_of`] it; any core can
    /// serve any key.
    pub fn shard_of(&self, bucket: &str, key: &[u8]) -> u16 {
        self.0.placement.shard_of(bucket, key)
    }

    /// The core that owns a shard.
    pub fn core_of(&self, shard: u16) -> usize {
        self.0.placement.core_of(shard)
    }

    /// This core's counters.
    pub fn metrics(&self) -> &CoreMetrics {
        &self.0.metrics
    }

    /// Every core's counters.
    pub async fn all_metrics(&self) -> Vec<Arc<CoreMetrics>> {
        let mut all = Vec::new();
        for core in 0..self.core().count() {
            all.extend(self.on_core(core, |engine| async move { engine.metrics_handle() }).await);
        }
        all
    }

    pub(crate) fn metrics_handle(&self) -> Arc<CoreMetrics> {
        self.0.metrics.clone()
    }

    /// Counts damage that was found, and tells whoever subscribed.
    pub(crate) fn tell(&self, finding: Finding, found_by: FoundBy) {
        self.0.metrics.corruptions.add(1);
        self.0.events.tell(&CorruptionEvent { finding, found_by });
    }

    /// Damage from now on, as it is found by anybody on any core: by readers, the scrub, the cleaner.
    pub fn corruption_events(&self) -> CorruptionEvents {
        self.0.events.subscribe()
    }

    pub(crate) fn cache(&self) -> &ReadCache {
        &self.0.cache
    }

    /// The turn of a shard of this core to have its metadata scrubbed, if it is nobody else's.
    pub(crate) fn metadata_scrub(&self) -> Option<Grant> {
        self.0.limits.metadata_scrubs.try_take(1)
    }

    /// So many bytes of what this core's cleaners may have of its memory, if so much is left.
    pub(crate) fn cleaning_share(&self, bytes: usize) -> Option<Grant> {
        self.0.limits.cleaning.try_take(bytes)
    }

    /// Whether operations are under way on this core.
    pub(crate) fn is_at_work(&self) -> bool {
        self.0.limits.operations.used() > 0
    }

    // ── objects ──

    /// Begins an object. It is there once [`Put::finish`] resolves, and nothing is before.
    ///
    /// # Errors
    /// [`Error::Busy`] when this core has too much under way; [`Error::InvalidArgument`] of a key or a declared size that can not be;
    /// [`Error::NoSuchBucket`]. On a core that has no shards, a bucket that is not there is found at the end.
    pub async fn put(&self, bucket: &str, key: &[u8], options: PutOptions) -> Result<Put, Error> {
        let target = Target::Object { bucket: bucket.into(), key: key.into() };
        self.begin_put(bucket, key, target, options).await
    }

    async fn begin_put(
        &self,
        bucket: &str,
        key: &[u8],
        target: Target,
        options: PutOptions,
    ) -> Result<Put, Error> {
        self.check_put(bucket, key, options.size).await?;
        let limits = &self.0.limits;
        // Of writes before operations: whoever waits for the scarcer holds nothing that others need.
        let write = self.grant(&limits.writes, 1, Resource::Writes).await?;
        let bytes = Put::memory_bytes(options.size);
        let memory = self.grant(limits.write_bytes.of(bytes), bytes, Resource::WriteMemory).await?;
        let operation = self.admit().await?;
        self.0.metrics.puts.add(1);
        let shard = self.shard_of(bucket, key);
        Ok(Put::new(self.clone(), shard, target, options.size, memory, (Some(operation), write)))
    }

    /// Refuses what can not be stored whatever its bytes are, before any of them is taken. The shard looks again when they are there.
    async fn check_put(&self, bucket: &str, key: &[u8], size: Option<u64>) -> Result<(), Error> {
        check_key(key)?;
        check_body(size.unwrap_or(0))?;
        let mut sure = self.own_shards();
        let is_known = self.core().section(|| sure.find_map(|shard| shard.knows_bucket(bucket)));
        // One that a shard of this core does not know may be in the making: the key's own decides, now as at the end.
        if is_known == Some(false) {
            let name = Box::<str>::from(bucket);
            let known =
                self.ask_shard(self.shard_of(bucket, key), move |shard| Ok(shard.knows_bucket(&name)));
            if known.await == Ok(Some(false)) {
                return Err(Error::NoSuchBucket);
            }
        }
        Ok(())
    }

    /// Begins the target of a copy, as a part of the operation that reads the source.
    async fn begin_copy(
        &self,
        key: (&str, &[u8]),
        target: Target,
        source: &Get,
        write: Grant,
    ) -> Result<Put, Error> {
        let range = source.range();
        let size = range.end - range.start;
        self.check_put(key.0, key.1, Some(size)).await?;
        let bytes = Put::memory_bytes(Some(size));
        let memory = self.grant(self.0.limits.write_bytes.of(bytes), bytes, Resource::WriteMemory).await?;
        self.0.metrics.puts.add(1);
        let shard = self.shard_of(key.0, key.1);
        Ok(Put::new(self.clone(), shard, target, Some(size), memory, (None, write)))
    }

    /// What a copy takes before its source is opened: whoever waits for it holds nothing that others need.
    async fn write(&self) -> Result<Grant, Error> {
        self.grant(&self.0.limits.writes, 1, Resource::Writes).await
    }

    /// Opens an object for reading.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::NoSuchKey`], [`Error::NoSuchVersion`], [`Error::DeleteMarker`],
    /// [`Error::RangeNotSatisfiable`], [`Error::InvalidPart`], [`Error::Busy`]; [`Error::Corrupt`] of a shard that lost a part of its log,
    /// for what it does not find; [`Error::ShardUnavailable`].
    pub async fn get(&self, bucket: &str, key: &[u8], options: GetOptions) -> Result<Get, Error> {
        let shard = self.shard_of(bucket, key);
        let name = Name::new(bucket, key);
        let mut waited: Option<(usize, Grant)> = None;
        for _ in 0..OPENED_AT_MOST {
            let operation = self.admit().await?;
            let (wanted, which) = (name.clone(), options.version);
            let opened = self.ask_and_hold(
                shard,
                move |shard| shard.open_object(wanted.bucket(), wanted.key(), which),
                |shard, (_, _, pin)| shard.close_object(pin),
            );
            let (record, versioning, pin) = opened.await?;
            let pin = PinGuard::new(self.clone(), shard, pin);
            let range = options.select.resolve(&record)?;
            let bytes = read_bytes_max(&record, &range);
            let budget = self.0.limits.read_bytes.of(bytes);
            let memory = match waited.take() {
                Some((had, memory)) if had == bytes => Some(memory),
                // By now it is another version, which takes another share.
                _ => budget.try_take(bytes),
            };
            let Some(memory) = memory else {
                // Who waits for memory holds nothing that others need: not an operation, which a head needs too, and not the space of
                // a version. It is opened again when there is memory.
                drop((pin, operation, record));
                waited = Some((bytes, self.grant(budget, bytes, Resource::ReadMemory).await?));
                continue;
            };
            self.0.metrics.gets.add(1);
            let info = ObjectInfo::of(&record, versioning);
            return Ok(Get::new(self.clone(), name, (record, info), pin, range, (memory, operation)));
        }
        Err(self.busy(Resource::ReadMemory))
    }

    /// What is known of an object, without its bytes.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::NoSuchKey`], [`Error::NoSuchVersion`], [`Error::DeleteMarker`].
    pub async fn head(&self, bucket: &str, key: &[u8], which: Which) -> Result<ObjectInfo, Error> {
        let _operation = self.admit().await?;
        let (bucket, key) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let shard = self.shard_of(&bucket, &key);
        self.ask_shard(shard, move |shard| shard.head_object(&bucket, &key, which)).await
    }

    /// The parts an object was completed from; none if it was put whole.
    ///
    /// # Errors
    /// As [`CoreEngine::head`].
    pub async fn object_parts(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
    ) -> Result<(ObjectInfo, Vec<PartInfo>), Error> {
        let _operation = self.admit().await?;
        let (bucket, key) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let shard = self.shard_of(&bucket, &key);
        let asked = self.ask_shard(shard, move |shard| shard.content_of(&bucket, &key, which));
        let (info, content) = asked.await?;
        let parts = match content {
            crate::layout::Content::Parts(parts) => parts.iter().map(PartInfo::of).collect(),
            _ => Vec::new(),
        };
        Ok((info, parts))
    }

    /// Deletes a version for good, or hides the key behind a delete marker if no version is named and the bucket keeps
    /// versions. Durable when it resolves. What is not there is no error.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`]; [`Error::ConditionFailed`], [`Error::NoSuchKey`] if a tag was to match; [`Error::Changed`] if
    /// [`Delete::attributes`], [`Delete::version`] or the bucket were to be others; [`Error::Full`] for a marker where there is no room for a checkpoint with it; [`Error::Busy`], [`Error::ReadOnly`],
    /// [`Error::ShardUnavailable`], and [`Error::Device`] of a device that failed before: nothing is deleted then. After
    /// [`Error::OutcomeUnknown`] and [`Error::Closed`] it may be.
    pub async fn delete(&self, bucket: &str, delete: Delete) -> Result<Deleted, Error> {
        let _operation = self.admit().await?;
        self.0.metrics.deletes.add(1);
        let bucket = Box::<str>::from(bucket);
        let shard = self.shard_of(&bucket, &delete.key);
        self.on_shard(shard, move |shard| async move {
            let mut deleted = shard.delete(&bucket, vec![delete]).await;
            deleted.pop().expect("one result for one delete")
        })
        .await
    }

    /// Gives a version other attributes: durable when it resolves. Its bytes, tag and time stay. With `judged_by`, only if it
    /// has those attributes now, so that of two who read, decide and write one is told to look again.
    ///
    /// # Errors
    /// [`Error::Changed`] if it has others; [`Error::NoSuchBucket`], [`Error::NoSuchKey`], [`Error::NoSuchVersion`],
    /// [`Error::DeleteMarker`], [`Error::InvalidArgument`], [`Error::Full`], [`Error::Busy`], [`Error::ReadOnly`]. After
    /// [`Error::OutcomeUnknown`] and [`Error::Closed`] it may have the new ones, now or when the store is opened again.
    pub async fn set_attributes(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
        judged_by: Option<Bytes>,
        attributes: Bytes,
    ) -> Result<Version, Error> {
        let change = AttributesChange { attributes, judged_by, decided_by: None };
        self.set_attributes_with(bucket, key, which, change).await
    }

    /// As [`CoreEngine::set_attributes`], with all that it may depend on.
    ///
    /// # Errors
    /// As there; [`Error::Changed`] also if the bucket is not the one that was decided by.
    pub async fn set_attributes_with(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
        change: AttributesChange,
    ) -> Result<Version, Error> {
        let _operation = self.admit().await?;
        let request = AttributesRequest { bucket: bucket.into(), key: key.into(), which, change };
        let shard = self.shard_of(bucket, key);
        self.on_shard(shard, move |shard| async move { shard.set_attributes(request).await }).await
    }

    /// As [`CoreEngine::delete`], for at most [`DELETES_MAX`](crate::DELETES_MAX) at once, one result each in their order.
    /// Each shard gets its share in one message, and logs it in few batches. Deletes of the same key happen in their
    /// order; all others in any.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there are too many, [`Error::Busy`]. What goes wrong with one is its result.
    pub async fn delete_many(
        &self,
        bucket: &str,
        deletes: Vec<Delete>,
    ) -> Result<Vec<Result<Deleted, Error>>, Error> {
        let _operation = self.admit().await?;
        if deletes.len() > DELETES_MAX {
            return Err(Error::InvalidArgument("too many deletes at once"));
        }
        self.0.metrics.deletes.add(deletes.len() as u64);
        let count = deletes.len();
        let mut shares: BTreeMap<u16, (Vec<usize>, Vec<Delete>)> = BTreeMap::new();
        for (index, delete) in deletes.into_iter().enumerate() {
            let share = shares.entry(self.shard_of(bucket, &delete.key)).or_default();
            share.0.push(index);
            share.1.push(delete);
        }
        // All shards are asked before any is waited for.
        let asked: Vec<_> = shares
            .into_iter()
            .map(|(shard, (indexes, deletes))| {
                let (engine, bucket) = (self.clone(), Box::<str>::from(bucket));
                let work = async move {
                    let answer = engine.on_shard(shard, move |shard| async move {
                        Ok(shard.delete(&bucket, deletes).await)
                    });
                    answer.await
                };
                (indexes, self.core().spawn_own(work))
            })
            .collect();
        let mut outcomes = vec![Err(Error::Closed); count];
        for (indexes, answer) in asked {
            match answer.await {
                Ok(results) => {
                    indexes.into_iter().zip(results).for_each(|(index, result)| outcomes[index] = result);
                }
                Err(error) => indexes.into_iter().for_each(|index| outcomes[index] = Err(error.clone())),
            }
        }
        Ok(outcomes)
    }

    /// A page of a bucket's keys in bytewise order.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`]; [`Error::InvalidArgument`] for a limit of 0; [`Error::Corrupt`] and [`Error::ShardUnavailable`] rather
    /// than a page that lacks keys.
    pub async fn list(&self, bucket: &str, options: &ListOptions) -> Result<Listing, Error> {
        // The scarcer first: see `begin_put`.
        let _listed = self.listed(options.limit).await?;
        let _operation = self.admit().await?;
        self.0.metrics.lists.add(1);
        list::list(self, bucket, options).await
    }

    /// A page of a bucket's versions: in bytewise order of keys, the newest of a key first.
    ///
    /// # Errors
    /// As [`CoreEngine::list`].
    pub async fn list_versions(&self, bucket: &str, options: &ListOptions) -> Result<VersionListing, Error> {
        // The scarcer first: see `begin_put`.
        let _listed = self.listed(options.limit).await?;
        let _operation = self.admit().await?;
        self.0.metrics.lists.add(1);
        list::list_versions(self, bucket, options).await
    }

    /// Copies an object, or the selected bytes of it, to another key. A whole object in extents whose copy belongs to the same shard
    /// is not copied but shared: no byte is read, and none is stored twice. Else the bytes go through this core's memory, and are
    /// verified on the way.
    ///
    /// # Errors
    /// Those of [`CoreEngine::get`] and [`Put::finish`].
    pub async fn copy(
        &self,
        source: (&str, &[u8], GetOptions),
        target: (&str, &[u8]),
        options: CommitOptions,
    ) -> Result<ObjectInfo, Error> {
        let (bucket, key, get) = source;
        if let Some(shard) = self.shares((bucket, key), target, &get) {
            let _operation = self.admit().await?;
            let (source, target) = shared_copy((bucket, key, get.version), target, options.clone());
            let work = move |shard: Rc<Shard>| async move { shard.copy_shared(&source, target).await };
            if let Some(info) = self.on_shard(shard, work).await? {
                self.0.metrics.puts.add(1);
                return Ok(info);
            }
        }
        let write = self.write().await?;
        let source = self.get(bucket, key, get).await?;
        let made = Target::Object { bucket: target.0.into(), key: target.1.into() };
        let put = self.begin_copy(target, made, &source, write).await?;
        copy::copy(source, put, options).await
    }

    /// The shard of both, if a copy may share what lies there.
    fn shares(&self, source: (&str, &[u8]), target: (&str, &[u8]), get: &GetOptions) -> Option<u16> {
        let shard = self.shard_of(source.0, source.1);
        (get.select == Select::Whole && shard == self.shard_of(target.0, target.1)).then_some(shard)
    }
}

/// What a shard is told of a copy within it.
fn shared_copy(
    source: (&str, &[u8], Which),
    target: (&str, &[u8]),
    options: CommitOptions,
) -> (CopySource, CopyTarget) {
    let source = CopySource { bucket: source.0.into(), key: source.1.into(), which: source.2 };
    (source, CopyTarget { bucket: target.0.into(), key: target.1.into(), options })
}
