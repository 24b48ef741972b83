//! `engine/docs/disk_format.md`, read by the tests: what it draws is what the code writes.
//!
//! Tables of fixed structures are compared with the structures, field by field. The bodies of entries, which have lengths of their own,
//! are read as the document says, and must come out to the byte.

use super::*;
use proptest::prelude::*;

const DOCUMENT: &str = include_str!("../../docs/disk_format.md");

/// A field of a structure: where it is, how long, its name in the code, and how its line in the document begins.
pub(super) type Field = (usize, usize, &'static str, &'static str);

/// Bytes of the field that the function borrows.
pub(super) fn field_bytes<T, F>(_: impl Fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The [`Field`]s of a structure: `fields!(Raw { magic: "magic", … })`.
macro_rules! fields {
    ($raw:ident { $($field:ident: $label:literal),+ $(,)? }) => {
        [$((
            std::mem::offset_of!($raw, $field),
            $crate::layout::document::field_bytes(|raw: &$raw| &raw.$field),
            stringify!($field),
            $label,
        )),+]
    };
}
pub(super) use fields;

/// What stands under a heading, up to the next of its rank or above.
fn section(heading: &str) -> &'static str {
    let rank = heading.split(' ').next().unwrap().len();
    let start = DOCUMENT.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let text = &DOCUMENT[start + heading.len() + 2..];
    let ends = |line: &str| line.starts_with('#') && line.split(' ').next().unwrap().len() <= rank;
    let bytes: usize = text.split_inclusive('\n').take_while(|line| !ends(line)).map(str::len).sum();
    &text[..bytes]
}

