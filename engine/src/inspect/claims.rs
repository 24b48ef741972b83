//! Checks what the records of a shard claim: that each fits itself and its shard, that no two claim the same bytes, and
//! that the space in use is just what is reachable.

use super::{
    check::name_of,
    finding::{Finding, ObjectName, Problem, Severity},
    image::ShardImage,
};
use crate::{
    error::Region,
    layout::{
        BucketId, ChecksumTable, Content, EXTENT_CHECKSUM_BYTES, Extent, LogPosition, PACKED_CHECKSUM_BYTES,
        Version, Versioning, checksum, checksum_combine,
    },
    object::types::BucketUsage,
    shard::{
        catalog::packed_of,
        reading::Reading,
        space::{Space, Zoning},
    },
    store::Placement,
};
use std::collections::{BTreeMap, BTreeSet};

/// Who claims space: by number, because names are only needed when something is wrong.
#[derive(Clone, Copy)]
enum Owner {
    Checkpoint,
    Object(usize),
    /// Of an upload, and the part's number.
    Part(usize, u16),
}

impl Owner {
    fn is_record(self) -> bool {
        !matches!(self, Owner::Checkpoint)
    }
}

struct Claims<'a> {
    reading: &'a Reading,
    image: &'a ShardImage,
    placement: &'a Placement,
    extents: Vec<(Extent, Owner)>,
    packed: Vec<(LogPosition, u32, Owner)>,
    found: &'a mut dyn FnMut(Finding),
}

/// Checks every record of the shard and all it claims.
pub(crate) fn check_claims(
    reading: &Reading,
    image: &ShardImage,
    placement: &Placement,
    found: &mut dyn FnMut(Finding),
) {
    let mut claims = Claims { reading, image, placement, extents: Vec::new(), packed: Vec::new(), found };
    claims.checkpoint();
    claims.objects();
    claims.uploads();
    claims.overlapping_extents();
    claims.overlapping_packed();
    claims.zones();
    claims.space();
    claims.packed_counts();
}

