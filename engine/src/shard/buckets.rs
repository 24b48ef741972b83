//! A shard's records of buckets. Every shard has one of each; the record on the name's home shard decides.
//!
//! To make or delete a bucket is work on all shards, led by the core that was asked (`core_engine::buckets`). The name's
//! home shard lets one such work in at a time, and while it is being decided whether a bucket goes, changes in it wait:
//! a DeleteBucket that finds the bucket in use must not be noticed by anybody.

use super::{Shard, State};
use crate::{
    error::Error,
    layout::{BucketId, BucketRecord, DOCUMENTS_MAX, Documents, Entry, Versioning},
    object::types::{
        BUCKET_NAME_BYTES_MAX, BucketChange, BucketInfo, BucketOptions, BucketUsage, DOCUMENT_NAME_BYTES_MAX,
        DOCUMENTS_BYTES_MAX,
    },
    shard::requests::check_attributes,
};
use std::sync::Arc;

/// A bucket as one shard knows it, for the comparison of all at open.
pub(crate) struct BucketHere {
    pub(crate) record: BucketRecord,
    /// Whether versions of it lie here.
    pub(crate) has_versions: bool,
    /// Whether uploads of it do.
    pub(crate) has_uploads: bool,
}

impl Shard {
    /// This shard's record of a bucket.
    pub(crate) fn bucket(&self, name: &str) -> Result<BucketInfo, Error> {
        let state = self.state.borrow();
        match state.catalog.bucket_named(name) {
            Some(bucket) => Ok(bucket_info(&bucket.record)),
            None => Err(self.unless_hole(&state, Error::NoSuchBucket)),
        }
    }

    /// The bucket that this shard has under a name, and whether it is being removed.
    pub(crate) fn left_of_bucket(&self, name: &str) -> Result<(BucketId, bool), Error> {
        let state = self.state.borrow();
        let record = &self.known_bucket(&state, name)?.record;
        Ok((record.bucket, record.is_going()))
    }

    /// This shard's record of a bucket, if it is one to rely on: a shard that takes no changes does not hear of any.
    pub(crate) fn bucket_if_sure(&self, name: &str) -> Option<BucketInfo> {
        let state = self.state.borrow();
        if state.failed.is_some() || state.hole.is_some() {
            return None;
        }
        state.catalog.bucket_named(name).map(|bucket| bucket_info(&bucket.record))
    }

    /// Whether there is a bucket of that name, if this shard's word can be relied on.
    pub(crate) fn knows_bucket(&self, name: &str) -> Option<bool> {
        let state = self.state.borrow();
        let is_sure = state.failed.is_none() && state.hole.is_none();
        is_sure.then(|| state.catalog.bucket_named(name).is_some())
    }

    pub(crate) fn buckets(&self) -> Vec<BucketInfo> {
        self.state.borrow().catalog.buckets().map(|bucket| bucket_info(&bucket.record)).collect()
    }

    /// What of a bucket lies here.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the log has a hole: what is behind it is not counted.
    pub(crate) fn bucket_usage(&self, name: &str) -> Result<BucketUsage, Error> {
        let state = self.state.borrow();
        match state.hole {
            Some(hole) => Err(Error::Corrupt(hole)),
            None => self.known_bucket(&state, name).map(|bucket| bucket.usage),
        }
    }

    /// Every bucket with a record here. None if the shard is not sure of what it has, or takes no changes.
    pub(crate) fn buckets_here(&self) -> Option<Vec<BucketHere>> {
        let state = self.state.borrow();
        self.check_writable(&state).ok()?;
        let buckets = state.catalog.buckets().map(|bucket| {
            let (has_versions, has_uploads) = (bucket.usage.versions > 0, bucket.usage.uploads > 0);
            BucketHere { record: bucket.record.clone(), has_versions, has_uploads }
        });
        Some(buckets.collect())
    }

    /// Takes the name on its home shard, once nobody else has it.
    async fn take_name(&self, name: &str) {
        let free = || !self.state.borrow().overlay.naming.contains(name);
        self.progress.wait(|| free().then_some(())).await;
        self.state.borrow_mut().overlay.naming.insert(name.into());
    }

    /// Lets go of a name taken by [`Shard::begin_bucket`] or [`Shard::begin_deletion`].
    pub(crate) fn let_go_of_name(&self, name: &str) {
        self.state.borrow_mut().overlay.naming.remove(name);
        self.progressed();
    }

