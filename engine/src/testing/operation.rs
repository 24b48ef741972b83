//! What clients ask of a store, drawn from a seed.
//!
//! Everything random about an operation is in it, so that a history can be cut down and what is left still means the same.
//! Each seed leaves out a part of the kinds ([`Kinds`]): a bug that one kind of operation hides is then seen without it.

use super::{model::Value, remote::Misfortune};
use crate::layout::{BLOCK_BYTES, BatchHeader, LogPosition, MetaHash, SecretKey, Versioning};
use std::rc::Rc;

/// Clients of a store. Each has keys of its own, so that a key's history is one client's.
pub const CLIENTS: usize = 4;
/// Uploads a client has open at once.
pub const UPLOADS: usize = 2;

pub(super) const NAMES: [&str; 6] = ["a", "dir/b", "dir/c", "dir/sub/d", "z\0", "\u{e9}"];

/// One of a client's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// In the client's own bucket, which comes and goes, or in the one that all share.
    pub own_bucket: bool,
    /// Which of the names.
    pub name: u8,
}

impl Key {
    /// The bucket's name.
    pub fn bucket(self, client: usize) -> String {
        if self.own_bucket { own_bucket(client) } else { SHARED_BUCKET.into() }
    }

    /// The key's bytes.
    pub fn bytes(self, client: usize) -> Vec<u8> {
        format!("c{client}/{}", NAMES[usize::from(self.name) % NAMES.len()]).into_bytes()
    }
}

/// The bucket that all clients share; it is never deleted.
pub const SHARED_BUCKET: &str = "shared";

/// The bucket of one client.
pub fn own_bucket(client: usize) -> String {
    format!("own-{client}")
}

/// Bytes, and what goes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Draws the bytes, the tag and the attributes.
    pub seed: u64,
    /// How many bytes.
    pub length: u32,
}

impl Body {
    /// The value that a key has once this is put.
    pub fn value(self) -> Value {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut bytes = vec![0; self.length as usize];
        rng.fill(&mut bytes);
        if rng.u8(0..8) == 0 {
            forge(&mut bytes, &mut rng);
        }
        let attributes = match rng.u8(0..8) {
            0 => vec![7; rng.usize(0..3000)],
            1..=3 => vec![9; rng.usize(0..40)],
            _ => Vec::new(),
        };
        let etag = format!("{:x}", rng.u64(..)).into_bytes();
        Value { bytes: Rc::new(bytes), etag, attributes }
    }
}

/// Fills the bytes with headers of log batches that lack nothing but the store's secret.
fn forge(bytes: &mut [u8], rng: &mut fastrand::Rng) {
    let secret = SecretKey(rng.u128(..).to_le_bytes());
    for block in bytes.chunks_exact_mut(BLOCK_BYTES) {
        let sequence = rng.u64(2..60);
        let header = BatchHeader {
            shard: rng.u16(0..4),
            epoch: rng.u64(1..8),
            sequence,
            position: LogPosition { zone: rng.u32(0..4), offset: rng.u32(0..64) * BLOCK_BYTES as u32 },
            next_zone: rng.u32(0..4),
            durable_upto: rng.u64(1..sequence),
            previous: MetaHash::default(),
            entry_count: 0,
            meta_blocks: 1,
            payload_blocks: 0,
        };
        header.encode(&[], rng.bool(), &secret, block);
    }
}

/// What must hold for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// The key is absent.
    Absent,
    /// The key has the tag that the client thinks it has.
    Matches,
    /// The key has a tag that it never has.
    MatchesOther,
    /// The key has not the tag that the client thinks it has.
    Differs,
}

/// Which bytes of an object are asked for; the numbers are fractions of 256 of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// All.
    Whole,
    /// From here on.
    From(u8),
    /// From the first fraction, so many bytes.
    Stretch(u8, u32),
    /// The last so many bytes.
    Last(u32),
    /// From past the end.
    PastEnd,
}

