//! Reads the bytes of an object and compares every checksum: for whoever looks at a store, and for the scrub of a running one.
//!
//! Read in runs of whole checksum blocks. A block that does not hold is read once more: what was wrong may have been the
//! way and not the medium.

use crate::{
    error::Region,
    inspect::Problem,
    layout::{
        BLOCK_BYTES, ChecksumTable, Content, EXTENT_CHECKSUM_BYTES, PACKED_CHECKSUM_BYTES, UploadId, checksum,
    },
    object::put::combine,
    reactor::Core,
    shard::reading::Reading,
};
use crossdock_transport::memory::{BufferLease, LEASE_BYTES_MAX};
use std::{future::Future, pin::Pin};

/// Memory to read into, once there is leave to.
pub(crate) type Leave<'a> = Pin<Box<dyn Future<Output = Option<BufferLease>> + 'a>>;

/// When the next bytes may be read, and into what.
pub(crate) trait Pace {
    /// Bytes read at a time, at most: more than a block and a checksum block.
    fn run_bytes(&self) -> usize;
    /// Resolves with memory for so many bytes when they may be read; none: there is to be no more reading.
    fn leave<'a>(&'a self, core: &'a Core, bytes: usize) -> Leave<'a>;
    /// So many bytes were read.
    fn was_read(&self, bytes: u64);
    /// Whether there is to be no more reading; what was begun is not known to be whole then.
    fn is_stopped(&self) -> bool;
}

/// A version, or a part of an upload.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Object(Box<[u8]>),
    Part(UploadId, u16),
}

/// What is verified in one go.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) place: Place,
    pub(crate) content: Content,
    pub(crate) crc64: u64,
}

/// A place that does not hold.
#[derive(Clone)]
pub(crate) struct Bad {
    pub(crate) region: Region,
    pub(crate) offset: u64,
    pub(crate) part: Option<u16>,
    pub(crate) problem: Problem,
}

/// Reads one object or part; gives what does not hold.
pub(crate) async fn verify(reading: &Reading, job: &Job, pace: &dyn Pace) -> Vec<Bad> {
    let mut bad = Vec::new();
    match &job.content {
        Content::Parts(parts) => {
            for part in parts.iter() {
                verify_one(reading, &part.content, part.crc64, Some(part.number), pace, &mut bad).await;
            }
        }
        content => {
            let part = match job.place {
                Place::Object(_) => None,
                Place::Part(_, number) => Some(number),
            };
            verify_one(reading, content, job.crc64, part, pace, &mut bad).await;
        }
    }
    for bad in &mut bad {
        (bad.region, bad.offset) = reading.files.locate(bad.region, bad.offset);
    }
    bad
}

async fn verify_one(
    reading: &Reading,
    content: &Content,
    crc64: u64,
    part: Option<u16>,
    pace: &dyn Pace,
    bad: &mut Vec<Bad>,
) {
    match content {
        // The index was checked as a whole when it was read; parts within parts are refused by the format.
        Content::Empty | Content::Inline(_) | Content::Parts(_) => {}
        Content::Packed { place, bytes, checksums } => {
            let run = Run {
                region: Region::Log,
                offset: reading.log_offset(*place),
                bytes: u64::from(*bytes),
                block: PACKED_CHECKSUM_BYTES,
                part,
            };
            run.verify(reading, checksums, pace, bad).await;
        }
        Content::Extents { extents, bytes, checksums } => {
            let Some(sums) = table(reading, checksums, part, pace, bad).await else { return };
            let (mut left, mut rest) = (*bytes, &sums[..]);
            for extent in extents {
                let here = left.min(extent.bytes());
                let count = (here as usize).div_ceil(EXTENT_CHECKSUM_BYTES).min(rest.len());
                let (mine, later) = rest.split_at(count);
                let (region, offset) = (Region::Data, reading.data_offset(*extent));
                let run = Run { region, offset, bytes: here, block: EXTENT_CHECKSUM_BYTES, part };
                run.verify(reading, mine, pace, bad).await;
                (left, rest) = (left - here, later);
            }
            let found = combine(&sums, *bytes, EXTENT_CHECKSUM_BYTES as u64);
            if found != crc64 {
                let offset = extents.first().map_or(0, |extent| reading.data_offset(*extent));
                let problem = Problem::Whole { expected: crc64, found };
                bad.push(Bad { region: Region::Data, offset, part, problem });
            }
        }
    }
}

