//! Uploads in parts. All of an upload lies on its key's shard, so that its completion is one entry and copies nothing.

use super::{
    Shard, State,
    commit::Ticket,
    requests::{
        CopySource, CopyTarget, Written, check_attributes, check_key, give_back, made_etag, own, settle_body,
    },
};
use crate::{
    error::Error,
    index::Index,
    layout::{
        Content, EntityTag, Entry, PARTS_BYTES_MAX, Part, Record, UploadId, UploadRecord, Versioning,
        checksum_combine,
    },
    log::Proposal,
    object::types::{
        BucketRevision, CommitOptions, ExpiredUploads, NamedPart, ObjectInfo, PARTS_MAX, PartInfo,
        UploadInfo, UploadOptions, Which, WriteCondition,
    },
    planted::{Point, reach},
};
use bytes::Bytes;

/// How many versions of a key are looked through for the one that a repeated completion made. A completion is repeated
/// because its answer was lost, within minutes; a key may have a million versions.
const REPETITION_VERSIONS_MAX: usize = 256;

/// Uploads given up before what was logged of them is waited for.
const EXPIRED_AT_ONCE: usize = 256;

pub(crate) struct PartRequest {
    pub(crate) bucket: Box<str>,
    pub(crate) key: Box<[u8]>,
    pub(crate) upload: UploadId,
    pub(crate) number: u16,
    pub(crate) written: Written,
    pub(crate) etag: Option<EntityTag>,
    pub(crate) attributes: Bytes,
    pub(crate) decided_by: Option<BucketRevision>,
}

pub(crate) struct CompleteRequest {
    pub(crate) bucket: Box<str>,
    pub(crate) key: Box<[u8]>,
    pub(crate) upload: UploadId,
    pub(crate) parts: Vec<NamedPart>,
    pub(crate) etag: Option<EntityTag>,
    pub(crate) attributes: Option<Bytes>,
    pub(crate) condition: WriteCondition,
    pub(crate) decided_by: Option<BucketRevision>,
}

