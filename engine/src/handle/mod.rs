//! The engine as the rest of a program sees it: a handle that works on any thread and any runtime.

mod blocking;
pub(crate) mod builder;
mod get;
mod own;
mod put;
#[cfg(test)]
mod tests;
mod threads;

pub use blocking::block_on;
pub use builder::{Builder, OpenReport};
pub use get::GetStream;
pub use own::{OwnCore, Turn};
pub use put::PutStream;
pub use threads::CloseReport;

use crate::{
    core_engine::{
        CompleteOptions, CoreEngine, NO_SUCH_CORE, given,
        repair::{Repaired, VersionExport},
    },
    error::Error,
    events::{CorruptionEvents, EventHub},
    layout::{UploadId, Version, Versioning},
    metrics::CoreMetrics,
    object::types::{
        AttributesChange, BucketChange, BucketInfo, BucketOptions, BucketUsage, CommitOptions, Delete,
        Deleted, ExpiredUploads, GetOptions, ListOptions, Listing, NamedPart, ObjectInfo, PartInfo,
        PutOptions, UploadInfo, UploadListing, UploadOptions, VersionListing, Which,
    },
    reactor::{Address, panics::Failures},
    shard::{
        ShardStatistics, SpaceUse,
        scrub::{ScrubProgress, ScrubRate},
    },
    store::Placement,
};
use bytes::Bytes;
use std::{future::Future, sync::Arc, time::Duration};
use threads::Threads;

/// A store that is open. `Send + Sync`, cheap to clone; its futures work on any runtime, or none ([`block_on`]).
///
/// Each call is sent to the core that owns the key's shard and runs there. A program that wants no hand-over runs its
/// front end on the cores instead: see [`Builder::on_each_core`].
///
/// # Cancellation
/// What a call was sent to do goes on when its future is dropped, to its end: a change may be there or not, whole either way, and what was
/// opened is closed again. [`PutStream`] and [`GetStream`] say what becomes of theirs.
///
/// The store stays open until [`Engine::close`] or until the last handle is dropped. Either is safe at any moment:
/// what was acknowledged is durable, and a checkpoint is taken, so that the next open is quick.
///
/// `close` returns when that is done and the store is free to be opened again. Dropping only asks for it, without waiting: the store
/// stays locked until its threads have ended, which takes as long as what is under way and the checkpoint, and whoever opens it
/// meanwhile is told [`crate::OpenError::Locked`].
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// How long its operations may wait for admission, if not as long as the store was opened with.
    wait: Option<Duration>,
}

struct Inner {
    addresses: Vec<Address>,
    placement: Arc<Placement>,
    metrics: Vec<Arc<CoreMetrics>>,
    events: Arc<EventHub>,
    failures: Arc<Failures>,
    report: OpenReport,
    threads: Threads,
}

/// Bytes that [`Engine::get_bytes`] gives at most, in an allocation of its own: 1 GiB. What is longer comes in pieces, by [`Engine::get`].
pub const GET_BYTES_MAX: u64 = 1 << 30;

impl Engine {
    /// Says how to open a store.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// This store, through a handle whose operations wait for admission so long at most: see [`CoreEngine::waiting_at_most`].
    pub fn waiting_at_most(&self, wait: Duration) -> Engine {
        Engine { inner: self.inner.clone(), wait: Some(wait) }
    }

    /// What opening found: recovery, memory, drivers.
    pub fn report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// The shard that holds a key.
    pub fn shard_of(&self, bucket: &str, key: &[u8]) -> u16 {
        self.inner.placement.shard_of(bucket, key)
    }

    /// How many cores run.
    pub fn core_count(&self) -> usize {
        self.inner.addresses.len()
    }

    /// The core that owns a shard.
    pub fn core_of(&self, shard: u16) -> usize {
        self.inner.placement.core_of(shard)
    }

    /// Counters of every core.
    pub fn metrics(&self) -> &[Arc<CoreMetrics>] {
        &self.inner.metrics
    }

    /// The cores that have failed since the store was opened, the first first: each ended by a panic of the engine's own, with its
    /// shards, whose keys are answered [`Error::CoreFailed`] until the store is opened again. The other cores go on. A panic in a front
    /// end, in a task of one ([`Core::spawn`](crate::reactor::Core::spawn)) or in work of [`Engine::on_core`] ends no core: it ends
    /// what panicked, is logged, and counted in [`CoreMetrics::panics`].
    pub fn failed_cores(&self) -> Vec<usize> {
        self.inner.failures.cores()
    }

