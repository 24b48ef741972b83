//! Uploads in parts: begun, filled, listed, and made an object or given up.

use super::{CompleteOptions, CoreEngine, shared_copy};
use crate::{
    error::Error,
    layout::UploadId,
    object::{
        copy, list,
        put::{Put, Target},
        types::{
            BucketRevision, CommitOptions, ExpiredUploads, GetOptions, ListOptions, NamedPart, ObjectInfo,
            PartInfo, PutOptions, UploadInfo, UploadListing, UploadOptions,
        },
    },
    shard::{Shard, requests::upload_id, uploads::CompleteRequest},
};
use bytes::Bytes;
use std::rc::Rc;

impl CoreEngine {
    /// Begins an upload in parts.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::InvalidArgument`].
    pub async fn create_upload(
        &self,
        bucket: &str,
        key: &[u8],
        attributes: Bytes,
    ) -> Result<UploadInfo, Error> {
        self.create_upload_with(bucket, key, UploadOptions { attributes, decided_by: None }).await
    }

    /// As [`CoreEngine::create_upload`], with all that it may depend on.
    ///
    /// # Errors
    /// As there; [`Error::Changed`] if the bucket is not the one that was decided by.
    pub async fn create_upload_with(
        &self,
        bucket: &str,
        key: &[u8],
        options: UploadOptions,
    ) -> Result<UploadInfo, Error> {
        let _operation = self.admit().await?;
        let upload = upload_id(self.core().random(), self.core().random());
        let (bucket, key) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let shard = self.shard_of(&bucket, &key);
        self.on_shard(
            shard,
            move |shard| async move { shard.create_upload(&bucket, &key, upload, options).await },
        )
        .await
    }

    /// Begins a part, numbered 1 to 10 000. One with the same number replaces it.
    ///
    /// # Errors
    /// As [`CoreEngine::put`]; an upload that is not there is found at the end.
    pub async fn put_part(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        number: u16,
        options: PutOptions,
    ) -> Result<Put, Error> {
        let target = Target::Part { bucket: bucket.into(), key: key.into(), upload, number };
        self.begin_put(bucket, key, target, options).await
    }

    /// Copies an object, or the selected bytes of it, into a part.
    ///
    /// # Errors
    /// Those of [`CoreEngine::get`] and [`Put::finish_part`].
    pub async fn copy_part(
        &self,
        source: (&str, &[u8], GetOptions),
        target: (&str, &[u8], UploadId, u16),
        options: CommitOptions,
    ) -> Result<PartInfo, Error> {
        let (bucket, key, get) = source;
        let (target_key, part) = ((target.0, target.1), (target.2, target.3));
        if let Some(shard) = self.shares((bucket, key), target_key, &get) {
            let _operation = self.admit().await?;
            let (source, target) = shared_copy((bucket, key, get.version), target_key, options.clone());
            let work =
                move |shard: Rc<Shard>| async move { shard.copy_part_shared(&source, part, target).await };
            if let Some(info) = self.on_shard(shard, work).await? {
                self.0.metrics.puts.add(1);
                return Ok(info);
            }
        }
        let write = self.write().await?;
        let source = self.get(bucket, key, get).await?;
        let (upload, number) = part;
        let made = Target::Part { bucket: target.0.into(), key: target.1.into(), upload, number };
        let put = self.begin_copy(target_key, made, &source, write).await?;
        copy::copy_part(source, put, options).await
    }

    /// Makes the named parts, in ascending order, an object. Copies no bytes. A repetition is answered as the first.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], [`Error::InvalidPart`], [`Error::InvalidPartOrder`], [`Error::ConditionFailed`], [`Error::Changed`],
    /// [`Error::InvalidArgument`], [`Error::Full`], [`Error::Busy`], [`Error::ReadOnly`]: the upload and its parts stay as they are. After
    /// [`Error::OutcomeUnknown`] and [`Error::Closed`] the object may be there, and a repetition says so.
    pub async fn complete_upload(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        parts: Vec<NamedPart>,
        options: CompleteOptions,
    ) -> Result<ObjectInfo, Error> {
        let _operation = self.admit().await?;
        let CompleteOptions { etag, attributes, condition, decided_by } = options;
        let (bucket, key) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let shard = self.shard_of(&bucket, &key);
        let request = CompleteRequest { bucket, key, upload, parts, etag, attributes, condition, decided_by };
        self.on_shard(shard, move |shard| async move { shard.complete_upload(request).await }).await
    }

    /// Gives an upload up and frees its parts.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn abort_upload(&self, bucket: &str, key: &[u8], upload: UploadId) -> Result<(), Error> {
        self.abort_upload_decided(bucket, key, upload, None).await
    }

    /// As [`CoreEngine::abort_upload`], by a bucket that was decided by: see [`CommitOptions::decided_by`].
    ///
    /// # Errors
    /// As there; [`Error::Changed`] if the bucket is another by now.
    pub async fn abort_upload_decided(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        by: Option<BucketRevision>,
    ) -> Result<(), Error> {
        let _operation = self.admit().await?;
        let (bucket, key) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let shard = self.shard_of(&bucket, &key);
        self.on_shard(shard, move |shard| async move { shard.abort_upload(&bucket, &key, upload, by).await })
            .await
    }

    /// What an upload was completed to, as a repetition of its completion is told.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`]; [`Error::NoSuchUpload`] if it is still open, never was, or what it became is gone.
    pub async fn completed_upload(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
    ) -> Result<ObjectInfo, Error> {
        let _operation = self.admit().await?;
        let (bucket, key) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let shard = self.shard_of(&bucket, &key);
        self.ask_shard(shard, move |shard| shard.completed_upload(&bucket, &key, upload)).await
    }

    /// Gives up every upload, of all buckets, that was begun before a moment (milliseconds since 1970 UTC), and frees its parts:
    /// durable when it resolves. The moment is the caller's: `now` less what an upload may take. One that is being completed
    /// stays, and so does one that was begun by a clock that is ahead.
    ///
    /// # Errors
    /// Of the first shard that can not; the others have been gone through all the same.
    ///
    /// # Cancellation
    /// Each upload is whole or gone; what is left goes with the next call.
    pub async fn expire_uploads(&self, begun_before_ms: u64) -> Result<ExpiredUploads, Error> {
        let _operation = self.admit().await?;
        let mut expired = ExpiredUploads::default();
        let mut outcome = Ok(());
        for shard in 0..self.shard_count() {
            let work = move |shard: Rc<Shard>| async move { shard.expire_uploads(begun_before_ms).await };
            match self.on_shard(shard, work).await {
                Ok(here) => {
                    expired.uploads += here.uploads;
                    expired.parts += here.parts;
                    expired.bytes = expired.bytes.saturating_add(here.bytes);
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| expired)
    }

    /// An upload and its parts with a number above `after`, at most `limit`; and whether there are more.
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
        let _operation = self.admit().await?;
        let (bucket, key) = (Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let shard = self.shard_of(&bucket, &key);
        self.ask_shard(shard, move |shard| shard.list_parts(&bucket, &key, upload, after, limit)).await
    }

    /// A page of a bucket's uploads: in bytewise order of keys, those of a key in the order in which they were begun.
    ///
    /// # Errors
    /// As [`CoreEngine::list`].
    pub async fn list_uploads(&self, bucket: &str, options: &ListOptions) -> Result<UploadListing, Error> {
        // The scarcer first: see `begin_put`.
        let _listed = self.listed(options.limit).await?;
        let _operation = self.admit().await?;
        self.0.metrics.lists.add(1);
        list::list_uploads(self, bucket, options).await
    }
}
