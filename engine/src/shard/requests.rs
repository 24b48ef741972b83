//! What other cores ask of a shard about objects and buckets. Each runs on the shard's core.

use super::{
    Shard, State,
    catalog::Bucket,
    commit::Ticket,
    space::{Pin, Reservation},
};
use crate::{
    error::Error,
    index::{Index, KEY_BYTES_MAX},
    layout::{
        BucketId, BucketRecord, ChecksumTable, Content, EntityTag, Entry, Extent, LogPosition, PackedOwner,
        Record, UploadId, Version, Versioning,
    },
    log::Proposal,
    object::types::{
        ATTRIBUTES_BYTES_MAX, AttributesChange, BucketRevision, CommitOptions, DeleteMarker, ObjectInfo,
        Which, WriteCondition,
    },
    planted::{Point, reach},
};
use bytes::Bytes;
use crossdock_transport::memory::FrozenLease;

/// The bytes of an object or part, where they already are.
pub(crate) enum Body {
    Empty,
    Inline(Bytes),
    /// In a lease, zero padded to whole blocks, to be packed into the log.
    Packed {
        lease: FrozenLease,
        bytes: u32,
        checksums: Vec<u64>,
    },
    /// In extents of these reservations, written and complete.
    Extents {
        reservations: Vec<Reservation>,
        extents: Vec<Extent>,
        bytes: u64,
        checksums: ChecksumTable,
    },
    /// In extents of another version, which it is to share.
    Shared {
        extents: Vec<Extent>,
        bytes: u64,
        checksums: ChecksumTable,
    },
}

/// A body and what is known of it.
pub(crate) struct Written {
    pub(crate) body: Body,
    pub(crate) size: u64,
    pub(crate) crc64: u64,
}

pub(crate) struct PutRequest {
    pub(crate) bucket: Box<str>,
    pub(crate) key: Box<[u8]>,
    pub(crate) written: Written,
    pub(crate) etag: Option<EntityTag>,
    pub(crate) attributes: Bytes,
    pub(crate) condition: WriteCondition,
    pub(crate) decided_by: Option<BucketRevision>,
}

/// A version that is copied within the shard.
pub(crate) struct CopySource {
    pub(crate) bucket: Box<str>,
    pub(crate) key: Box<[u8]>,
    pub(crate) which: Which,
}

/// What becomes of it.
pub(crate) struct CopyTarget {
    pub(crate) bucket: Box<str>,
    pub(crate) key: Box<[u8]>,
    pub(crate) options: CommitOptions,
}

/// A change that has its place in the log, or why not; and what must be durable before anybody hears of it.
pub(crate) type Sequenced<T> = Result<(Ticket, T), (Error, Option<Ticket>)>;

pub(crate) struct AttributesRequest {
    pub(crate) bucket: Box<str>,
    pub(crate) key: Box<[u8]>,
    pub(crate) which: Which,
    pub(crate) change: AttributesChange,
}

impl Shard {
    /// A version, with its space held against reuse; and whether its bucket keeps versions.
    pub(crate) fn open_object(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
    ) -> Result<(Record, Versioning, Pin), Error> {
        let mut state = self.state.borrow_mut();
        let (record, versioning) = self.find(&state, bucket, key, which)?;
        let record = record.clone();
        let pin = state.space.pin(&record.content);
        Ok((record, versioning, pin))
    }

    /// What is known of a version.
    pub(crate) fn head_object(&self, bucket: &str, key: &[u8], which: Which) -> Result<ObjectInfo, Error> {
        let state = self.state.borrow();
        let (record, versioning) = self.find(&state, bucket, key, which)?;
        Ok(ObjectInfo::of(record, versioning))
    }

    /// The same, and what it lies in.
    pub(crate) fn content_of(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
    ) -> Result<(ObjectInfo, Content), Error> {
        let state = self.state.borrow();
        let (record, versioning) = self.find(&state, bucket, key, which)?;
        Ok((ObjectInfo::of(record, versioning), record.content.clone()))
    }

    pub(crate) fn close_object(&self, pin: Pin) {
        self.state.borrow_mut().space.unpin(pin);
    }

