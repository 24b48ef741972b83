//! Entries of the log and of checkpoints: whatever decodes has one encoding, and it is the one it came from.

use crossdock::layout::{
    BucketId, BucketRecord, ChecksumTable, Content, EntityTag, Entry, Extent, LogPosition, PackedOwner, Part,
    Record, ScrubPosition, ScrubRecord, UploadId, UploadRecord, Version, Versioning,
};

/// Tries one input: a run of entries.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest;
        match Entry::decode(&mut rest) {
            Ok(entry) => {
                let taken = before.len() - rest.len();
                assert!(taken > 0, "an entry takes bytes");
                assert_eq!(Entry::peek_bytes(before), Ok(Some(taken)), "an entry is as long as it says");
                let mut again = Vec::new();
                entry.encode(&mut again);
                assert_eq!(
                    before.get(..taken),
                    Some(again.as_slice()),
                    "an entry has one encoding: {entry:?}"
                );
            }
            Err(_) => {
                assert_eq!(rest, before, "an error leaves the slice as it was");
                return;
            }
        }
    }
}

/// Every kind of entry with every kind of content.
pub fn seeds() -> Vec<Vec<u8>> {
    let entries = entries();
    let mut seeds: Vec<Vec<u8>> = entries.iter().map(|entry| encoded(std::slice::from_ref(entry))).collect();
    seeds.push(encoded(&entries));
    seeds
}

pub(super) fn encoded(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    entries.iter().for_each(|entry| entry.encode(&mut bytes));
    bytes
}

pub(super) fn entries() -> Vec<Entry> {
    let (bucket, upload, key) = (BucketId(3), UploadId(77), Box::<[u8]>::from(*b"a/key"));
    let packed = Content::Packed {
        place: LogPosition { zone: 1, offset: 8192 },
        bytes: 20_000,
        checksums: vec![1, 2],
    };
    let extent = Extent { zone: 2, unit: 4, order: 2 };
    let extents = |checksums| Content::Extents { extents: vec![extent], bytes: 200_000, checksums };
    let here = extents(ChecksumTable::Here(vec![5, 6, 7, 8]));
    let away = extents(ChecksumTable::Away {
        extent: Extent { zone: 3, unit: 0, order: 0 },
        bytes: 32,
        checksum: 9,
    });
    let parts = Content::Parts([part(1, packed.clone()), part(2, here.clone())].into());
    let put = |content| Entry::PutObject { bucket, key: key.clone(), record: record(content) };
    let inline = Content::Inline(b"inline bytes"[..].to_vec().into());
    let photos = BucketRecord {
        bucket,
        name: "photos".into(),
        created_ms: 1_700_000_000_000,
        attributes: b"acl"[..].to_vec().into(),
        versioning: Versioning::Never,
        documents: Default::default(),
        revision: 0,
    };
    let mut entries: Vec<Entry> =
        [Content::Empty, inline.clone(), packed.clone(), here.clone(), away, parts].map(put).to_vec();
    entries.extend([
        Entry::RemoveVersion { bucket, key: key.clone(), version: Version(9) },
        Entry::PutBucket(photos.clone()),
        Entry::PutBucket(BucketRecord { versioning: Versioning::Enabled, revision: 3, ..photos.clone() }),
        Entry::PutBucket(BucketRecord {
            documents: std::sync::Arc::new([("cors".into(), b"rules"[..].to_vec().into())].into()),
            ..photos
        }),
        Entry::SetAttributes {
            bucket,
            key: key.clone(),
            version: Version(9),
            attributes: b"tags"[..].to_vec().into(),
        },
        Entry::RemoveBucket { bucket },
        Entry::CreateUpload(UploadRecord {
            upload,
            bucket,
            key: key.clone(),
            created_ms: 1_700_000_000_001,
            attributes: Vec::new().into(),
        }),
        Entry::PutPart { upload, part: part(10_000, inline) },
        Entry::CompleteUpload { upload, record: record(Content::Empty), parts: vec![1, 2, 9] },
        Entry::AbortUpload { upload },
    ]);
    let positions = [
        ScrubPosition::Over,
        ScrubPosition::Start,
        ScrubPosition::Behind { bucket, key: key.clone(), version: Version(9) },
        ScrubPosition::Versions,
    ];
    entries.extend(positions.map(|position| {
        Entry::Scrub(ScrubRecord {
            tour: 3,
            started_ms: 1_700_000_000_002,
            finished_ms: 1_700_000_000_001,
            bytes: 1 << 30,
            findings: 1,
            findings_before: 0,
            position,
        })
    }));
    let owners = [
        PackedOwner::Version { bucket, key: key.clone(), version: Version(9), part: None },
        PackedOwner::Version { bucket, key: key.clone(), version: Version(9), part: Some(3) },
        PackedOwner::Part { upload, number: 3 },
    ];
    let from = LogPosition { zone: 1, offset: 8192 };
    entries.extend(owners.map(|owner| Entry::MovePacked { owner, from, to: packed.clone() }));
    entries
}

fn tag() -> EntityTag {
    EntityTag::new(b"9e107d9d372bb6826bd81d3542a419d6").expect("short enough")
}

fn record(content: Content) -> Record {
    Record {
        version: Version(41),
        null: true,
        delete_marker: false,
        size: content.bytes(),
        modified_ms: 1_700_000_000_002,
        crc64: 0x1234_5678_9abc_def0,
        etag: tag(),
        attributes: b"content-type: text/plain"[..].to_vec().into(),
        content,
        upload: None,
    }
}

fn part(number: u16, content: Content) -> Part {
    Part {
        number,
        bytes: content.bytes(),
        modified_ms: 1_700_000_000_003,
        crc64: 7,
        etag: tag(),
        attributes: Vec::new().into(),
        content,
    }
}