    /// Resolves when a core fails beyond the first `known` that have: with all of [`Engine::failed_cores`]. For a program that would
    /// rather end, and be started again, than go on without a part of its keys. Pending for ever if none does.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn core_failure(&self, known: usize) -> Vec<usize> {
        self.inner.failures.more_than(known).await
    }

    /// Runs `work` on a core, with the engine as that core sees it, and resolves with its result.
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
        let address = self.inner.addresses.get(core).ok_or(NO_SUCH_CORE)?.clone();
        let wait = self.wait;
        let reply = address.call(move |core| given(core, wait, work));
        reply.await.unwrap_or_else(|_| Err(self.inner.failures.why_gone(core)))
    }

    /// Runs work of the engine's own on a core.
    async fn there<T, W, F>(&self, core: usize, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(CoreEngine) -> F + Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
    {
        let address = self.inner.addresses.get(core).ok_or(NO_SUCH_CORE)?.clone();
        let wait = self.wait;
        let reply = address.call(move |core| async move {
            match CoreEngine::of(&core) {
                Some(engine) => {
                    work(wait.map_or_else(|| engine.clone(), |wait| engine.waiting_at_most(wait))).await
                }
                None => Err(Error::Closed),
            }
        });
        reply.await.unwrap_or_else(|_| Err(self.inner.failures.why_gone(core)))
    }

    async fn on_key<T, W, F>(&self, bucket: &str, key: &[u8], work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(CoreEngine) -> F + Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
    {
        self.there(self.core_of(self.shard_of(bucket, key)), work).await
    }

    /// Begins an object: see [`CoreEngine::put`].
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Closed`].
    pub async fn put(&self, bucket: &str, key: &[u8], options: PutOptions) -> Result<PutStream, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, |engine| async move {
            let put = engine.put(&name, &wanted, options).await?;
            Ok(PutStream::start(&engine, put))
        })
        .await
    }

    /// Puts an object whose bytes are at hand.
    ///
    /// # Errors
    /// Those of [`PutStream::finish`].
    pub async fn put_bytes(&self, bucket: &str, key: &[u8], bytes: Bytes) -> Result<ObjectInfo, Error> {
        let size = Some(bytes.len() as u64);
        let mut put = self.put(bucket, key, PutOptions { size }).await?;
        put.write(bytes).await?;
        put.finish(CommitOptions::default()).await
    }

    /// Opens an object for reading: see [`CoreEngine::get`].
    ///
    /// # Errors
    /// As [`CoreEngine::get`], and [`Error::Closed`].
    pub async fn get(&self, bucket: &str, key: &[u8], options: GetOptions) -> Result<GetStream, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, |engine| async move {
            let get = engine.get(&name, &wanted, options).await?;
            Ok(GetStream::start(&engine, get))
        })
        .await
    }

    /// An object's bytes, in one piece: copied, and the caller's own.
    ///
    /// # Errors
    /// Those of [`Engine::get`] and of reading; [`Error::InvalidArgument`] if there are more than [`GET_BYTES_MAX`].
    pub async fn get_bytes(&self, bucket: &str, key: &[u8]) -> Result<Bytes, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let opened = self.on_key(bucket, key, |engine| async move {
            let get = engine.get(&name, &wanted, GetOptions::default()).await?;
            // Refused here, so that what it was let in with is free again when the caller hears of it.
            if get.info().size > GET_BYTES_MAX {
                return Err(Error::InvalidArgument("the object is longer than is given in one piece"));
            }
            Ok(GetStream::start(&engine, get))
        });
        let mut stream = opened.await?;
        let mut bytes = Vec::with_capacity(stream.info().size as usize);
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes.into())
    }

    /// What is known of an object: see [`CoreEngine::head`].
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::NoSuchKey`], [`Error::NoSuchVersion`], [`Error::DeleteMarker`].
    pub async fn head(&self, bucket: &str, key: &[u8], which: Which) -> Result<ObjectInfo, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move { engine.head(&name, &wanted, which).await }).await
    }

    /// Deletes a version, or hides a key: see [`CoreEngine::delete`].
    ///
    /// # Errors
    /// As [`CoreEngine::delete`].
    pub async fn delete(&self, bucket: &str, delete: Delete) -> Result<Deleted, Error> {
        let (name, core) = (Box::<str>::from(bucket), self.core_of(self.shard_of(bucket, &delete.key)));
        self.there(core, move |engine| async move { engine.delete(&name, delete).await }).await
    }

    /// Deletes many keys or versions of a bucket: see [`CoreEngine::delete_many`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Busy`].
    pub async fn delete_many(
        &self,
        bucket: &str,
        deletes: Vec<Delete>,
    ) -> Result<Vec<Result<Deleted, Error>>, Error> {
        let name = Box::<str>::from(bucket);
        self.on_key(bucket, b"", move |engine| async move { engine.delete_many(&name, deletes).await }).await
    }

    /// A page of a bucket's keys: see [`CoreEngine::list`].
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::InvalidArgument`], [`Error::Corrupt`], [`Error::ShardUnavailable`].
    pub async fn list(&self, bucket: &str, options: ListOptions) -> Result<Listing, Error> {
        let name = Box::<str>::from(bucket);
        // Any core can merge; the prefix spreads different listings.
        self.on_key(bucket, &options.prefix.clone(), move |engine| async move {
            engine.list(&name, &options).await
        })
        .await
    }

    /// A page of a bucket's versions: see [`CoreEngine::list_versions`].
    ///
    /// # Errors
    /// As [`Engine::list`].
    pub async fn list_versions(&self, bucket: &str, options: ListOptions) -> Result<VersionListing, Error> {
        let name = Box::<str>::from(bucket);
        self.on_key(bucket, &options.prefix.clone(), move |engine| async move {
            engine.list_versions(&name, &options).await
        })
        .await
    }

    /// Sets whether a bucket keeps versions: see [`CoreEngine::set_versioning`].
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::InvalidArgument`].
    pub async fn set_versioning(&self, name: &str, versioning: Versioning) -> Result<BucketInfo, Error> {
        let wanted = Box::<str>::from(name);
        self.on_key(name, b"", move |engine| async move { engine.set_versioning(&wanted, versioning).await })
            .await
    }

    /// Changes a bucket: see [`CoreEngine::change_bucket`].
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::Changed`], [`Error::InvalidArgument`].
    pub async fn change_bucket(&self, name: &str, change: BucketChange) -> Result<BucketInfo, Error> {
        let wanted = Box::<str>::from(name);
        self.on_key(name, b"", move |engine| async move { engine.change_bucket(&wanted, change).await }).await
    }

    /// Gives a version other attributes: see [`CoreEngine::set_attributes`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_attributes(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
        judged_by: Option<Bytes>,
        attributes: Bytes,
    ) -> Result<Version, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            engine.set_attributes(&name, &wanted, which, judged_by, attributes).await
        })
        .await
    }

    /// Gives a version other attributes: see [`CoreEngine::set_attributes_with`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_attributes_with(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
        change: AttributesChange,
    ) -> Result<Version, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            engine.set_attributes_with(&name, &wanted, which, change).await
        })
        .await
    }

    /// Makes a bucket with all that it can have from the first: see [`CoreEngine::create_bucket_with`].
    ///
    /// # Errors
    /// As there.
    pub async fn create_bucket_with(&self, name: &str, options: BucketOptions) -> Result<BucketInfo, Error> {
        let taken = Box::<str>::from(name);
        self.on_key(name, b"", move |engine| async move { engine.create_bucket_with(&taken, options).await })
            .await
    }

    /// Makes a bucket: see [`CoreEngine::create_bucket`].
    ///
    /// # Errors
    /// As there.
    pub async fn create_bucket(&self, name: &str, attributes: Bytes) -> Result<BucketInfo, Error> {
        let taken = Box::<str>::from(name);
        self.on_key(name, b"", move |engine| async move { engine.create_bucket(&taken, attributes).await })
            .await
    }

    /// A bucket.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn bucket(&self, name: &str) -> Result<BucketInfo, Error> {
        let wanted = Box::<str>::from(name);
        self.on_key(name, b"", move |engine| async move { engine.bucket(&wanted).await }).await
    }

    /// How much a bucket holds: see [`CoreEngine::bucket_usage`].
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::Corrupt`], [`Error::ShardUnavailable`].
    pub async fn bucket_usage(&self, name: &str) -> Result<BucketUsage, Error> {
        let wanted = Box::<str>::from(name);
        self.on_key(name, b"", move |engine| async move { engine.bucket_usage(&wanted).await }).await
    }

    /// Every bucket, by name.
    ///
    /// # Errors
    /// [`Error::ShardUnavailable`].
    pub async fn buckets(&self) -> Result<Vec<BucketInfo>, Error> {
        self.there(0, |engine| async move { engine.buckets().await }).await
    }

    /// Deletes an empty bucket: see [`CoreEngine::delete_bucket`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete_bucket(&self, name: &str) -> Result<(), Error> {
        let gone = Box::<str>::from(name);
        self.on_key(name, b"", move |engine| async move { engine.delete_bucket(&gone).await }).await
    }

    /// Begins an upload in parts: see [`CoreEngine::create_upload`].
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn create_upload(
        &self,
        bucket: &str,
        key: &[u8],
        attributes: Bytes,
    ) -> Result<UploadInfo, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            engine.create_upload(&name, &wanted, attributes).await
        })
        .await
    }

    /// Begins an upload in parts: see [`CoreEngine::create_upload_with`].
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::Changed`].
    pub async fn create_upload_with(
        &self,
        bucket: &str,
        key: &[u8],
        options: UploadOptions,
    ) -> Result<UploadInfo, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            engine.create_upload_with(&name, &wanted, options).await
        })
        .await
    }

    /// Begins a part: see [`CoreEngine::put_part`].
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub async fn put_part(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        number: u16,
        options: PutOptions,
    ) -> Result<PutStream, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            let put = engine.put_part(&name, &wanted, upload, number, options).await?;
            Ok(PutStream::start(&engine, put))
        })
        .await
    }

    /// Makes parts an object: see [`CoreEngine::complete_upload`].
    ///
    /// # Errors
    /// As there.
    pub async fn complete_upload(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        parts: Vec<NamedPart>,
        options: CompleteOptions,
    ) -> Result<ObjectInfo, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            engine.complete_upload(&name, &wanted, upload, parts, options).await
        })
        .await
    }

    /// Copies an object, or the selected bytes of it: see [`CoreEngine::copy`].
    ///
    /// # Errors
    /// As there.
    pub async fn copy(
        &self,
        source: (&str, &[u8], GetOptions),
        target: (&str, &[u8]),
        options: CommitOptions,
    ) -> Result<ObjectInfo, Error> {
        let (bucket, key, get) = source;
        let (from, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let (to, made) = (Box::<str>::from(target.0), Box::<[u8]>::from(target.1));
        self.on_key(bucket, key, move |engine| async move {
            engine.copy((&from, &wanted, get), (&to, &made), options).await
        })
        .await
    }

    /// Copies an object, or the selected bytes of it, into a part: see [`CoreEngine::copy_part`].
    ///
    /// # Errors
    /// As there.
    pub async fn copy_part(
        &self,
        source: (&str, &[u8], GetOptions),
        target: (&str, &[u8], UploadId, u16),
        options: CommitOptions,
    ) -> Result<PartInfo, Error> {
        let (bucket, key, get) = source;
        let (from, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let (to, made) = (Box::<str>::from(target.0), Box::<[u8]>::from(target.1));
        let (upload, number) = (target.2, target.3);
        self.on_key(bucket, key, move |engine| async move {
            engine.copy_part((&from, &wanted, get), (&to, &made, upload, number), options).await
        })
        .await
    }

    /// An upload and its parts: see [`CoreEngine::list_parts`].
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn list_parts(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        after: u16,
        limit: usize,
    ) -> Result<(UploadInfo, Vec<PartInfo>, bool), Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            engine.list_parts(&name, &wanted, upload, after, limit).await
        })
        .await
    }

    /// A page of a bucket's uploads: see [`CoreEngine::list_uploads`].
    ///
    /// # Errors
    /// As [`Engine::list`].
    pub async fn list_uploads(&self, bucket: &str, options: ListOptions) -> Result<UploadListing, Error> {
        let name = Box::<str>::from(bucket);
        self.on_key(bucket, &options.prefix.clone(), move |engine| async move {
            engine.list_uploads(&name, &options).await
        })
        .await
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn abort_upload(&self, bucket: &str, key: &[u8], upload: UploadId) -> Result<(), Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(
            bucket,
            key,
            move |engine| async move { engine.abort_upload(&name, &wanted, upload).await },
        )
        .await
    }

    /// Gives up every upload begun before a moment: see [`CoreEngine::expire_uploads`].
    ///
    /// # Errors
    /// As [`CoreEngine::expire_uploads`].
    pub async fn expire_uploads(&self, begun_before_ms: u64) -> Result<ExpiredUploads, Error> {
        self.there(0, move |engine| async move { engine.expire_uploads(begun_before_ms).await }).await
    }

    /// The parts a version was completed from: see [`CoreEngine::object_parts`].
    ///
    /// # Errors
    /// As [`Engine::head`].
    pub async fn object_parts(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
    ) -> Result<(ObjectInfo, Vec<PartInfo>), Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(
            bucket,
            key,
            move |engine| async move { engine.object_parts(&name, &wanted, which).await },
        )
        .await
    }

    /// Takes a checkpoint of every shard.
    ///
    /// # Errors
    /// A full or failing device.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.there(0, |engine| async move { engine.checkpoint().await }).await
    }

    /// A version and the checksums of its bytes: see [`CoreEngine::export`].
    ///
    /// # Errors
    /// As there.
    pub async fn export(&self, bucket: &str, key: &[u8], which: Which) -> Result<VersionExport, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move { engine.export(&name, &wanted, which).await })
            .await
    }

    /// Writes damaged bytes of a version anew: see [`CoreEngine::repair`].
    ///
    /// # Errors
    /// As there.
    pub async fn repair(
        &self,
        bucket: &str,
        key: &[u8],
        version: Version,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Repaired, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            engine.repair(&name, &wanted, version, offset, bytes).await
        })
        .await
    }

    /// Writes a damaged table of checksums anew: see [`CoreEngine::repair_checksums`].
    ///
    /// # Errors
    /// As there.
    pub async fn repair_checksums(
        &self,
        bucket: &str,
        key: &[u8],
        version: Version,
        part: Option<u16>,
        checksums: Vec<u64>,
    ) -> Result<Repaired, Error> {
        let (name, wanted) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        self.on_key(bucket, key, move |engine| async move {
            engine.repair_checksums(&name, &wanted, version, part, checksums).await
        })
        .await
    }

    /// Damage from now on, as it is found: by readers, the scrub, the cleaner. Each subscription gets every event; one that does
    /// not take them loses some and counts them.
    pub fn corruption_events(&self) -> CorruptionEvents {
        self.inner.events.subscribe()
    }

    /// Scrubs every shard: see [`CoreEngine::scrub`].
    ///
    /// # Errors
    /// [`Error::ShardUnavailable`], [`Error::Closed`].
    pub async fn scrub(&self, rate: ScrubRate) -> Result<Vec<ScrubProgress>, Error> {
        self.there(0, move |engine| async move { engine.scrub(rate).await }).await
    }

    /// How far the scrub of each shard is: see [`CoreEngine::scrub_progress`].
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn scrub_progress(&self) -> Result<Vec<ScrubProgress>, Error> {
        self.there(0, |engine| async move { Ok(engine.scrub_progress().await) }).await
    }

    /// How full the store is: see [`CoreEngine::space`].
    ///
    /// # Errors
    /// As there.
    pub async fn space(&self) -> Result<SpaceUse, Error> {
        self.there(0, |engine| async move { engine.space().await }).await
    }

    /// Numbers of every shard.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn statistics(&self) -> Result<Vec<ShardStatistics>, Error> {
        self.there(0, |engine| async move { Ok(engine.statistics().await) }).await
    }

    /// Finishes what is under way, takes a checkpoint and stops the cores. Blocks until they have: then nothing is locked, and the store
    /// can be opened again. Other handles of it are told [`Error::Closed`] from then on.
    ///
    /// It waits for as long as a front end takes to return ([`CoreEngine::closing`]), and for what a device takes:
    /// [`Engine::close_within`] waits for a time, [`Engine::shutdown`] without blocking.
    ///
    /// # Panics
    /// When called on one of the engine's own cores, which it would wait for.
    pub fn close(self) -> CloseReport {
        self.inner.threads.stop();
        self.inner.threads.join()
    }

    /// As [`Engine::close`], and blocks for `limit` at most: none if cores are still at work then. They go on closing, and it can be
    /// called again. A program that ends all the same loses nothing that was acknowledged: the next open takes longer.
    pub fn close_within(&self, limit: Duration) -> Option<CloseReport> {
        self.inner.threads.stop();
        self.inner.threads.wait(limit)
    }

    /// As [`Engine::close`], without blocking: resolves when the store can be opened again. For how long it is waited for is the
    /// caller's matter, by whatever its runtime has for that. Not to be waited for on one of the engine's own cores.
    ///
    /// # Cancellation
    /// The engine is asked to close when the future is first polled, and goes on closing when it is dropped.
    pub async fn shutdown(&self) -> CloseReport {
        self.inner.threads.stop();
        self.inner.threads.ended().await
    }
}