    fn find<'a>(
        &self,
        state: &'a State,
        bucket: &str,
        key: &[u8],
        which: Which,
    ) -> Result<(&'a Record, Versioning), Error> {
        let bucket = &self.known_bucket(state, bucket)?.record;
        let (id, index) = (bucket.bucket, &state.catalog.index);
        let (record, absent) = match which {
            Which::Current => (index.newest(id, key), Error::NoSuchKey),
            Which::Null => {
                let version = index.null_version(id, key);
                (version.and_then(|version| index.version(id, key, version)), Error::NoSuchVersion)
            }
            Which::Version(version) => (index.version(id, key, version), Error::NoSuchVersion),
        };
        match record {
            Some(record) if record.delete_marker => Err(Error::DeleteMarker(DeleteMarker::of(record))),
            Some(record) => Ok((record, bucket.versioning)),
            None => Err(self.unless_hole(state, absent)),
        }
    }

    /// A shard whose log has a hole does not know what is absent.
    pub(super) fn unless_hole(&self, state: &State, absent: Error) -> Error {
        state.hole.map_or(absent, Error::Corrupt)
    }

    pub(super) fn known_bucket<'a>(&self, state: &'a State, name: &str) -> Result<&'a Bucket, Error> {
        state.catalog.bucket_named(name).ok_or_else(|| self.unless_hole(state, Error::NoSuchBucket))
    }

    pub(super) fn bucket_id(&self, state: &State, name: &str) -> Result<BucketId, Error> {
        self.known_bucket(state, name).map(|bucket| bucket.record.bucket)
    }

    /// The bucket of what was decided by a revision of it.
    ///
    /// Of a change that is under way one shard has heard and another has not. What was decided by the new record is right here as well
    /// where this shard has the old one still; the other way round it was decided by what is over.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`]; [`Error::Changed`] if it was changed since, or is another.
    pub(super) fn bucket_decided_by<'a>(
        &self,
        state: &'a State,
        name: &str,
        decided_by: Option<BucketRevision>,
    ) -> Result<&'a Bucket, Error> {
        let bucket = self.known_bucket(state, name)?;
        let BucketRecord { bucket: id, revision, .. } = bucket.record;
        match decided_by.is_some_and(|by| by.bucket != id || by.revision < revision) {
            true => Err(Error::Changed),
            false => Ok(bucket),
        }
    }

    /// Makes a written body the key's current version.
    pub(crate) async fn put(&self, request: PutRequest) -> Result<ObjectInfo, Error> {
        self.ready_to_add(&request.bucket).await;
        let sequenced = self.sequence_put(request);
        self.acknowledged(sequenced).await
    }

    /// Waits for what an outcome rests on, and gives it.
    pub(crate) async fn acknowledged<T>(&self, sequenced: Sequenced<T>) -> Result<T, Error> {
        match sequenced {
            Ok((ticket, done)) => {
                self.durable(ticket).await?;
                Ok(done)
            }
            Err((error, pending)) => Err(self.refused(error, pending).await),
        }
    }

    /// Makes a version of this shard another key's current version, without a copy of its bytes: both point to the same extents,
    /// which are free when neither does. None if the version is not one in extents.
    pub(crate) async fn copy_shared(
        &self,
        source: &CopySource,
        target: CopyTarget,
    ) -> Result<Option<ObjectInfo>, Error> {
        let CopyTarget { bucket, key, options } = target;
        let CommitOptions { etag, attributes, condition, decided_by } = options;
        self.ready_to_add(&bucket).await;
        let outcome = {
            // Found and shared without an await in between: the extents can not become free meanwhile.
            let Some(written) = self.shared_body(source)? else { return Ok(None) };
            self.sequence_put(PutRequest { bucket, key, written, etag, attributes, condition, decided_by })
        };
        let info = self.acknowledged(outcome).await?;
        reach(Point::ExtentsShared);
        Ok(Some(info))
    }

    /// The bytes of a version in extents, to be shared at once.
    pub(super) fn shared_body(&self, source: &CopySource) -> Result<Option<Written>, Error> {
        let state = self.state.borrow();
        let (record, _) = self.find(&state, &source.bucket, &source.key, source.which)?;
        let Content::Extents { extents, bytes, checksums } = &record.content else { return Ok(None) };
        let body = Body::Shared { extents: extents.clone(), bytes: *bytes, checksums: checksums.clone() };
        Ok(Some(Written { body, size: record.size, crc64: record.crc64 }))
    }

    /// Judges a put and gives it its place in the log, if it gets one.
    pub(crate) fn sequence_put(&self, request: PutRequest) -> Sequenced<ObjectInfo> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let judged = self.judge_put(state, &request);
        let PutRequest { key, written, etag, attributes, .. } = request;
        let (bucket, versioning) = match judged {
            Ok(judged) => judged,
            Err((error, pending)) => {
                give_back(state, written.body);
                let ticket = pending.then(|| Self::newest_ticket(state));
                return Err((error, ticket));
            }
        };
        let version = Self::next_version(state);
        let record = Record {
            version,
            null: versioning != Versioning::Enabled,
            delete_marker: false,
            size: written.size,
            modified_ms: self.core.wall_clock_ms(),
            crc64: written.crc64,
            etag: etag.unwrap_or_else(|| made_etag(written.crc64, written.size, version)),
            attributes: own(attributes),
            content: Content::Empty,
            upload: None,
        };
        let (content, payload, touches_data) = settle_body(state, written.body);
        let info = ObjectInfo::of(&record, versioning);
        let entry = Entry::PutObject { bucket, key, record: Record { content, ..record } };
        let ticket = self.sequence(state, Proposal { entry, payload, touches_data });
        Ok((ticket, info))
    }

    fn judge_put(
        &self,
        state: &State,
        request: &PutRequest,
    ) -> Result<(BucketId, Versioning), (Error, bool)> {
        let PutRequest { bucket, key, attributes, condition, decided_by, .. } = request;
        let now = |error| (error, false);
        self.check_writable(state).map_err(now)?;
        check_key(key).map_err(now)?;
        check_attributes(attributes).map_err(now)?;
        self.check_room(state).map_err(now)?;
        let bucket = &self.bucket_decided_by(state, bucket, *decided_by).map_err(now)?.record;
        let (current, pending) = state.overlay.version(&state.catalog, bucket.bucket, key, Which::Current);
        condition
            .check(current.as_ref().and_then(|current| current.tag()))
            .map_err(|error| (error, pending))?;
        Ok((bucket.bucket, bucket.versioning))
    }

    /// Gives a version other attributes, if it has those by which the caller judged. Nothing else of it changes.
    pub(crate) async fn set_attributes(&self, request: AttributesRequest) -> Result<Version, Error> {
        self.ready_to_add(&request.bucket).await;
        let sequenced = self.sequence_attributes(request);
        self.acknowledged(sequenced).await
    }

    fn sequence_attributes(&self, request: AttributesRequest) -> Sequenced<Version> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let now = |error| (error, None);
        let AttributesRequest { bucket, key, which, change } = request;
        let AttributesChange { attributes, judged_by, decided_by } = change;
        self.check_writable(state).map_err(now)?;
        check_key(&key).map_err(now)?;
        check_attributes(&attributes).map_err(now)?;
        self.check_room(state).map_err(now)?;
        let bucket = self.bucket_decided_by(state, &bucket, decided_by).map_err(now)?.record.bucket;
        let (found, pending) = state.overlay.version(&state.catalog, bucket, &key, which);
        let ticket = pending.then(|| Self::newest_ticket(state));
        let absent = match which {
            Which::Current => Error::NoSuchKey,
            Which::Null | Which::Version(_) => Error::NoSuchVersion,
        };
        let found = found.ok_or_else(|| (self.unless_hole(state, absent), ticket))?;
        if let Some(marker) = found.marker {
            return Err((Error::DeleteMarker(marker), ticket));
        }
        if judged_by.is_some_and(|judged_by| judged_by != found.attributes) {
            return Err((Error::Changed, ticket));
        }
        let version = found.version;
        let attributes = own(attributes);
        let entry = Entry::SetAttributes { bucket, key, version, attributes };
        Ok((self.sequence(state, Proposal { entry, payload: None, touches_data: false }), version))
    }

    /// Has a packed payload lie elsewhere, made whole: what lies where it was is forgotten when that is durable.
    ///
    /// # Errors
    /// [`Error::Changed`] if it does not lie there any more.
    pub(crate) async fn move_packed(
        &self,
        owner: PackedOwner,
        from: LogPosition,
        payload: FrozenLease,
    ) -> Result<(), Error> {
        if self.room_can_be_made(&self.state.borrow()) {
            self.make_room().await;
        }
        let ticket = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            self.check_writable(state)?;
            self.check_room(state)?;
            let to = state.catalog.packed(&owner, from).cloned().ok_or(Error::Changed)?;
            let entry = Entry::MovePacked { owner, from, to };
            self.sequence(state, Proposal { entry, payload: Some(payload), touches_data: false })
        };
        self.durable(ticket).await
    }

    /// Makes durable what was written to data zones.
    pub(crate) async fn make_data_durable(&self) -> Result<(), Error> {
        self.sync_data().await.map_err(Error::Device)
    }

    pub(crate) fn release(&self, reservation: Reservation) {
        self.state.borrow_mut().space.release(reservation);
    }

    /// Logs an entry that no condition guards.
    pub(super) async fn log_entry(&self, entry: Entry) -> Result<(), Error> {
        let ticket = {
            let mut state = self.state.borrow_mut();
            self.check_writable(&state)?;
            self.sequence(&mut state, Proposal { entry, payload: None, touches_data: false })
        };
        self.durable(ticket).await
    }
}

