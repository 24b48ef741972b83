//! Acting on lifecycle rules: a sweep over every bucket that has some.
//!
//! ```text
//!   sweep(now) ─► each bucket with rules ─► uploads that are too old: aborted
//!                                        └─► versions, key by key: current ones that are due are deleted as a client would,
//!                                            noncurrent ones go for good, delete markers that hide nothing go
//! ```
//!
//! What goes for good goes by its attributes as they were judged, so that a lock or a tag that came meanwhile keeps it, and by the rules that
//! its bucket still has: once they are changed or taken away, nothing more goes by the old ones. A sweep that is cut short has done nothing by halves: the next does the rest.

use super::settings::BucketState;
use crate::protocol::{
    lifecycle::{Expiration, LifecycleConfiguration, LifecycleRule, due_ms},
    metadata::ObjectHeaders,
};
use crossdock::{
    BucketInfo, CoreEngine, Delete, Error, ListOptions, UploadItem, VersionItem, VersionKind, Versioning,
    Which,
};

/// How often a bucket is begun anew whose settings change while it is swept.
const ATTEMPTS: usize = 4;
/// Versions or uploads looked at with one question to the engine.
const PAGE_LINES: usize = 1_000;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Current versions that expired: deleted, or hidden behind a delete marker.
    pub expired: u64,
    /// Noncurrent versions that went for good.
    pub noncurrent: u64,
    /// Delete markers that hid nothing any more.
    pub markers: u64,
    /// Uploads given up.
    pub uploads: u64,
    /// What was due and could not be done: locked, changed meanwhile, or a failure.
    pub kept: u64,
}

/// Does what is due at `now_ms` (milliseconds since 1970) in every bucket. Meant to be called once a day, and harmless if it is more
/// often.
///
/// # Errors
/// The list of buckets can not be had. What fails in one bucket is counted, logged, and left to the next sweep.
pub async fn sweep(engine: &CoreEngine, now_ms: u64) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    for bucket in engine.buckets().await? {
        let name = bucket.name.clone();
        if let Err(error) = sweep_bucket(engine, bucket, now_ms, &mut swept).await {
            tracing::warn!(%error, bucket = &*name, "lifecycle rules wait for the next sweep");
            swept.kept += 1;
        }
    }
    Ok(swept)
}

/// Sweeps a bucket by the rules it has, which are read anew where they are others by then.
async fn sweep_bucket(
    engine: &CoreEngine,
    mut info: BucketInfo,
    now_ms: u64,
    swept: &mut Swept,
) -> Result<(), Error> {
    for _ in 0..ATTEMPTS {
        let name = info.name.clone();
        match sweep_as(engine, info, now_ms, swept).await {
            Err(Error::Changed) => match engine.bucket(&name).await {
                Ok(now) => info = now,
                Err(Error::NoSuchBucket) => return Ok(()),
                Err(error) => return Err(error),
            },
            Err(Error::NoSuchBucket) => return Ok(()),
            done => return done,
        }
    }
    Err(Error::Changed)
}

/// Sweeps a bucket as it was then.
///
/// # Errors
/// [`Error::Changed`] if it is set to something else by now: what is left to do was not decided by that.
async fn sweep_as(
    engine: &CoreEngine,
    info: BucketInfo,
    now_ms: u64,
    swept: &mut Swept,
) -> Result<(), Error> {
    // One that can not be read keeps everything it has.
    let Ok(bucket) = BucketState::of(info) else { return Ok(()) };
    let Some(rules) = bucket.lifecycle.clone() else { return Ok(()) };
    let mut walk = Walk { engine, bucket: &bucket, rules: &rules, now_ms, swept };
    walk.uploads().await?;
    if rules.rules.iter().any(|rule| rule.enabled && (rule.expiration.is_some() || rule.noncurrent.is_some()))
    {
        walk.versions().await?;
    }
    Ok(())
}

/// A walk through one bucket, by the rules that it had when the walk began.
struct Walk<'a> {
    engine: &'a CoreEngine,
    bucket: &'a BucketState,
    rules: &'a LifecycleConfiguration,
    now_ms: u64,
    swept: &'a mut Swept,
}