    /// On the name's home shard: takes the name for a new bucket and makes its record, which is not logged yet.
    ///
    /// # Errors
    /// The bucket is there; the name is then let go of.
    pub(crate) async fn begin_bucket(
        &self,
        name: &str,
        options: BucketOptions,
    ) -> Result<BucketRecord, Error> {
        check_attributes(&options.attributes)?;
        check_documents(&options.documents)?;
        if name.is_empty() || name.len() > BUCKET_NAME_BYTES_MAX {
            return Err(Error::InvalidArgument("bucket name length"));
        }
        self.take_name(name).await;
        if self.room_can_be_made(&self.state.borrow()) {
            self.make_room().await;
        }
        let judged = self.new_bucket(name, options);
        if judged.is_err() {
            self.let_go_of_name(name);
        }
        judged
    }

    fn new_bucket(&self, name: &str, options: BucketOptions) -> Result<BucketRecord, Error> {
        let state = self.state.borrow();
        self.check_writable(&state)?;
        if state.catalog.bucket_named(name).is_some() {
            return Err(Error::BucketExists);
        }
        self.check_room(&state)?;
        // Drawn: an epoch, a counter and the shard are more bits than it has, and what is cut off comes round again.
        let draw = || BucketId(self.core.random());
        let is_free = |bucket: &BucketId| state.catalog.bucket(*bucket).is_none();
        let bucket = std::iter::repeat_with(draw).find(is_free).expect("it never ends");
        Ok(BucketRecord {
            bucket,
            name: name.into(),
            created_ms: self.core.wall_clock_ms(),
            attributes: options.attributes,
            versioning: options.versioning,
            documents: options.documents,
            revision: 0,
        })
    }

    /// On the name's home shard: takes the name of a bucket that is to go. None if there is none here.
    ///
    /// # Errors
    /// The shard takes no changes, or is not sure what it has; the name is then let go of.
    pub(crate) async fn begin_deletion(&self, name: &str) -> Result<Option<BucketId>, Error> {
        self.take_name(name).await;
        let judged = {
            let state = self.state.borrow();
            self.check_writable(&state).and_then(|()| match self.bucket_id(&state, name) {
                Ok(bucket) => Ok(Some(bucket)),
                Err(Error::NoSuchBucket) => Ok(None),
                Err(error) => Err(error),
            })
        };
        if judged.is_err() {
            self.let_go_of_name(name);
        }
        judged
    }

    /// On the name's home shard: takes the name of a bucket whose record is to change, and makes the new record, which is
    /// not logged yet.
    ///
    /// # Errors
    /// There is no such bucket, it is not as the caller thinks, or the change can not be; the name is then let go of.
    pub(crate) async fn begin_change(&self, name: &str, change: BucketChange) -> Result<BucketRecord, Error> {
        self.take_name(name).await;
        let judged = self.changed_bucket(name, change);
        if judged.is_err() {
            self.let_go_of_name(name);
        }
        judged
    }

    fn changed_bucket(&self, name: &str, change: BucketChange) -> Result<BucketRecord, Error> {
        let mut state = self.state.borrow_mut();
        self.check_writable(&state)?;
        let record = self.known_bucket(&state, name)?.record.clone();
        let is_other = change.bucket.is_some_and(|bucket| bucket != record.bucket);
        if is_other || change.revision.is_some_and(|revision| revision != record.revision) {
            return Err(Error::Changed);
        }
        let versioning = change.versioning.unwrap_or(record.versioning);
        if versioning == Versioning::Never && record.versioning != Versioning::Never {
            return Err(Error::InvalidArgument("versioning can be suspended, but not undone"));
        }
        let mut documents = record.documents;
        for (name, document) in change.documents {
            let documents = Arc::make_mut(&mut documents);
            match document {
                Some(document) => documents.insert(name, document),
                None => documents.remove(&name),
            };
        }
        check_documents(&documents)?;
        let revision = Self::next_revision(&mut state);
        Ok(BucketRecord { versioning, documents, revision, ..record })
    }

    /// Never used again on the name's home, where every change of a record begins.
    fn next_revision(state: &mut State) -> u64 {
        Self::next_version(state).0
    }