/// The same bytes and nothing else: what a caller gives may be a slice of much more, which the index would keep.
pub(super) fn own(bytes: Bytes) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { Bytes::from(bytes.to_vec()) }
}

/// Turns a written body into content; its reservations become the record's.
pub(super) fn settle_body(state: &mut State, body: Body) -> (Content, Option<FrozenLease>, bool) {
    match body {
        Body::Empty => (Content::Empty, None, false),
        Body::Inline(bytes) => (Content::Inline(bytes), None, false),
        Body::Packed { lease, bytes, checksums } => {
            // The place is known when the batch is laid out.
            let place = LogPosition { zone: 0, offset: 0 };
            (Content::Packed { place, bytes, checksums }, Some(lease), false)
        }
        Body::Extents { reservations, extents, bytes, checksums } => {
            let mut used = extents.clone();
            if let ChecksumTable::Away { extent, .. } = &checksums {
                used.push(*extent);
            }
            reservations.into_iter().for_each(|reservation| state.space.consume(reservation, &used));
            (Content::Extents { extents, bytes, checksums }, None, true)
        }
        // They were made durable before the first record said where they are.
        Body::Shared { extents, bytes, checksums } => {
            let content = Content::Extents { extents, bytes, checksums };
            state.space.share(&content);
            (content, None, false)
        }
    }
}