impl Shard {
    pub(crate) async fn create_upload(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        UploadOptions { attributes, decided_by }: UploadOptions,
    ) -> Result<UploadInfo, Error> {
        self.ready_to_add(bucket).await;
        let (ticket, info) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            self.check_writable(state)?;
            check_key(key)?;
            check_attributes(&attributes)?;
            self.check_room(state)?;
            let bucket = self.bucket_decided_by(state, bucket, decided_by)?.record.bucket;
            let created_ms = self.core.wall_clock_ms();
            let attributes = own(attributes);
            let record = UploadRecord { upload, bucket, key: key.into(), created_ms, attributes };
            let info = upload_info(&record);
            let entry = Entry::CreateUpload(record);
            (self.sequence(state, Proposal { entry, payload: None, touches_data: false }), info)
        };
        self.durable(ticket).await?;
        Ok(info)
    }

    pub(crate) async fn put_part(&self, request: PartRequest) -> Result<PartInfo, Error> {
        self.ready_to_add(&request.bucket).await;
        let (ticket, info) = self.sequence_part(request)?;
        self.durable(ticket).await?;
        Ok(info)
    }

    fn sequence_part(&self, request: PartRequest) -> Result<(Ticket, PartInfo), Error> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let checked = self.check_part(state, &request);
        if let Err(error) = checked {
            give_back(state, request.written.body);
            return Err(error);
        }
        let version = Self::next_version(state);
        let Written { body, size, crc64 } = request.written;
        let (content, payload, touches_data) = settle_body(state, body);
        let part = Part {
            number: request.number,
            bytes: size,
            modified_ms: self.core.wall_clock_ms(),
            crc64,
            etag: request.etag.unwrap_or_else(|| made_etag(crc64, size, version)),
            attributes: own(request.attributes),
            content,
        };
        let info = PartInfo::of(&part);
        let entry = Entry::PutPart { upload: request.upload, part };
        Ok((self.sequence(state, Proposal { entry, payload, touches_data }), info))
    }

    /// As [`Shard::copy_shared`], for a part.
    pub(crate) async fn copy_part_shared(
        &self,
        source: &CopySource,
        (upload, number): (UploadId, u16),
        target: CopyTarget,
    ) -> Result<Option<PartInfo>, Error> {
        let CopyTarget { bucket, key, options: CommitOptions { etag, attributes, decided_by, .. } } = target;
        self.ready_to_add(&bucket).await;
        let (ticket, info) = {
            let Some(written) = self.shared_body(source)? else { return Ok(None) };
            self.sequence_part(PartRequest {
                bucket,
                key,
                upload,
                number,
                written,
                etag,
                attributes,
                decided_by,
            })?
        };
        self.durable(ticket).await?;
        reach(Point::ExtentsShared);
        Ok(Some(info))
    }

    fn check_part(&self, state: &State, request: &PartRequest) -> Result<(), Error> {
        self.check_writable(state)?;
        check_attributes(&request.attributes)?;
        if !(1..=PARTS_MAX).contains(&request.number) {
            return Err(Error::InvalidPart(request.number));
        }
        self.check_room(state)?;
        self.bucket_decided_by(state, &request.bucket, request.decided_by)?;
        self.find_upload(state, &request.bucket, &request.key, request.upload)
    }

    /// Whether the upload takes changes.
    fn find_upload(&self, state: &State, bucket: &str, key: &[u8], upload: UploadId) -> Result<(), Error> {
        let bucket = self.bucket_id(state, bucket)?;
        let known = state.catalog.upload(upload);
        let open = known.is_some_and(|known| known.record.bucket == bucket && *known.record.key == *key)
            && !state.overlay.completing.contains(&upload);
        if open { Ok(()) } else { Err(self.unless_hole(state, Error::NoSuchUpload)) }
    }

    /// Makes the named parts, in order, the key's current version. A completion of an upload that made the current
    /// version, or one of the newest that are kept, is answered as the first was.
    pub(crate) async fn complete_upload(&self, request: CompleteRequest) -> Result<ObjectInfo, Error> {
        loop {
            // Of two completions at once the second waits for the first, and is then answered by what that one made.
            let completing = || self.state.borrow().overlay.completing.contains(&request.upload);
            self.progress.wait(|| (!completing()).then_some(())).await;
            self.bucket_decided(&request.bucket).await;
            // Both may have waited for the bucket.
            if !completing() {
                break;
            }
        }
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            self.check_writable(state)?;
            if let Err(error) = self.find_upload(state, &request.bucket, &request.key, request.upload) {
                return self.made_by(state, &request.bucket, &request.key, request.upload)?.ok_or(error);
            }
            state.overlay.completing.insert(request.upload);
        }
        let result = self.complete_open_upload(&request).await;
        self.state.borrow_mut().overlay.completing.remove(&request.upload);
        self.progressed();
        result
    }

    async fn complete_open_upload(&self, request: &CompleteRequest) -> Result<ObjectInfo, Error> {
        // Parts that were sequenced before must be applied, or an older one would be judged in their place.
        self.progress
            .wait(|| {
                let state = self.state.borrow();
                if let Some(error) = state.failed {
                    return Some(Err(Error::Device(error)));
                }
                (!state.overlay.upload_is_pending(request.upload)).then_some(Ok(()))
            })
            .await?;
        self.ready_to_add(&request.bucket).await;
        match self.sequence_completion(request) {
            Ok((ticket, info)) => {
                reach(Point::UploadCompleting);
                self.durable(ticket).await?;
                reach(Point::UploadCompleted);
                Ok(info)
            }
            Err((error, pending)) => Err(self.refused(error, pending).await),
        }
    }

    fn sequence_completion(
        &self,
        request: &CompleteRequest,
    ) -> Result<(Ticket, ObjectInfo), (Error, Option<Ticket>)> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let now = |error| (error, None);
        self.check_writable(state).map_err(now)?;
        self.check_room(state).map_err(now)?;
        if let Some(attributes) = &request.attributes {
            check_attributes(attributes).map_err(now)?;
        }
        self.bucket_decided_by(state, &request.bucket, request.decided_by).map_err(now)?;
        let known = state.catalog.upload(request.upload).ok_or(now(Error::NoSuchUpload))?;
        let bucket = known.record.bucket;
        let (mut size, mut crc64) = (0u64, 0u64);
        let (mut last, mut encoded_bytes) = (0, 0);
        for named in &request.parts {
            if named.number <= last {
                return Err(now(Error::InvalidPartOrder));
            }
            last = named.number;
            let part = known.parts.get(&named.number);
            let part = part
                .filter(|part| named.etag.is_none_or(|etag| etag == part.etag))
                .ok_or(now(Error::InvalidPart(named.number)))?;
            encoded_bytes += part.encoded_bytes();
            if encoded_bytes > PARTS_BYTES_MAX {
                return Err(now(Error::InvalidArgument("attributes and extents of all parts, length")));
            }
            crc64 = if size == 0 { part.crc64 } else { checksum_combine(crc64, part.crc64, part.bytes) };
            size += part.bytes;
        }
        if request.parts.is_empty() {
            return Err(now(Error::InvalidArgument("no parts")));
        }
        let attributes =
            request.attributes.clone().map(own).unwrap_or_else(|| known.record.attributes.clone());
        let versioning = state.catalog.bucket(bucket).map_or(Versioning::Never, |b| b.record.versioning);
        let (current, pending) = state.overlay.version(&state.catalog, bucket, &request.key, Which::Current);
        if let Err(error) = request.condition.check(current.and_then(|current| current.tag())) {
            let ticket = pending.then(|| Self::newest_ticket(state));
            return Err((error, ticket));
        }
        let version = Self::next_version(state);
        let record = Record {
            version,
            null: versioning != Versioning::Enabled,
            delete_marker: false,
            size,
            modified_ms: self.core.wall_clock_ms(),
            crc64,
            etag: request.etag.unwrap_or_else(|| made_etag(crc64, size, version)),
            attributes,
            content: Content::Empty,
            upload: Some(request.upload),
        };
        let parts: Vec<u16> = request.parts.iter().map(|named| named.number).collect();
        let info = ObjectInfo { part_count: parts.len() as u16, ..ObjectInfo::of(&record, versioning) };
        let entry = Entry::CompleteUpload { upload: request.upload, record, parts };
        let ticket = self.sequence(state, Proposal { entry, payload: None, touches_data: false });
        Ok((ticket, info))
    }

    /// The version that the upload has become, as a repetition of its completion would be told.
    pub(crate) fn completed_upload(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
    ) -> Result<ObjectInfo, Error> {
        let state = self.state.borrow();
        let made = self.made_by(&state, bucket, key, upload)?;
        made.ok_or_else(|| self.unless_hole(&state, Error::NoSuchUpload))
    }

    /// The version that the upload has become, as long as it is among the newest of its key.
    fn made_by(
        &self,
        state: &State,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
    ) -> Result<Option<ObjectInfo>, Error> {
        let bucket = &self.known_bucket(state, bucket)?.record;
        let mut newest = state.catalog.index.versions(bucket.bucket, key).take(REPETITION_VERSIONS_MAX);
        let made = newest.find(|record| record.upload == Some(upload));
        Ok(made.map(|record| ObjectInfo::of(record, bucket.versioning)))
    }

    pub(crate) async fn abort_upload(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        decided_by: Option<BucketRevision>,
    ) -> Result<(), Error> {
        self.bucket_decided(bucket).await;
        let ticket = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            self.check_writable(state)?;
            self.bucket_decided_by(state, bucket, decided_by)?;
            self.find_upload(state, bucket, key, upload)?;
            let entry = Entry::AbortUpload { upload };
            self.sequence(state, Proposal { entry, payload: None, touches_data: false })
        };
        self.durable(ticket).await
    }

    /// Gives up every upload begun before a moment, but for those that are being completed.
    pub(crate) async fn expire_uploads(&self, begun_before_ms: u64) -> Result<ExpiredUploads, Error> {
        let mut expired = ExpiredUploads::default();
        loop {
            let (ticket, more) = {
                let mut state = self.state.borrow_mut();
                let state = &mut *state;
                self.check_writable(state)?;
                let is_due = |record: &UploadRecord| {
                    let decided = !state.overlay.deciding.contains(&record.bucket);
                    let pending = state.overlay.upload_is_pending(record.upload);
                    let completing = state.overlay.completing.contains(&record.upload);
                    record.created_ms < begun_before_ms && decided && !pending && !completing
                };
                let due = state.catalog.uploads().filter(|upload| is_due(&upload.record));
                let due: Vec<_> = due.take(EXPIRED_AT_ONCE).map(|upload| upload.record.upload).collect();
                let more = due.len() == EXPIRED_AT_ONCE;
                for upload in due {
                    let parts = state.catalog.upload(upload).into_iter().flat_map(|u| u.parts.values());
                    expired.uploads += 1;
                    for part in parts {
                        expired.parts += 1;
                        expired.bytes = expired.bytes.saturating_add(part.bytes);
                    }
                    let entry = Entry::AbortUpload { upload };
                    self.sequence(state, Proposal { entry, payload: None, touches_data: false });
                }
                (Self::newest_ticket(state), more)
            };
            self.durable(ticket).await?;
            if !more {
                return Ok(expired);
            }
        }
    }

    /// An upload's parts with a number above `after`, in order, at most `limit`; and whether there are more.
    pub(crate) fn list_parts(
        &self,
        bucket: &str,
        key: &[u8],
        upload: UploadId,
        after: u16,
        limit: usize,
    ) -> Result<(UploadInfo, Vec<PartInfo>, bool), Error> {
        let state = self.state.borrow();
        let bucket = self.bucket_id(&state, bucket)?;
        let known = state.catalog.upload(upload);
        let known = known
            .filter(|known| known.record.bucket == bucket && *known.record.key == *key)
            .ok_or_else(|| self.unless_hole(&state, Error::NoSuchUpload))?;
        let mut parts = known.parts.values().filter(|part| part.number > after);
        let page: Vec<PartInfo> = parts.by_ref().take(limit).map(PartInfo::of).collect();
        Ok((upload_info(&known.record), page, parts.next().is_some()))
    }
}

pub(super) fn upload_info(record: &UploadRecord) -> UploadInfo {
    UploadInfo {
        upload: record.upload,
        key: record.key.to_vec(),
        created_ms: record.created_ms,
        attributes: record.attributes.clone(),
    }
}
