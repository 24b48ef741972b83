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
        Version, checksum, checksum_combine,
    },
    shard::{catalog::packed_of, reading::Reading, space::Space},
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
        let (region, offset) = (place.map(|(region, _)| region), place.map(|(_, offset)| offset));
        (self.found)(Finding { shard, region, offset, object, severity: Severity::Damage, problem });
    }

    fn checkpoint(&mut self) {
        for extent in self.image.checkpoint_extents.clone() {
            self.claim_extent(extent, Owner::Checkpoint, &None);
        }
    }

    fn objects(&mut self) {
        let image = self.image;
        let mut counted: BTreeMap<BucketId, (u64, u64)> = BTreeMap::new();
        for (index, entry) in image.objects().enumerate() {
            let record = entry.record;
            let count = counted.entry(entry.bucket_id).or_default();
            *count = (count.0 + 1, count.1.saturating_add(record.size));
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
            if record.delete_marker && record.content != Content::Empty {
                self.say(None, name(None), Problem::Record("a delete marker has bytes"));
            }
            let whole = match &record.content {
                Content::Parts(parts) => {
                    for part in parts {
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
        for bucket in image.buckets() {
            let (versions, bytes) = counted.get(&bucket.record.bucket).copied().unwrap_or_default();
            let counts = [("versions", bucket.versions, versions), ("bytes", bucket.bytes, bytes)];
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
            && extent.zone < self.image.zones.existing_data;
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
        if end <= zone_bytes && place.zone < self.image.zones.existing_log {
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

    /// In a window of a device a zone holds log or data, never both.
    fn zones(&mut self) {
        if !self.image.is_shared() {
            return;
        }
        let data: BTreeSet<u32> = self.extents.iter().map(|(extent, _)| extent.zone).collect();
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
        let mut space = Space::new(geometry.zone_bytes, geometry.zones_max, self.image.is_shared());
        let catalog = &self.image.catalog;
        let (others, live) = (&self.image.checkpoint_extents, catalog.packed_live_by_zone());
        if let Err(overlap) = space.rebuild(self.image.zones.clone(), catalog.contents(), others, live) {
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
        if used != reachable {
            let count = |extents: &[Extent]| extents.iter().map(|extent| extent.bytes()).sum::<u64>();
            let text = format!("{} bytes are in use, {} are reachable", count(&used), count(&reachable));
            self.say(None, None, Problem::Space(text));
        }
        let (used, free) = space.usage();
        let zones: u64 = match self.image.is_shared() {
            true => self.extents.iter().map(|(extent, _)| extent.zone).collect::<BTreeSet<_>>().len() as u64,
            false => u64::from(self.image.zones.existing_data),
        };
        let there = zones * u64::from(geometry.zone_bytes);
        if used + free != there {
            let text = format!("{used} bytes in use and {free} free do not make up {there} in {zones} zones");
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
        let kept: BTreeMap<u32, u64> = catalog
            .packed_live_by_zone()
            .iter()
            .filter(|(_, bytes)| **bytes > 0)
            .map(|(z, b)| (*z, *b))
            .collect();
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