impl Claims<'_> {
    fn say(&mut self, place: Option<(Region, u64)>, object: Option<ObjectName>, problem: Problem) {
        let shard = Some(self.image.shard);
        let (region, offset) =
            place.map(|(region, offset)| self.reading.files.locate(region, offset)).unzip();
        (self.found)(Finding { shard, region, offset, object, severity: Severity::Damage, problem });
    }

    fn checkpoint(&mut self) {
        for extent in self.image.checkpoint_extents.clone() {
            self.claim_extent(extent, Owner::Checkpoint, &None);
        }
    }

    fn objects(&mut self) {
        let image = self.image;
        let mut counted: BTreeMap<BucketId, BucketUsage> = BTreeMap::new();
        let mut last_key: Option<(BucketId, Vec<u8>)> = None;
        // Objects come in the order of the index: the versions of a key one behind the other.
        let mut null_of: Option<(BucketId, Box<[u8]>)> = None;
        for (index, entry) in image.objects().enumerate() {
            let record = entry.record;
            let count = counted.entry(entry.bucket_id).or_default();
            count.versions += 1;
            count.bytes = count.bytes.saturating_add(record.size);
            count.delete_markers += u64::from(record.delete_marker);
            let here = Some((entry.bucket_id, entry.key.clone()));
            let is_newest = here != last_key;
            last_key = here;
            count.objects += u64::from(is_newest && !record.delete_marker);
            let name = |part| Some(name_of(image, entry.bucket_id, &entry.key, Some(record.version), part));
            match entry.bucket {
                None => self.say(None, name(None), Problem::UnknownBucket),
                Some(bucket) => {
                    let belongs = self.placement.shard_of(&bucket.name, &entry.key);
                    if belongs != image.shard {
                        self.say(None, name(None), Problem::WrongShard { belongs });
                    }
                }
            }
            let kept = entry.bucket.is_none_or(|bucket| bucket.versioning != Versioning::Never);
            if !record.null && !kept {
                self.say(
                    None,
                    name(None),
                    Problem::Record("a version is kept, where the bucket never kept any"),
                );
            }
            if record.null {
                let key = (entry.bucket_id, entry.key.clone().into());
                if null_of.as_ref() == Some(&key) {
                    self.say(None, name(None), Problem::Record("the key has two null versions"));
                }
                null_of = Some(key);
            }
            if record.delete_marker && record.content != Content::Empty {
                self.say(None, name(None), Problem::Record("a delete marker has bytes"));
            }
            let whole = match &record.content {
                Content::Parts(parts) => {
                    for part in parts.iter() {
                        let owner = Owner::Object(index);
                        self.content(&part.content, part.bytes, part.crc64, owner, &name(Some(part.number)));
                    }
                    let join = |whole: u64, part: &crate::layout::Part| {
                        checksum_combine(whole, part.crc64, part.bytes)
                    };
                    let sizes = parts.iter().map(|part| part.bytes).sum::<u64>();
                    if sizes != record.size {
                        self.say(None, name(None), Problem::Record("the parts do not make up the size"));
                    }
                    parts.iter().fold(0, join)
                }
                content => {
                    self.content(content, record.size, record.crc64, Owner::Object(index), &name(None));
                    record.crc64
                }
            };
            if whole != record.crc64 {
                self.say(None, name(None), Problem::Whole { expected: record.crc64, found: whole });
            }
        }
        for upload in image.uploads() {
            let count = counted.entry(upload.record.bucket).or_default();
            count.uploads += 1;
            count.upload_bytes += upload.parts.iter().map(|part| part.bytes).sum::<u64>();
        }
        for bucket in image.buckets() {
            let found = counted.get(&bucket.record.bucket).copied().unwrap_or_default();
            let kept = bucket.usage;
            let counts = [
                ("objects", kept.objects, found.objects),
                ("versions", kept.versions, found.versions),
                ("delete markers", kept.delete_markers, found.delete_markers),
                ("bytes", kept.bytes, found.bytes),
                ("uploads", kept.uploads, found.uploads),
                ("bytes of uploads", kept.upload_bytes, found.upload_bytes),
            ];
            for (what, kept, counted) in counts.into_iter().filter(|(_, kept, counted)| kept != counted) {
                let bucket = bucket.record.name.to_string();
                self.say(None, None, Problem::Count { bucket, what, kept, counted });
            }
        }
    }

    fn uploads(&mut self) {
        let image = self.image;
        for (index, upload) in image.uploads().enumerate() {
            let record = upload.record;
            if image.catalog.bucket(record.bucket).is_none() {
                let name = name_of(image, record.bucket, &record.key, None, None);
                self.say(None, Some(name), Problem::UnknownBucket);
            }
            for part in upload.parts {
                let name = name_of(image, record.bucket, &record.key, None, Some(part.number));
                let owner = Owner::Part(index, part.number);
                self.content(&part.content, part.bytes, part.crc64, owner, &Some(name));
            }
        }
    }

    /// Checks one content that is not parts, and takes down what it claims.
    fn content(
        &mut self,
        content: &Content,
        bytes: u64,
        crc64: u64,
        owner: Owner,
        name: &Option<ObjectName>,
    ) {
        if content.bytes() != bytes {
            self.say(None, name.clone(), Problem::Record("the content is not as long as the size says"));
        }
        let whole = match content {
            Content::Empty => Some(0),
            Content::Inline(bytes) => Some(checksum(bytes)),
            Content::Packed { place, bytes, checksums } => {
                self.claim_packed(*place, *bytes, owner, name);
                Some(combine(checksums, u64::from(*bytes), PACKED_CHECKSUM_BYTES as u64))
            }
            Content::Extents { extents, bytes, checksums } => {
                let room: u64 = extents.iter().map(|extent| extent.bytes()).sum();
                let last = extents.last().map_or(0, |extent| extent.bytes());
                if room < *bytes || room - last >= *bytes {
                    self.say(None, name.clone(), Problem::Record("the extents do not fit the size"));
                }
                extents.iter().for_each(|extent| self.claim_extent(*extent, owner, name));
                match checksums {
                    ChecksumTable::Here(sums) => Some(combine(sums, *bytes, EXTENT_CHECKSUM_BYTES as u64)),
                    ChecksumTable::Away { extent, bytes, .. } => {
                        self.claim_extent(*extent, owner, name);
                        if u64::from(*bytes) > extent.bytes() {
                            let problem = Problem::Record("the checksum table does not fit its extent");
                            self.say(None, name.clone(), problem);
                        }
                        // Its sums are compared when it is read, with the data.
                        None
                    }
                }
            }
            Content::Parts(_) => {
                self.say(None, name.clone(), Problem::Record("a part is made of parts"));
                None
            }
        };
        if let Some(found) = whole.filter(|found| *found != crc64) {
            self.say(None, name.clone(), Problem::Whole { expected: crc64, found });
        }
    }

    fn claim_extent(&mut self, extent: Extent, owner: Owner, name: &Option<ObjectName>) {
        let units = self.reading.identity.geometry.zone_units();
        let inside = extent.is_well_formed()
            && u32::from(extent.unit) + extent.units() <= units
            && self.image.zones.has(self.zoning(), Region::Data, extent.zone);
        if inside {
            self.extents.push((extent, owner));
        } else {
            let place = (Region::Data, self.reading.data_offset(extent));
            self.say(Some(place), name.clone(), Problem::ExtentOutside(extent));
        }
    }

    fn claim_packed(&mut self, place: LogPosition, bytes: u32, owner: Owner, name: &Option<ObjectName>) {
        let end = u64::from(place.offset) + u64::from(bytes);
        let zone_bytes = u64::from(self.reading.identity.geometry.zone_bytes);
        if end <= zone_bytes && self.image.zones.has(self.zoning(), Region::Log, place.zone) {
            self.packed.push((place, bytes, owner));
        } else {
            let at = (Region::Log, self.reading.log_offset(place));
            self.say(Some(at), name.clone(), Problem::PackedOutside(place));
        }
    }

    fn overlapping_extents(&mut self) {
        let mut extents = std::mem::take(&mut self.extents);
        extents.sort_by_key(|(extent, _)| (extent.zone, extent.unit, extent.order));
        let end = |extent: &Extent| (extent.zone, u32::from(extent.unit) + extent.units());
        let mut reach: Option<(Extent, Owner)> = None;
        for (extent, owner) in &extents {
            if let Some((before, other)) = reach
                && before.zone == extent.zone
                && u32::from(extent.unit) < end(&before).1
                // A copy within the shard shares the extents of its source, each as a whole.
                && !(before == *extent && other.is_record() && owner.is_record())
            {
                let place = (Region::Data, self.reading.data_offset(*extent));
                let (name, other) = (self.name(*owner), self.words(other));
                self.say(Some(place), name, Problem::ExtentShared { extent: *extent, other });
            }
            if reach.is_none_or(|(before, _)| end(extent) > end(&before)) {
                reach = Some((*extent, *owner));
            }
        }
        self.extents = extents;
    }

    fn overlapping_packed(&mut self) {
        let mut packed = std::mem::take(&mut self.packed);
        packed.sort_by_key(|(place, bytes, _)| (*place, *bytes));
        let mut reach: Option<(LogPosition, u32, Owner)> = None;
        for (place, bytes, owner) in &packed {
            let end = place.offset + bytes;
            if let Some((before, limit, other)) = reach
                && before.zone == place.zone
                && place.offset < limit
            {
                let at = (Region::Log, self.reading.log_offset(*place));
                let (name, other) = (self.name(*owner), self.words(other));
                self.say(Some(at), name, Problem::PackedShared { place: *place, other });
            }
            if reach.is_none_or(|(before, limit, _)| (place.zone, end) > (before.zone, limit)) {
                reach = Some((*place, end, *owner));
            }
        }
        self.packed = packed;
    }

    fn zoning(&self) -> Zoning {
        self.image.zoning()
    }

    /// A zone holds log or data, never both.
    fn zones(&mut self) {
        let zoning = self.zoning();
        let data = self.extents.iter().map(|(extent, _)| zoning.other_use(extent.zone));
        let data: BTreeSet<u32> = data.collect();
        let packed = self.packed.iter().map(|(place, ..)| place.zone);
        let log: BTreeSet<u32> = self.image.zones.log_in_use.iter().copied().chain(packed).collect();
        for zone in data.intersection(&log).copied() {
            let place = LogPosition { zone, offset: 0 };
            self.say(Some((Region::Log, self.reading.log_offset(place))), None, Problem::ZoneShared(zone));
        }
    }

    /// Rebuilds the space as an open does, and compares it with what is reachable.
    fn space(&mut self) {
        let geometry = self.reading.identity.geometry;
        let mut space = Space::new(&geometry, self.reading.files.shared);
        let catalog = &self.image.catalog;
        let (others, live) = (&self.image.checkpoint_extents, catalog.packed_live_by_zone());
        if let Err(overlap) = space.rebuild(self.image.zones.clone(), catalog.contents(), others, &live) {
            let place = (Region::Data, self.reading.data_offset(overlap.0));
            return self.say(
                Some(place),
                None,
                Problem::Space(format!("an open would refuse it: {overlap}")),
            );
        }
        let used = space.used_extents();
        let mut reachable: Vec<Extent> = self.extents.iter().map(|(extent, _)| *extent).collect();
        reachable.sort_unstable();
        reachable.dedup();
        if used != reachable {
            let count = |extents: &[Extent]| extents.iter().map(|extent| extent.bytes()).sum::<u64>();
            let text = format!("{} bytes are in use, {} are reachable", count(&used), count(&reachable));
            self.say(None, None, Problem::Space(text));
        }
        let (used, free) = space.usage();
        let zones: u64 = match self.zoning() {
            Zoning::Apart => u64::from(self.image.zones.existing_data),
            _ => self.extents.iter().map(|(extent, _)| extent.zone).collect::<BTreeSet<_>>().len() as u64,
        };
        let there = zones * u64::from(geometry.zone_bytes);
        if used + free != there {
            let text = format!("{used} bytes in use and {free} free do not make up {there} in {zones} zones");
            self.say(None, None, Problem::Space(text));
        }
        if space.lost_zones() != 0 {
            let text = format!("{} zones are neither free nor in use", space.lost_zones());
            self.say(None, None, Problem::Space(text));
        }
    }

    /// The count that decides when a log zone is written over must be that of the records.
    fn packed_counts(&mut self) {
        let mut counted: BTreeMap<u32, u64> = BTreeMap::new();
        let catalog = &self.image.catalog;
        catalog.contents().for_each(|content| {
            packed_of(content, &mut |place, bytes| {
                *counted.entry(place.zone).or_default() += u64::from(bytes)
            });
        });
        let kept = catalog.packed_live_by_zone();
        if kept != counted {
            let text = format!("packed bytes by log zone are {kept:?}, counted {counted:?}");
            self.say(None, None, Problem::Space(text));
        }
    }

    fn name(&self, owner: Owner) -> Option<ObjectName> {
        let image = self.image;
        match owner {
            Owner::Checkpoint => None,
            Owner::Object(index) => image.objects().nth(index).map(|entry| {
                name_of(image, entry.bucket_id, &entry.key, Some(Version(entry.record.version.0)), None)
            }),
            Owner::Part(index, number) => image
                .uploads()
                .nth(index)
                .map(|upload| name_of(image, upload.record.bucket, &upload.record.key, None, Some(number))),
        }
    }

    fn words(&self, owner: Owner) -> String {
        self.name(owner).map_or("the checkpoint".to_owned(), |name| name.to_string())
    }
}