/// When a client turns away from what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivesUp {
    /// Never.
    No,
    /// After so many pieces of the body, before the end.
    After(u8),
    /// While the commit is under way, after it was looked at so many times.
    Committing(u8),
}

/// One thing that a client does.
#[allow(missing_docs, reason = "a field is the argument of its name")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Puts an object.
    Put { key: Key, body: Body, declared: bool, condition: Condition, gives_up: GivesUp },
    /// Two put-if-absent or plain puts of one key at once, from two cores.
    Race { key: Key, bodies: [Body; 2], condition: Condition },
    /// Deletes a key.
    Delete { key: Key, condition: Condition },
    /// Reads an object, perhaps only its first chunks.
    Get { key: Key, slice: Slice, gives_up: GivesUp },
    /// Asks about an object.
    Head { key: Key },
    /// Lists the client's keys of a bucket.
    List { own_bucket: bool, prefix: u8, delimiter: u8, after: Option<u8>, limit: u8 },
    /// Copies an object.
    Copy { from: Key, to: Key, condition: Condition },
    /// Begins an upload in one of the client's slots.
    CreateUpload { slot: u8, key: Key },
    /// Puts a part, perhaps one that is there.
    PutPart { slot: u8, number: u8, body: Body, gives_up: GivesUp },
    /// Copies an object into a part.
    CopyPart { slot: u8, number: u8, from: Key },
    /// Asks for the parts.
    ListParts { slot: u8 },
    /// Asks for a bucket's uploads.
    ListUploads { own_bucket: bool },
    /// Makes the parts that are there, but for those whose bit is set, an object; perhaps twice, perhaps at once.
    Complete { slot: u8, leave_out: u8, again: bool, at_once: bool, etag_seed: u64, condition: Condition },
    /// Gives the upload up.
    Abort { slot: u8 },
    /// Makes the client's bucket.
    CreateBucket,
    /// Deletes the client's bucket.
    DeleteBucket,
    /// Lists the buckets.
    Buckets,
    /// Takes a checkpoint of every shard.
    Checkpoint,
    /// Sets whether the client's bucket keeps versions.
    SetVersioning { versioning: Versioning },
    /// Lists the versions of the client's keys of a bucket.
    ListVersions { own_bucket: bool, prefix: u8, delimiter: u8, after: Option<u8>, limit: u8 },
    /// Reads one of a key's versions.
    GetVersion { key: Key, nth: u8, slice: Slice },
    /// Deletes one of a key's versions for good.
    DeleteVersion { key: Key, nth: u8, condition: Condition },
    /// Deletes several keys at once: those whose bit is set.
    DeleteMany { own_bucket: bool, names: u8 },
    /// Gives one of a key's versions other attributes.
    SetAttributes { key: Key, nth: u8, seed: u8 },
    /// Sets a document of the client's bucket, or removes it.
    SetDocument { seed: u8 },
    /// Scrubs every shard, as fast as it can or letting others go first.
    Scrub { yields: bool },
    /// Writes the bytes of one of a key's versions anew, where they are damaged; or others, which are refused.
    Repair { key: Key, nth: u8, others: bool },
    /// Opens an object and reads its first chunks; what follows is read by the next [`Operation::ReadOn`].
    Hold { key: Key, slice: Slice, chunks: u8 },
    /// Reads what is held to its end.
    ReadOn,
    /// Opens an object, replaces it, puts others as long, and only then reads it.
    ReadAcross { key: Key, other: Key, slice: Slice, seed: u64 },
    /// Reads an object into memory of the client, over a card.
    GetRemote { key: Key, slice: Slice, slack: u16, misfortune: Misfortune },
    /// Puts an object out of memory of the client, over a card.
    PutRemote { key: Key, body: Body, declared: bool, condition: Condition, misfortune: Misfortune },
}

/// How often each kind of operation is drawn, by weight, and how large bodies are.
#[derive(Clone, Debug)]
pub struct Kinds {
    weights: [u32; Kinds::COUNT],
    large_bodies: bool,
    own_buckets: bool,
    names: u8,
}