/// The checksums, wherever they lie; none if they do not hold, which is then said.
async fn table(
    reading: &Reading,
    checksums: &ChecksumTable,
    part: Option<u16>,
    pace: &dyn Pace,
    bad: &mut Vec<Bad>,
) -> Option<Vec<u64>> {
    let (extent, bytes, expected) = match checksums {
        ChecksumTable::Here(sums) => return Some(sums.clone()),
        ChecksumTable::Away { extent, bytes, checksum } => (*extent, *bytes, *checksum),
    };
    let offset = reading.data_offset(extent);
    let mut problem = Problem::Record("the checksum table is longer than its extent or a buffer");
    for _ in 0..2 {
        if u64::from(bytes) > extent.bytes() || bytes as usize > LEASE_BYTES_MAX {
            break;
        }
        match read(reading, Region::Data, offset, bytes as usize, pace).await {
            Ok(lease) => {
                let table = lease.as_slice().get(..bytes as usize).unwrap_or_default();
                let found = checksum(table);
                if found == expected && table.len() == bytes as usize {
                    let sums = table.as_chunks::<8>().0.iter();
                    return Some(sums.map(|sum| u64::from_le_bytes(*sum)).collect());
                }
                problem = Problem::Bytes { bytes, expected, found };
            }
            Err(error) => problem = error,
        }
    }
    bad.push(Bad { region: Region::Data, offset, part, problem });
    None
}

/// Bytes that lie in one piece.
struct Run {
    region: Region,
    offset: u64,
    bytes: u64,
    /// Bytes that one checksum covers.
    block: usize,
    part: Option<u16>,
}

impl Run {
    async fn verify(&self, reading: &Reading, sums: &[u64], pace: &dyn Pace, bad: &mut Vec<Bad>) {
        // Packed bytes may start anywhere in a device block.
        let lead = (self.offset % BLOCK_BYTES as u64) as usize;
        let blocks_per_read = (pace.run_bytes() - BLOCK_BYTES) / self.block;
        let mut at = 0;
        for sums in sums.chunks(blocks_per_read) {
            if pace.is_stopped() {
                return;
            }
            let bytes = (self.bytes - at).min((sums.len() * self.block) as u64) as usize;
            let start = self.offset + at;
            let mut wrong = self.compare(reading, start, bytes, lead, sums, pace).await;
            if !wrong.is_empty() {
                wrong = self.compare(reading, start, bytes, lead, sums, pace).await;
            }
            bad.extend(wrong);
            at += bytes as u64;
        }
    }

    async fn compare(
        &self,
        reading: &Reading,
        start: u64,
        bytes: usize,
        lead: usize,
        sums: &[u64],
        pace: &dyn Pace,
    ) -> Vec<Bad> {
        let (region, part) = (self.region, self.part);
        let lease = match read(reading, region, start - lead as u64, lead + bytes, pace).await {
            Ok(lease) => lease,
            Err(problem) => return vec![Bad { region, offset: start, part, problem }],
        };
        let there = lease.as_slice().get(lead..).unwrap_or_default();
        let mut wrong = Vec::new();
        for (index, expected) in sums.iter().enumerate() {
            let at = index * self.block;
            let length = self.block.min(bytes - at);
            // Short when the device ends before: the checksum of less is another.
            let block = there.get(at..(at + length).min(there.len())).unwrap_or_default();
            let found = checksum(block);
            if found != *expected || block.len() != length {
                let problem = Problem::Bytes { bytes: length as u32, expected: *expected, found };
                wrong.push(Bad { region, offset: start + at as u64, part, problem });
            }
        }
        wrong
    }
}

async fn read(
    reading: &Reading,
    region: Region,
    offset: u64,
    bytes: usize,
    pace: &dyn Pace,
) -> Result<BufferLease, Problem> {
    let padded = bytes.next_multiple_of(BLOCK_BYTES);
    let Some(lease) = pace.leave(&reading.core, padded).await else {
        // What comes of it is thrown away: whoever stopped it says so.
        return Err(Problem::Device("stopped".into()));
    };
    let read = reading.read(region, offset, padded, lease).await;
    pace.was_read(bytes as u64);
    read.map_err(|error| Problem::Device(error.to_string()))
}