    /// On the name's home shard: a revision for what takes the place of a record that was left elsewhere, and greater than that one's.
    pub(crate) fn revision_after_all(&self) -> u64 {
        Self::next_revision(&mut self.state.borrow_mut())
    }

    /// Logs the record of a bucket, once the log has room for it.
    pub(crate) async fn put_bucket(&self, record: BucketRecord) -> Result<(), Error> {
        self.log_not_busy().await;
        self.log_entry(Entry::PutBucket(record)).await
    }

    /// Resolves once the log is not busy. For what is called in the midst of work on all shards: to be told so would leave that half done.
    async fn log_not_busy(&self) {
        let room = || match self.check_writable(&self.state.borrow()) {
            Err(Error::Busy(_)) => None,
            _ => Some(()),
        };
        self.progress.wait(room).await;
    }

    /// Lets changes of the bucket wait, and says whether nothing is in it here once all that was sequenced is applied.
    pub(crate) async fn begin_deciding(&self, bucket: BucketId) -> Result<bool, Error> {
        {
            let mut state = self.state.borrow_mut();
            self.check_writable(&state)?;
            state.overlay.deciding.insert(bucket);
        }
        self.progress
            .wait(|| {
                let state = self.state.borrow();
                if let Some(error) = state.failed {
                    return Some(Err(Error::Device(error)));
                }
                (!state.overlay.bucket_is_pending(bucket)).then_some(Ok(()))
            })
            .await?;
        let state = self.state.borrow();
        Ok(state.catalog.bucket(bucket).is_none_or(|bucket| bucket.usage.versions == 0))
    }

    /// Lets the changes that waited go on.
    pub(crate) fn end_deciding(&self, bucket: BucketId) {
        self.state.borrow_mut().overlay.deciding.remove(&bucket);
        self.progressed();
    }

    /// Resolves once the bucket is not about to go. Bounded: the decision waits only for what is in the log already.
    pub(super) async fn bucket_decided(&self, name: &str) {
        if self.state.borrow().overlay.deciding.is_empty() {
            return;
        }
        self.progress
            .wait(|| {
                let state = self.state.borrow();
                let bucket = state.catalog.bucket_named(name).map(|bucket| bucket.record.bucket);
                let undecided = bucket.is_some_and(|bucket| state.overlay.deciding.contains(&bucket));
                (!undecided).then_some(())
            })
            .await;
    }

    /// Logs that the bucket is being removed, if uploads of it lie here: found after a crash, without a record at home, they would say that it
    /// is being made. Gives the record as it was.
    pub(crate) async fn begin_removal(&self, bucket: BucketId) -> Result<Option<BucketRecord>, Error> {
        let record = {
            let state = self.state.borrow();
            let known = state.catalog.bucket(bucket).filter(|known| known.usage.uploads > 0);
            known.map(|known| known.record.clone())
        };
        let Some(record) = record else { return Ok(None) };
        let revision = BucketRecord::REVISION_GOING;
        self.put_bucket(BucketRecord { revision, ..record.clone() }).await?;
        Ok(Some(record))
    }

    /// Logs that the bucket is gone, with whatever uploads are left in it, once the log has room for that.
    pub(crate) async fn remove_bucket(&self, bucket: BucketId) -> Result<(), Error> {
        self.log_not_busy().await;
        self.log_entry(Entry::RemoveBucket { bucket }).await
    }
}

fn bucket_info(record: &BucketRecord) -> BucketInfo {
    BucketInfo {
        bucket: record.bucket,
        name: record.name.clone(),
        created_ms: record.created_ms,
        attributes: record.attributes.clone(),
        versioning: record.versioning,
        documents: record.documents.clone(),
        revision: record.revision,
    }
}

fn check_documents(documents: &Documents) -> Result<(), Error> {
    let is_name = |name: &str| (1..=DOCUMENT_NAME_BYTES_MAX).contains(&name.len());
    if documents.len() > DOCUMENTS_MAX || !documents.keys().all(|name| is_name(name)) {
        return Err(Error::InvalidArgument("too many documents, or a document's name length"));
    }
    let bytes: usize = documents.iter().map(|(name, document)| name.len() + document.len()).sum();
    match bytes > DOCUMENTS_BYTES_MAX {
        true => Err(Error::InvalidArgument("documents length")),
        false => Ok(()),
    }
}