impl Kinds {
    const COUNT: usize = 32;
    /// In the order of [`Operation`]'s kinds.
    const USUAL: [u32; Kinds::COUNT] =
        [30, 4, 8, 24, 4, 5, 5, 8, 14, 2, 3, 2, 8, 2, 4, 2, 2, 2, 4, 5, 6, 6, 2, 5, 2, 1, 6, 4, 3, 6, 6, 3];

    /// Leaves out a random part of the kinds; puts stay, or there would be nothing to see.
    pub fn draw(rng: &mut fastrand::Rng) -> Kinds {
        let mut weights = Kinds::USUAL;
        for weight in &mut weights[1..] {
            if rng.u8(0..3) == 0 {
                *weight = 0;
            } else if rng.u8(0..6) == 0 {
                *weight *= 4;
            }
        }
        let names = if rng.u8(0..3) == 0 { 1 } else { NAMES.len() as u8 };
        Kinds { weights, large_bodies: rng.bool(), own_buckets: rng.bool(), names }
    }

    /// Draws an operation.
    pub fn operation(&self, rng: &mut fastrand::Rng) -> Operation {
        let mut at = rng.u32(..self.weights.iter().sum::<u32>());
        let kind = self.weights.iter().position(|weight| match at.checked_sub(*weight) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        let key = self.key(rng);
        let slot = rng.u8(..UPLOADS as u8);
        match kind.unwrap_or(0) {
            0 => Operation::Put {
                key,
                body: self.body(rng),
                declared: rng.bool(),
                condition: condition(rng),
                gives_up: gives_up(rng),
            },
            1 => Operation::Race {
                key,
                bodies: [self.body(rng), self.body(rng)],
                condition: if rng.bool() { Condition::Absent } else { Condition::None },
            },
            2 => Operation::Delete { key, condition: condition(rng) },
            3 => Operation::Get { key, slice: slice(rng), gives_up: gives_up(rng) },
            4 => Operation::Head { key },
            5 => Operation::List {
                own_bucket: key.own_bucket,
                prefix: rng.u8(..),
                delimiter: rng.u8(..),
                after: rng.bool().then(|| rng.u8(..NAMES.len() as u8)),
                limit: rng.u8(1..8),
            },
            6 => Operation::Copy { from: key, to: self.key(rng), condition: condition(rng) },
            7 => Operation::CreateUpload { slot, key },
            8 => Operation::PutPart {
                slot,
                number: rng.u8(1..5),
                body: self.body(rng),
                gives_up: gives_up(rng),
            },
            9 => Operation::CopyPart { slot, number: rng.u8(1..5), from: key },
            10 => Operation::ListParts { slot },
            11 => Operation::ListUploads { own_bucket: key.own_bucket },
            12 => Operation::Complete {
                slot,
                leave_out: if rng.bool() { 0 } else { rng.u8(..) },
                again: rng.bool(),
                at_once: rng.u8(0..3) == 0,
                etag_seed: rng.u64(..),
                condition: condition(rng),
            },
            13 => Operation::Abort { slot },
            14 => Operation::CreateBucket,
            15 => Operation::DeleteBucket,
            16 => Operation::Buckets,
            17 => Operation::Checkpoint,
            18 => Operation::SetVersioning {
                versioning: if rng.u8(0..3) == 0 { Versioning::Suspended } else { Versioning::Enabled },
            },
            19 => Operation::ListVersions {
                own_bucket: key.own_bucket,
                prefix: rng.u8(..),
                delimiter: rng.u8(..),
                after: rng.bool().then(|| rng.u8(..NAMES.len() as u8)),
                limit: rng.u8(1..8),
            },
            20 => Operation::GetVersion { key, nth: rng.u8(..), slice: slice(rng) },
            21 => Operation::DeleteVersion { key, nth: rng.u8(..), condition: condition(rng) },
            22 => Operation::DeleteMany { own_bucket: key.own_bucket, names: rng.u8(..) },
            23 => Operation::SetAttributes { key, nth: rng.u8(..), seed: rng.u8(..) },
            24 => Operation::SetDocument { seed: rng.u8(..) },
            25 => Operation::Scrub { yields: rng.bool() },
            26 => Operation::Hold { key, slice: slice(rng), chunks: rng.u8(0..3) },
            27 => Operation::ReadOn,
            28 => {
                Operation::ReadAcross { key, other: self.key(rng), slice: slice(rng), seed: rng.u64(..) >> 2 }
            }
            29 => Operation::GetRemote {
                key,
                slice: slice(rng),
                slack: if rng.bool() { 0 } else { rng.u16(1..5000) },
                misfortune: misfortune(rng),
            },
            31 => Operation::Repair { key, nth: rng.u8(..), others: rng.u8(0..4) == 0 },
            _ => Operation::PutRemote {
                key,
                body: self.body(rng),
                declared: rng.bool(),
                condition: condition(rng),
                misfortune: misfortune(rng),
            },
        }
    }

    fn key(&self, rng: &mut fastrand::Rng) -> Key {
        Key { own_bucket: self.own_buckets && rng.u8(0..3) == 0, name: rng.u8(..self.names) }
    }

    /// Bodies of every kind of length: none, inline, packed, extents of several chunks; at and around the borders.
    fn body(&self, rng: &mut fastrand::Rng) -> Body {
        let borders = [&256, &257, &4095, &4096, &4097, &16_384, &65_535, &65_536, &65_537];
        let length = match rng.u8(0..16) {
            0 => 0,
            1..=5 => rng.u32(1..257),
            6 => *rng.choice(borders).unwrap_or(&1),
            7..=11 => rng.u32(257..20_000),
            12 => rng.u32(20_000..65_537),
            13 if self.large_bodies => rng.u32(65_537..140_000),
            14 if self.large_bodies && rng.u8(0..8) == 0 => rng.u32(140_000..1_500_000),
            _ => rng.u32(1..2000),
        };
        Body { seed: rng.u64(..), length }
    }
}

fn condition(rng: &mut fastrand::Rng) -> Condition {
    match rng.u8(0..12) {
        0 => Condition::Absent,
        1 => Condition::Matches,
        2 => Condition::MatchesOther,
        3 => Condition::Differs,
        _ => Condition::None,
    }
}

fn gives_up(rng: &mut fastrand::Rng) -> GivesUp {
    match rng.u8(0..16) {
        0 => GivesUp::After(rng.u8(0..4)),
        1 => GivesUp::Committing(rng.u8(1..4)),
        _ => GivesUp::No,
    }
}

fn misfortune(rng: &mut fastrand::Rng) -> Misfortune {
    let soon = rng.u16(0..2000);
    match rng.u8(0..16) {
        0 => Misfortune::Vanishes(soon),
        1 => Misfortune::Withdraws(soon),
        2 => Misfortune::TooLittle,
        3 => Misfortune::Late(soon),
        4 => Misfortune::TurnsAway(soon),
        5 => Misfortune::Ended(soon),
        _ => Misfortune::None,
    }
}

fn slice(rng: &mut fastrand::Rng) -> Slice {
    match rng.u8(0..8) {
        0 => Slice::From(rng.u8(..)),
        1 | 2 => Slice::Stretch(rng.u8(..), rng.u32(1..100_000)),
        3 => Slice::Last(rng.u32(1..70_000)),
        4 if rng.bool() => Slice::PastEnd,
        _ => Slice::Whole,
    }
}

/// A prefix of listings in what a client may see: its own keys.
pub fn list_prefix(client: usize, choice: u8) -> Vec<u8> {
    let rest = ["", "", "d", "dir/", "dir/s", "none"][usize::from(choice) % 6];
    format!("c{client}/{rest}").into_bytes()
}

/// A delimiter of listings.
pub fn list_delimiter(choice: u8) -> &'static [u8] {
    [&b""[..], b"/", b"r/", b"sub"][usize::from(choice) % 4]
}
