//! Acting on lifecycle rules: a sweep over every bucket that has some.
//!
//! ```text
//!   sweep(now) ─► each bucket with rules ─► uploads that are too old: aborted
//!                                        └─► versions, key by key: current ones that are due are deleted as a client would,
//!                                            noncurrent ones go for good, delete markers that hide nothing go
//! ```
//!
//! What goes for good goes by its attributes as they were judged, so that a lock or a tag that came meanwhile keeps it. A sweep that is
//! cut short has done nothing by halves: the next does the rest.

use super::settings::BucketState;
use crate::protocol::{
    lifecycle::{Expiration, LifecycleConfiguration, LifecycleRule, due_ms},
    metadata::ObjectHeaders,
};
use crossdock::{
    BucketInfo, CoreEngine, Delete, Error, ListOptions, UploadItem, VersionItem, VersionKind, Versioning,
    Which,
};

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

async fn sweep_bucket(
    engine: &CoreEngine,
    info: BucketInfo,
    now_ms: u64,
    swept: &mut Swept,
) -> Result<(), Error> {
    // One that can not be read keeps everything it has.
    let Ok(bucket) = BucketState::of(info) else { return Ok(()) };
    let Some(rules) = bucket.lifecycle.clone() else { return Ok(()) };
    sweep_uploads(engine, &bucket, &rules, now_ms, swept).await?;
    if !rules
        .rules
        .iter()
        .any(|rule| rule.enabled && (rule.expiration.is_some() || rule.noncurrent.is_some()))
    {
        return Ok(());
    }
    let mut history = History::default();
    let mut options = ListOptions { limit: PAGE_LINES, ..ListOptions::default() };
    loop {
        let page = engine.list_versions(&bucket.info.name, &options).await?;
        for item in page.items {
            let VersionItem::Version { key, is_current, kind } = item else { continue };
            if history.key != key {
                history.finish(engine, &bucket, &rules, now_ms, swept).await;
                history = History { key, ..History::default() };
            }
            history.add(engine, &bucket, &rules, now_ms, swept, is_current, kind).await;
        }
        match page.next {
            Some(next) => options.start = next,
            None => break,
        }
    }
    history.finish(engine, &bucket, &rules, now_ms, swept).await;
    Ok(())
}

async fn sweep_uploads(
    engine: &CoreEngine,
    bucket: &BucketState,
    rules: &LifecycleConfiguration,
    now_ms: u64,
    swept: &mut Swept,
) -> Result<(), Error> {
    for rule in rules.rules.iter().filter(|rule| rule.enabled) {
        let Some(days) = rule.abort_upload_days else { continue };
        let name = &bucket.info.name;
        let prefix = rule.filter.prefix.clone().into_bytes();
        let mut options = ListOptions { prefix, limit: PAGE_LINES, ..ListOptions::default() };
        loop {
            let page = engine.list_uploads(name, &options).await?;
            for item in page.items {
                let UploadItem::Upload(upload) = item else { continue };
                if due_ms(upload.created_ms, days) > now_ms {
                    continue;
                }
                match engine.abort_upload(name, &upload.key, upload.upload).await {
                    Ok(()) => swept.uploads += 1,
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
    #[allow(clippy::too_many_arguments, reason = "one step of one walk, whose state they are")]
    async fn add(
        &mut self,
        engine: &CoreEngine,
        bucket: &BucketState,
        rules: &LifecycleConfiguration,
        now_ms: u64,
        swept: &mut Swept,
        is_current: bool,
        kind: VersionKind,
    ) {
        let made_ms = match &kind {
            VersionKind::Object(info) => info.modified_ms,
            VersionKind::DeleteMarker(marker) => marker.modified_ms,
        };
        let above_ms = self.above_ms.replace(made_ms);
        let stays = if is_current {
            self.add_current(engine, bucket, rules, now_ms, swept, &kind).await
        } else {
            let gone = self.is_due(rules, now_ms, above_ms.unwrap_or(now_ms), &kind);
            self.noncurrent += 1;
            !gone || !self.remove(engine, bucket, now_ms, &kind, swept).await
        };
        self.staying += u64::from(stays);
    }

    /// Whether something stays in the place of the current version.
    async fn add_current(
        &mut self,
        engine: &CoreEngine,
        bucket: &BucketState,
        rules: &LifecycleConfiguration,
        now_ms: u64,
        swept: &mut Swept,
        kind: &VersionKind,
    ) -> bool {
        let info = match kind {
            VersionKind::Object(info) => info,
            VersionKind::DeleteMarker(marker) => {
                self.marker = Some(*marker);
                return false;
            }
        };
        let Ok(headers) = ObjectHeaders::decode(&info.attributes) else { return true };
        let due = rules.expires(&self.key, info.size, &headers.tags, info.modified_ms);
        if due.is_none_or(|(due, _)| due > now_ms) {
            return true;
        }
        // Only if it is still what was judged: another has a life of its own, also one of the same bytes.
        let delete = Delete {
            attributes: Some(info.attributes.clone()),
            version: Some(info.version),
            ..Delete::current(&self.key)
        };
        match engine.delete(&bucket.info.name, delete).await {
            Ok(_) => {
                swept.expired += 1;
                bucket.info.versioning != Versioning::Never
            }
            Err(_) => {
                swept.kept += 1;
                true
            }
        }
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

    async fn remove(
        &self,
        engine: &CoreEngine,
        bucket: &BucketState,
        now_ms: u64,
        kind: &VersionKind,
        swept: &mut Swept,
    ) -> bool {
        let attributes = match kind {
            VersionKind::Object(info) => match ObjectHeaders::decode(&info.attributes) {
                Ok(headers) if headers.lock.allows_delete(now_ms, false) => Some(info.attributes.clone()),
                _ => {
                    swept.kept += 1;
                    return false;
                }
            },
            VersionKind::DeleteMarker(_) => None,
        };
        let which = Which::Version(kind.version());
        let delete = Delete { which, attributes, ..Delete::current(&self.key) };
        match engine.delete(&bucket.info.name, delete).await {
            Ok(_) => {
                swept.noncurrent += 1;
                true
            }
            Err(_) => {
                swept.kept += 1;
                false
            }
        }
    }

    /// A delete marker that is all that is left of its key goes, where a rule says so.
    ///
    /// "A delete marker with zero noncurrent versions is referred to as an expired object delete marker." "When you specify
    /// the Days tag, Amazon S3 automatically performs ExpiredObjectDeleteMarker cleanup when the delete markers are old
    /// enough to satisfy the age criteria."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-configuration-examples.html>, "Removing expired
    /// object delete markers".)
    async fn finish(
        &self,
        engine: &CoreEngine,
        bucket: &BucketState,
        rules: &LifecycleConfiguration,
        now_ms: u64,
        swept: &mut Swept,
    ) {
        let Some(marker) = self.marker.filter(|_| self.staying == 0) else { return };
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
        if !rules.rules.iter().any(is_meant) {
            return;
        }
        let delete = Delete { which: Which::Version(marker.version), ..Delete::current(&self.key) };
        match engine.delete(&bucket.info.name, delete).await {
            Ok(_) => swept.markers += 1,
            Err(_) => swept.kept += 1,
        }
    }
}