impl Walk<'_> {
    async fn uploads(&mut self) -> Result<(), Error> {
        let (name, decided_by) = (&self.bucket.info.name, self.bucket.info.as_of());
        for rule in self.rules.rules.iter().filter(|rule| rule.enabled) {
            let Some(days) = rule.abort_upload_days else { continue };
            let prefix = rule.filter.prefix.clone().into_bytes();
            let mut options = ListOptions { prefix, limit: PAGE_LINES, ..ListOptions::default() };
            loop {
                let page = self.engine.list_uploads(name, &options).await?;
                for item in page.items {
                    let UploadItem::Upload(upload) = item else { continue };
                    if due_ms(upload.created_ms, days) > self.now_ms {
                        continue;
                    }
                    let (key, upload) = (&upload.key, upload.upload);
                    match self.engine.abort_upload_decided(name, key, upload, Some(decided_by)).await {
                        Ok(()) => self.swept.uploads += 1,
                        Err(Error::NoSuchUpload) => {}
                        Err(error) => return Err(error),
                    }
                }
                match page.next {
                    Some(next) => options.start = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    async fn versions(&mut self) -> Result<(), Error> {
        let mut history = History::default();
        let mut options = ListOptions { limit: PAGE_LINES, ..ListOptions::default() };
        loop {
            let page = self.engine.list_versions(&self.bucket.info.name, &options).await?;
            for item in page.items {
                let VersionItem::Version { key, is_current, kind } = item else { continue };
                if history.key != key {
                    history.finish(self).await?;
                    history = History { key, ..History::default() };
                }
                history.add(self, is_current, kind).await?;
            }
            match page.next {
                Some(next) => options.start = next,
                None => break,
            }
        }
        history.finish(self).await
    }

    /// Whether it was done. What is not as it was judged any more, or fails, is kept.
    ///
    /// # Errors
    /// [`Error::Changed`] if that is because the bucket is another.
    async fn delete(&mut self, delete: Delete) -> Result<bool, Error> {
        let BucketInfo { name, .. } = &self.bucket.info;
        let decided_by = self.bucket.info.as_of();
        match self.engine.delete(name, Delete { decided_by: Some(decided_by), ..delete }).await {
            Ok(_) => return Ok(true),
            Err(Error::Changed)
                if self.engine.bucket(name).await.is_ok_and(|now| now.as_of() == decided_by) => {}
            Err(error @ (Error::Changed | Error::NoSuchBucket)) => return Err(error),
            Err(_) => {}
        }
        self.swept.kept += 1;
        Ok(false)
    }
}

/// The versions of one key, from the newest on, as a sweep meets them.
#[derive(Default)]
struct History {
    key: Vec<u8>,
    /// When the version above was made: then the next became noncurrent.
    above_ms: Option<u64>,
    /// Noncurrent versions met.
    noncurrent: u32,
    /// Versions that stay.
    staying: u64,
    /// The delete marker that is the current version.
    marker: Option<crossdock::DeleteMarker>,
}

impl History {
    async fn add(&mut self, walk: &mut Walk<'_>, is_current: bool, kind: VersionKind) -> Result<(), Error> {
        let made_ms = match &kind {
            VersionKind::Object(info) => info.modified_ms,
            VersionKind::DeleteMarker(marker) => marker.modified_ms,
        };
        let above_ms = self.above_ms.replace(made_ms);
        let stays = if is_current {
            self.add_current(walk, &kind).await?
        } else {
            let gone = self.is_due(walk.rules, walk.now_ms, above_ms.unwrap_or(walk.now_ms), &kind);
            self.noncurrent += 1;
            !gone || !self.remove(walk, &kind).await?
        };
        self.staying += u64::from(stays);
        Ok(())
    }

    /// Whether something stays in the place of the current version.
    async fn add_current(&mut self, walk: &mut Walk<'_>, kind: &VersionKind) -> Result<bool, Error> {
        let info = match kind {
            VersionKind::Object(info) => info,
            VersionKind::DeleteMarker(marker) => {
                self.marker = Some(*marker);
                return Ok(false);
            }
        };
        let Ok(headers) = ObjectHeaders::decode(&info.attributes) else { return Ok(true) };
        let due = walk.rules.expires(&self.key, info.size, &headers.tags, info.modified_ms);
        if due.is_none_or(|(due, _)| due > walk.now_ms) {
            return Ok(true);
        }
        // Only if it is still what was judged: another has a life of its own, also one of the same bytes.
        let delete = Delete {
            attributes: Some(info.attributes.clone()),
            version: Some(info.version),
            ..Delete::current(&self.key)
        };
        let is_done = walk.delete(delete).await?;
        walk.swept.expired += u64::from(is_done);
        Ok(!is_done || walk.bucket.info.versioning != Versioning::Never)
    }

    /// Whether a noncurrent version is to go by some rule.
    fn is_due(&self, rules: &LifecycleConfiguration, now_ms: u64, since_ms: u64, kind: &VersionKind) -> bool {
        let (bytes, headers) = match kind {
            VersionKind::Object(info) => (info.size, ObjectHeaders::decode(&info.attributes).ok()),
            VersionKind::DeleteMarker(_) => (0, Some(ObjectHeaders::default())),
        };
        let Some(headers) = headers else { return false };
        rules.rules.iter().filter(|rule| rule.enabled).any(|rule| {
            let Some(noncurrent) = rule.noncurrent else { return false };
            rule.filter.matches(&self.key, bytes, &headers.tags)
                && self.noncurrent >= noncurrent.newer
                && due_ms(since_ms, noncurrent.days) <= now_ms
        })
    }

    /// Whether it is gone.
    async fn remove(&self, walk: &mut Walk<'_>, kind: &VersionKind) -> Result<bool, Error> {
        let attributes = match kind {
            VersionKind::Object(info) => match ObjectHeaders::decode(&info.attributes) {
                Ok(headers) if headers.lock.allows_delete(walk.now_ms, false) => {
                    Some(info.attributes.clone())
                }
                _ => {
                    walk.swept.kept += 1;
                    return Ok(false);
                }
            },
            VersionKind::DeleteMarker(_) => None,
        };
        let which = Which::Version(kind.version());
        let delete = Delete { which, attributes, ..Delete::current(&self.key) };
        let is_done = walk.delete(delete).await?;
        walk.swept.noncurrent += u64::from(is_done);
        Ok(is_done)
    }

    /// A delete marker that is all that is left of its key goes, where a rule says so.
    ///
    /// "A delete marker with zero noncurrent versions is referred to as an expired object delete marker." "When you specify
    /// the Days tag, Amazon S3 automatically performs ExpiredObjectDeleteMarker cleanup when the delete markers are old
    /// enough to satisfy the age criteria."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-configuration-examples.html>, "Removing expired
    /// object delete markers".)
    async fn finish(&self, walk: &mut Walk<'_>) -> Result<(), Error> {
        let Some(marker) = self.marker.filter(|_| self.staying == 0) else { return Ok(()) };
        let now_ms = walk.now_ms;
        let is_meant = |rule: &LifecycleRule| {
            let due = match rule.expiration {
                Some(Expiration::DeleteMarker) => true,
                Some(Expiration::Days(days)) => due_ms(marker.modified_ms, days) <= now_ms,
                Some(Expiration::Date(date)) => date <= now_ms,
                None => false,
            };
            rule.enabled
                && due
                && rule.filter.is_prefix_only()
                && self.key.starts_with(rule.filter.prefix.as_bytes())
        };
        if !walk.rules.rules.iter().any(is_meant) {
            return Ok(());
        }
        let delete = Delete { which: Which::Version(marker.version), ..Delete::current(&self.key) };
        walk.swept.markers += u64::from(walk.delete(delete).await?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use crossdock::{BucketChange, CommitOptions, Engine, PutOptions};
    use futures_lite::future::block_on;

    const RULES: &[u8] = b"<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter/>\
        <Expiration><Days>1</Days></Expiration></Rule>\
        <Rule><ID>b</ID><Status>Enabled</Status><Filter/>\
        <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
        </LifecycleConfiguration>";

    async fn set(engine: &CoreEngine, rules: Option<&'static [u8]>) -> Result<BucketInfo, Error> {
        let documents = vec![("lifecycle".into(), rules.map(Bytes::from_static))];
        let change = BucketChange { documents, bucket: None, revision: None, versioning: None };
        engine.change_bucket("rules", change).await?;
        engine.bucket("rules").await
    }

    #[test]
    fn rules_that_were_taken_away_delete_nothing() {
        // A sweep that read them before goes on by them no more: not with objects, not with uploads; it looks at the new ones.
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::builder().path(directory.path().join("data")).cores(1).memory_bytes(32 << 20);
        let engine = engine.capacity_bytes(256 << 20).open().unwrap();
        let work = |engine: CoreEngine| async move {
            engine.create_bucket("rules", Bytes::new()).await?;
            let put = engine.put("rules", b"k", PutOptions { size: Some(0) }).await?;
            let attributes = Bytes::from(ObjectHeaders::default().encode());
            put.finish(CommitOptions { attributes, ..CommitOptions::default() }).await?;
            engine.create_upload("rules", b"k", Bytes::new()).await?;
            let late = 100 * 86_400_000 + engine.core().wall_clock_ms();
            let before = set(&engine, Some(RULES)).await?;
            set(&engine, None).await?;
            let mut swept = Swept::default();
            let refused = sweep_as(&engine, before.clone(), late, &mut swept).await;
            assert_eq!((refused, swept), (Err(Error::Changed), Swept::default()));
            let bucket = BucketState::of(before.clone()).expect("rules that were taken");
            let rules = bucket.lifecycle.clone().expect("rules that were set");
            let mut walk =
                Walk { engine: &engine, bucket: &bucket, rules: &rules, now_ms: late, swept: &mut swept };
            assert_eq!(walk.versions().await, Err(Error::Changed));
            sweep_bucket(&engine, before.clone(), late, &mut swept).await?;
            assert_eq!(swept, Swept::default());
            set(&engine, Some(RULES)).await?;
            sweep_bucket(&engine, before, late, &mut swept).await?;
            assert_eq!(swept, Swept { expired: 1, uploads: 1, ..Swept::default() });
            Ok::<(), Error>(())
        };
        block_on(engine.on_core(0, work)).unwrap().unwrap();
        engine.close();
    }
}
