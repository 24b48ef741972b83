//! How far a shard's scrub has come: logged now and then, so that a tour goes on where a restart interrupted it.

use super::{
    BucketId, DecodeError, KEY_BYTES_MAX, Version,
    codec::{Reader, Writer},
};

/// The newest state of a shard's scrub. Each replaces the one before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScrubRecord {
    /// Counts tours since the shard was made, from 1.
    pub tour: u64,
    /// When this tour began, milliseconds since 1970 UTC.
    pub started_ms: u64,
    /// When the last whole tour ended; 0: there was none.
    pub finished_ms: u64,
    /// Bytes verified in this tour.
    pub bytes: u64,
    /// What this tour found.
    pub findings: u64,
    /// What the last whole tour found.
    pub findings_before: u64,
    /// How far this tour is.
    pub position: ScrubPosition,
}

/// How far a tour is: through the versions in the order of the index, then the parts of uploads, then the metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScrubPosition {
    /// At its end: all was verified.
    Over,
    /// At its beginning.
    Start,
    /// Behind this version.
    Behind {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version.
        version: Version,
    },
    /// Behind all versions.
    Versions,
}

mod tag {
    pub(super) const OVER: u8 = 0;
    pub(super) const START: u8 = 1;
    pub(super) const BEHIND: u8 = 2;
    pub(super) const VERSIONS: u8 = 3;
}

impl ScrubRecord {
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        for number in
            [self.tour, self.started_ms, self.finished_ms, self.bytes, self.findings, self.findings_before]
        {
            writer.u64(number);
        }
        match &self.position {
            ScrubPosition::Over => writer.u8(tag::OVER),
            ScrubPosition::Start => writer.u8(tag::START),
            ScrubPosition::Behind { bucket, key, version } => {
                writer.u8(tag::BEHIND);
                writer.u64(bucket.0);
                writer.bytes(key, KEY_BYTES_MAX);
                writer.u64(version.0);
            }
            ScrubPosition::Versions => writer.u8(tag::VERSIONS),
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<ScrubRecord, DecodeError> {
        Ok(ScrubRecord {
            tour: reader.u64()?,
            started_ms: reader.u64()?,
            finished_ms: reader.u64()?,
            bytes: reader.u64()?,
            findings: reader.u64()?,
            findings_before: reader.u64()?,
            position: match reader.u8()? {
                tag::OVER => ScrubPosition::Over,
                tag::START => ScrubPosition::Start,
                tag::BEHIND => ScrubPosition::Behind {
                    bucket: BucketId(reader.u64()?),
                    key: reader.bytes(KEY_BYTES_MAX)?.into(),
                    version: Version(reader.u64()?),
                },
                tag::VERSIONS => ScrubPosition::Versions,
                unknown => return Err(DecodeError::Tag(unknown)),
            },
        })
    }
}