/// The checksum of the whole, from those of its blocks.
pub(super) fn combine(checksums: &[u64], bytes: u64, block_bytes: u64) -> u64 {
    let mut left = bytes;
    checksums.iter().fold(0, |whole, sum| {
        let here = left.min(block_bytes);
        left -= here;
        checksum_combine(whole, *sum, here)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        device::memory::MemoryDisk,
        handle::builder::Scaffold,
        layout::{
            BucketRecord, EntityTag, Entry, Geometry, Record, SecretKey, UNIT_BYTES, regions::Region as Place,
        },
        log::memory::LogMemory,
        shard::{Shard, ShardFiles, ShardIdentity},
    };
    use bytes::Bytes;
    use crossdock_transport::{operation::Queue, ring::DriverChoice};
    use std::rc::Rc;

    const ZONE_BYTES: u32 = 1 << 20;
    const BUCKET: BucketId = BucketId(1);
    const STORE: u128 = 7;

    struct Bench {
        _scaffold: Scaffold,
        reading: Reading,
        image: ShardImage,
        placement: Placement,
    }

    /// An empty shard with a bucket, two log zones and four data zones: the first of `shards`.
    fn bench(shards: u16) -> Bench {
        let scaffold = Scaffold::new(DriverChoice::Best, 32 << 20).unwrap();
        let (queue, core) = (Queue::new(16), scaffold.core.clone());
        let geometry = Geometry {
            shard_count: shards,
            zone_bytes: ZONE_BYTES,
            inline_bytes_max: 1024,
            packed_bytes_max: 1 << 18,
            zones_max: 16,
            mixed: true,
        };
        let log_bytes = Place::log_file(ZONE_BYTES).end(2);
        let log = Rc::new(MemoryDisk::new(log_bytes, 1 << 30).open(&queue));
        let data = Rc::new(MemoryDisk::new(4 * u64::from(ZONE_BYTES), 1 << 30).open(&queue));
        let files = ShardFiles::of_files(log, data, ZONE_BYTES);
        let identity = ShardIdentity { store: STORE, shard: 0, geometry, secret: SecretKey([3; 16]) };
        let memory = LogMemory::reserve(core.pool(), 1, 1).unwrap();
        core.block_on(Shard::format(identity, core.clone(), files.clone(), memory.share())).unwrap();
        let reading = Reading { identity, core: core.clone(), files, gate: None };
        let looked = reading.clone();
        let mut image = core.block_on(async move { ShardImage::read(&looked).await }).unwrap();
        image.catalog.apply(Entry::PutBucket(BucketRecord {
            bucket: BUCKET,
            name: "bucket".into(),
            created_ms: 0,
            attributes: Bytes::new(),
            versioning: Versioning::Never,
            documents: Default::default(),
            revision: 0,
        }));
        let placement = Placement::new(geometry, STORE, 1);
        Bench { _scaffold: scaffold, reading, image, placement }
    }

    impl Bench {
        fn put(&mut self, key: &str, content: Content, crc64: u64) {
            let record = Record {
                version: Version(key.len() as u64 + 1),
                null: true,
                delete_marker: false,
                size: content.bytes(),
                modified_ms: 0,
                crc64,
                etag: EntityTag::new(b"tag").unwrap(),
                attributes: Bytes::new(),
                content,
                upload: None,
            };
            self.image.catalog.apply(Entry::PutObject { bucket: BUCKET, key: key.as_bytes().into(), record });
        }

        /// What is found, with the keys it is about.
        fn found(&self) -> Vec<(Option<String>, Problem)> {
            let mut findings = Vec::new();
            check_claims(&self.reading, &self.image, &self.placement, &mut |finding| {
                assert_eq!((finding.shard, finding.severity), (Some(0), Severity::Damage));
                let key = finding.object.map(|object| String::from_utf8(object.key).unwrap());
                findings.push((key, finding.problem));
            });
            findings
        }
    }

    fn extent(zone: u32, unit: u16, order: u8) -> Extent {
        Extent { zone, unit, order }
    }

    /// One block in one unit of an extent, whose checksum is `sum`.
    fn in_extent(extent: Extent, sum: u64) -> Content {
        let bytes = extent.bytes();
        let sums = vec![sum; (bytes as usize).div_ceil(EXTENT_CHECKSUM_BYTES)];
        Content::Extents { extents: vec![extent], bytes, checksums: ChecksumTable::Here(sums) }
    }

    fn packed(zone: u32, offset: u32, bytes: u32, sum: u64) -> Content {
        Content::Packed { place: LogPosition { zone, offset }, bytes, checksums: vec![sum] }
    }

    /// Objects that lie side by side, in extents and packed, are no findings.
    #[test]
    fn side_by_side_is_sound() {
        let mut bench = bench(1);
        bench.put("a", in_extent(extent(0, 0, 0), 5), 5);
        bench.put("ab", in_extent(extent(0, 1, 0), 6), 6);
        bench.put("abc", packed(0, 4096, 100, 7), 7);
        bench.put("abcd", packed(0, 4196, 1, 8), 8);
        bench.put("abcde", Content::Inline(Bytes::from_static(b"123456789")), 0xae8b_1486_0a79_9888);
        assert_eq!(bench.found(), []);
    }

    /// Two objects in one place are found, whole or in part, and an open would refuse them.
    #[test]
    fn shared_bytes_are_found() {
        let mut bench = bench(1);
        let large = extent(1, 0, 2);
        bench.put("large", in_extent(large, 0), combine(&[0; 4], 4 * UNIT_BYTES as u64, UNIT_BYTES as u64));
        bench.put("in", in_extent(extent(1, 2, 0), 1), 1);
        bench.put("free", in_extent(extent(1, 4, 0), 1), 1);
        let found = bench.found();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].0.as_deref(), Some("in"));
        assert!(matches!(&found[0].1, Problem::ExtentShared { other, .. } if other.contains("bucket/large")));
        assert!(matches!(&found[1].1, Problem::Space(text) if text.contains("refuse")));

        let mut bench = self::bench(1);
        bench.put("a", packed(0, 4096, 200, 1), 1);
        bench.put("ab", packed(0, 4196, 10, 1), 1);
        bench.put("abc", packed(0, 4296, 10, 1), 1);
        let found = bench.found();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0.as_deref(), Some("ab"));
        assert!(matches!(&found[0].1, Problem::PackedShared { other, .. } if other.contains("bucket/a")));
    }

    /// What lies in no zone is found.
    #[test]
    fn places_outside_are_found() {
        let mut bench = bench(1);
        bench.put("a", in_extent(extent(4, 0, 0), 1), 1);
        bench.put("ab", in_extent(extent(0, 16, 0), 1), 1);
        bench.put("abc", packed(0, ZONE_BYTES - 5, 6, 1), 1);
        bench.put("abcd", packed(2, 0, 6, 1), 1);
        let found = bench.found();
        let keys: Vec<_> = found.iter().filter_map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, ["a", "ab", "abc", "abcd"]);
        assert!(matches!(found[0].1, Problem::ExtentOutside(at) if at == extent(4, 0, 0)));
        assert!(matches!(found[3].1, Problem::PackedOutside(at) if at.zone == 2));
    }

    /// A record whose checksums do not make up that of the whole, and one on the wrong shard, are found.
    #[test]
    fn contradictions_are_found() {
        let mut bench = bench(1);
        bench.put("a", in_extent(extent(0, 0, 0), 5), 6);
        bench.put("ab", Content::Inline(Bytes::from_static(b"123456789")), 1);
        let found = bench.found();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(matches!(found[0].1, Problem::Whole { expected: 6, found: 5 }));
        assert!(matches!(found[1].1, Problem::Whole { expected: 1, found: 0xae8b_1486_0a79_9888 }));

        let mut bench = self::bench(4);
        let key =
            (0..).map(|n| format!("{n}")).find(|key| bench.placement.shard_of("bucket", key.as_bytes()) == 3);
        bench.put(&key.unwrap(), Content::Empty, 0);
        assert!(matches!(bench.found()[..], [(Some(_), Problem::WrongShard { belongs: 3 })]));
    }
}