/// Gives the space of a body back that will not be committed.
pub(super) fn give_back(state: &mut State, body: Body) {
    if let Body::Extents { reservations, .. } = body {
        reservations.into_iter().for_each(|reservation| state.space.release(reservation));
    }
}

/// `<16 hex of the CRC64NVME><16 hex of size and version>-1`: unlike any MD5, and another for every version.
pub(super) fn made_etag(crc64: u64, size: u64, version: Version) -> EntityTag {
    let mut text = *b"0123456789abcdef0123456789abcdef-1";
    for (digits, value) in [(0..16, crc64), (16..32, size.rotate_left(40) ^ version.0)] {
        for (at, digit) in text[digits].iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(value >> (4 * at)) as usize & 0xf];
        }
    }
    EntityTag::new(&text).expect("34 bytes")
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        _ => Err(Error::InvalidArgument("key length")),
    }
}

pub(super) fn check_attributes(attributes: &Bytes) -> Result<(), Error> {
    if attributes.len() > ATTRIBUTES_BYTES_MAX {
        return Err(Error::InvalidArgument("attributes length"));
    }
    Ok(())
}

/// Names an upload: drawn at random by the core that begins it.
pub(crate) fn upload_id(high: u64, low: u64) -> UploadId {
    UploadId(u128::from(high) << 64 | u128::from(low))
}