/// The rows of the only table of a section whose header begins so.
fn rows(section: &'static str, header: &str) -> Vec<Vec<&'static str>> {
    let mut lines = section.lines().skip_while(|line| !line.starts_with(&format!("| {header} |")));
    assert!(lines.next().is_some() && lines.next().is_some(), "no table of {header}");
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn number(text: &str) -> usize {
    text.replace(',', "").parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// A number as the document writes it.
fn written(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The table under the heading has these fields, in their order, and no other; together they are the structure.
pub(super) fn assert_fields(heading: &str, bytes: usize, fields: &[Field]) {
    let rows: Vec<_> = rows(section(heading), "Offset")
        .into_iter()
        // What follows the header is drawn in the same table, and has no size of its own.
        .filter(|row| row[1].starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    let mut end = 0;
    for (row, (offset, size, name, label)) in rows.iter().zip(fields) {
        assert_eq!((number(row[0]), number(row[1])), (*offset, *size), "{heading}: {name}");
        assert!(row[2].starts_with(label), "{heading}: {name} is {label:?}, and not {:?}", row[2]);
        assert_eq!(*offset, end, "{heading}: {name} does not follow the field before it");
        end += size;
    }
    assert_eq!((rows.len(), end), (fields.len(), bytes), "{heading}: as many fields, and no more bytes");
}

/// The row of a table whose first cell is this tag.
fn tagged(rows: Vec<Vec<&'static str>>, tag: u8) -> &'static str {
    let tag = tag.to_string();
    let row = rows.into_iter().find(|row| row[0] == tag).unwrap_or_else(|| panic!("no tag {tag}"));
    row.last().unwrap()
}

/// Takes fields off bytes, as the document describes them.
struct Walk<'a> {
    rest: &'a [u8],
    /// The last count, and the last length, that were read.
    count: usize,
    length: u64,
}

impl Walk<'_> {
    fn take(&mut self, bytes: usize) -> u64 {
        let (front, rest) =
            self.rest.split_at_checked(bytes).expect("the document asks for more bytes than there are");
        self.rest = rest;
        front.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn bytes(&mut self) {
        let bytes = self.take(4) as usize;
        self.take(bytes);
    }

    fn short(&mut self) {
        let bytes = self.take(1) as usize;
        self.take(bytes);
    }

    /// One structure by the anchor of its heading.
    fn named(&mut self, anchor: &str) {
        match anchor {
            "record" | "part" => self.sized(if anchor == "record" { "### Record" } else { "### Part" }),
            "content" => {
                let tag = self.take(1) as u8;
                self.body(tagged(rows(section("### Content"), "Tag"), tag));
            }
            "owner-of-a-packed-payload" => {
                let tag = self.take(1) as u8;
                self.body(tagged(rows(section("### Owner of a packed payload"), "Tag"), tag));
            }
            "extent" => {
                for row in rows(section("### Extent"), "Size") {
                    self.take(number(row[0]));
                }
            }
            "position-of-a-scrub" => {
                let text = section("### Position of a scrub").replace('\n', " ");
                let tag = self.take(1);
                assert!(text.contains(&format!(" {tag} ")), "{tag} in {text}");
                let (_, after) = text.split_once("After tag 2: ").unwrap();
                if tag == 2 {
                    self.body(after.split_once('.').unwrap().0);
                }
            }
            other => panic!("the document names no {other}"),
        }
    }

    /// A structure whose table has sizes.
    fn sized(&mut self, heading: &str) {
        let mut flags = 0;
        for row in rows(section(heading), "Size") {
            match row[0] {
                "" => self.linked(row[1]),
                "1 + n" => self.short(),
                "4 + n" => self.bytes(),
                "0 or 16" => {
                    let (_, flag) = row[1].split_once("if flag ").unwrap();
                    let flag: u64 = flag.split(' ').next().unwrap().parse().unwrap();
                    self.take(if flags & flag == 0 { 0 } else { 16 });
                }
                size => {
                    let value = self.take(number(size));
                    if row[1].starts_with("flags") {
                        flags = value;
                    }
                }
            }
        }
    }

    /// `[name](#anchor)`: once, or as often as the last count says if the name is of several.
    fn linked(&mut self, text: &str) {
        let (name, after) = text.split_once('[').unwrap().1.split_once("](#").unwrap();
        let anchor = after.split_once(')').unwrap().0;
        let count = if name.ends_with('s') { self.count } else { 1 };
        (0..count).for_each(|_| self.named(anchor));
    }

    /// Fields, one behind the other.
    fn body(&mut self, text: &str) {
        let mut items = text.split(" · ");
        while let Some(item) = items.next() {
            if let Some(first) = item.strip_prefix("of each: ") {
                let each: Vec<_> = std::iter::once(first).chain(items).collect();
                (0..self.count).for_each(|_| self.body(&each.join(" · ")));
                return;
            }
            self.item(item);
        }
    }

    fn item(&mut self, item: &str) {
        if let Some(version) = item.strip_prefix("as version ") {
            let version: u8 = version.parse().unwrap();
            return self.body(put_bucket(version));
        }
        if item.contains("](#") {
            return self.linked(item);
        }
        if let Some(each) = item.strip_prefix("CRC64 of each ") {
            let each = number(each.split(' ').next().unwrap()) as u64;
            let count = self.length.div_ceil(each);
            self.take(count as usize * 8);
            return;
        }
        match item {
            "" => return,
            "CRC64 of the table" => {
                self.take(8);
                return;
            }
            "extent of the table" => return self.named("extent"),
            "part numbers, u16 each" => {
                self.take(self.count * 2);
                return;
            }
            _ => {}
        }
        let before = self.rest.len();
        for word in item.split([' ', ',', ':', ';']) {
            match word {
                "*bytes*" => self.bytes(),
                "*short*" => self.short(),
                "u8" | "u16" | "u32" | "u64" | "u128" => {
                    let value = self.take(word[1..].parse::<usize>().unwrap() / 8);
                    if item.contains("count") {
                        self.count = value as usize;
                    } else if item.starts_with("length u") {
                        self.length = value;
                    }
                }
                _ => {}
            }
        }
        assert!(self.rest.len() < before, "{item:?} says no size");
    }
}

/// The body of a bucket's record in a version.
fn put_bucket(version: u8) -> &'static str {
    let wanted =
        if version == 1 { "`PutBucket`".to_owned() } else { format!("`PutBucket`, version {version}") };
    let mut rows = rows(section("## Entry"), "Tag").into_iter();
    rows.find(|row| row[1] == wanted).unwrap_or_else(|| panic!("no {wanted}"))[2]
}

/// The name of an entry in the code.
fn name_of(entry: &Entry) -> String {
    let text = format!("{entry:?}");
    text[..text.find(|byte: char| !byte.is_ascii_alphanumeric()).unwrap()].to_owned()
}

proptest! {
    #[test]
    fn entries_are_what_the_document_says(entry in testing::entry()) {
        // Shows that its grammar reads every entry to the last byte, under the tag that it gives.
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let mut walk = Walk { rest: &bytes, count: 0, length: 0 };
        for row in rows(section("## Entry"), "Offset").into_iter().filter(|row| !row[1].is_empty()) {
            let at = bytes.len() - walk.rest.len();
            prop_assert_eq!(at, number(row[0]));
            walk.take(number(row[1]));
        }
        let (length, tag, version) = (u32::from_le_bytes(*bytes.first_chunk().unwrap()), bytes[4], bytes[5]);
        prop_assert_eq!(length as usize, bytes.len());
        let row = rows(section("## Entry"), "Tag").into_iter().find(|row| row[0] == tag.to_string()).unwrap();
        prop_assert_eq!(row[1], format!("`{}`", name_of(&entry)));
        walk.body(if tag == 3 { put_bucket(version) } else { row[2] });
        prop_assert!(walk.rest.is_empty(), "{} bytes of {:?} are not told of", walk.rest.len(), entry);
    }
}

#[test]
fn bounds_are_what_the_document_says() {
    // Shows that each number it gives is the constant of the code.
    let text = DOCUMENT.replace('\n', " ");
    let w = |number: usize| written(number as u64);
    for sentence in [
        format!("A **block** is {} bytes", w(BLOCK_BYTES)),
        format!("A **unit** of extent allocation is {} bytes", w(UNIT_BYTES)),
        format!("a power of two, {} KiB to {} MiB", UNIT_BYTES >> 10, ZONE_BYTES_MAX >> 20),
        format!("| a power of two, {} to {} |", w(UNIT_BYTES), written(ZONE_BYTES_MAX.into())),
        format!("`shard_count`: shards of the store | 1 to {SHARDS_MAX} |"),
        format!("`device_count` | 1 to {SHARDS_MAX} |"),
        format!("objects up to this lie in the index | ≤ {} |", w(UNIT_BYTES)),
        format!(
            "`bytes` of the stream in this chunk | ≤ {} |",
            w(ZONE_BYTES_MAX as usize - ChunkHeader::BYTES)
        ),
        format!("`entry_bytes`, these four too | 6 to {} |", w(ENTRY_BYTES_MAX)),
        format!(
            "at most {} for a key, {} for attributes and documents",
            w(KEY_BYTES_MAX),
            w(ATTRIBUTES_BYTES_MAX)
        ),
        format!("document count u32, 1 to {DOCUMENTS_MAX}"),
        format!("at most {} for an entity tag, {} for a name", EntityTag::BYTES_MAX, u8::MAX),
        format!("at most {} parts", w(PARTS_MAX)),
        format!("log2 of the units | ≤ {} |", Extent::ORDER_MAX),
        format!("the end is at most unit {} |", ZONE_BYTES_MAX as usize / UNIT_BYTES),
        format!("CRC64 of each {} bytes, ⌈length ÷ {0}⌉ of them", w(PACKED_CHECKSUM_BYTES)),
        format!("CRC64 of each {} bytes, ⌈length ÷ {0}⌉ of them", w(EXTENT_CHECKSUM_BYTES)),
        format!("Format version {FORMAT_VERSION}."),
        format!("check value of `123456789` is `{:016x}`", checksum(b"123456789")),
    ] {
        assert!(text.contains(&sentence), "the document does not say {sentence:?}");
    }
    let roles = [
        (hash::Role::Anchor, "anchor"),
        (hash::Role::BatchHeader, "batch header"),
        (hash::Role::BatchEntries, "batch entries"),
        (hash::Role::ChunkHeader, "chunk header"),
        (hash::Role::ChunkPayload, "chunk stream"),
    ];
    let roles = roles.map(|(role, name)| format!("{} {name}", role as u64)).join(", ");
    assert!(text.contains(&format!("Roles: {roles}.")), "{roles}");
}

#[test]
fn places_are_what_the_document_says() {
    // Shows that copies, zones and windows lie where it puts them.
    let text = DOCUMENT.replace('\n', " ");
    let places = |offset: &dyn Fn(usize) -> u64| {
        let mut all: Vec<String> = (0..COPIES).map(|copy| written(offset(copy))).collect();
        let last = all.pop().unwrap();
        format!("{COPIES} copies, one block each, at {} and {last}", all.join(", "))
    };
    let zone_bytes = 1 << 20;
    let log = regions::Region::log_file(zone_bytes);
    for sentence in [
        places(&superblock_offset),
        format!("the file is {} bytes", written(regions::SUPERBLOCK_FILE_BYTES)),
        places(&anchor_offset),
        format!("log zone *n* at {} + *n* · `zone_bytes`", written(log.zone_offset(0))),
        format!("| {} + *i* · *w* |", written(regions::DEVICE_HEADER_BYTES)),
        format!("| {} | unused |", written(regions::SUPERBLOCK_FILE_BYTES)),
        format!(
            "*z* = ⌊(⌊(*D* − {}) ÷ *s*⌋ − {}) ÷ `zone_bytes`⌋ and *w* = {1} + *z* · `zone_bytes`",
            written(regions::DEVICE_HEADER_BYTES),
            written(regions::ANCHOR_REGION_BYTES)
        ),
    ] {
        assert!(text.contains(&sentence), "the document does not say {sentence:?}");
    }
    assert_eq!(log.zone_offset(3), log.zone_offset(0) + 3 * u64::from(zone_bytes));
    assert_eq!(regions::Region::data_file(zone_bytes).zone_offset(3), 3 * u64::from(zone_bytes));
    // The formula of windows, for devices of all sizes.
    for device_bytes in [3 << 20, 100 << 20, (1 << 30) + 4096, 1 << 40] {
        for shards in [1, 2, 3, 7] {
            let each = (device_bytes - regions::DEVICE_HEADER_BYTES) / u64::from(shards);
            let zones = each.saturating_sub(regions::ANCHOR_REGION_BYTES) / u64::from(zone_bytes);
            let window = regions::ANCHOR_REGION_BYTES + zones * u64::from(zone_bytes);
            for index in 0..shards {
                let found = regions::Region::window(device_bytes, shards, index, zone_bytes);
                assert_eq!(found.map_or(0, |(_, zones)| u64::from(zones)), zones);
                if let Some((region, _)) = found {
                    let start = regions::DEVICE_HEADER_BYTES + u64::from(index) * window;
                    assert_eq!(region.anchor_offset(0), start);
                }
            }
        }
    }
}
