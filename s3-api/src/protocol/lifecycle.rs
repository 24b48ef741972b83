//! Lifecycle: when objects go by themselves.
//!
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html>.) Rules are read and judged here; acting on them
//! needs a store. Transitions to other storage classes are refused, as there are none.

use super::error::{ErrorCode, S3Error};
use super::http::Headers;
use super::tagging::{TagSet, tag};
use super::time::parse_iso8601;
use super::xml::{XmlReader, XmlWriter};

/// The longest document, bytes.
pub const LIFECYCLE_BYTES_MAX: usize = 256 << 10;
/// "An S3 Lifecycle configuration can have up to 1,000 rules." (*Lifecycle configuration elements*, as above.)
const RULES_MAX: usize = 1_000;
const ID_CHARACTERS_MAX: usize = 255;
const DAY_MS: u64 = 86_400_000;

/// When current versions expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// So many days after they were made.
    Days(u32),
    /// On a day: milliseconds since 1970, midnight UTC.
    Date(u64),
    /// Not; but a delete marker goes that hides nothing any more.
    DeleteMarker,
}

/// When noncurrent versions go for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoncurrentExpiration {
    /// So many days after they became noncurrent.
    pub days: u32,
    /// So many of the newest stay whatever their age.
    pub newer: u32,
}

/// Which objects a rule is about: all that fit every part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// How keys begin.
    pub prefix: String,
    /// Tags that objects have.
    pub tags: Vec<(String, String)>,
    /// Objects of more bytes.
    pub size_above: Option<u64>,
    /// Objects of fewer bytes.
    pub size_below: Option<u64>,
}

impl Filter {
    /// Whether it is about an object of this key, size and tags.
    pub fn matches(&self, key: &[u8], bytes: u64, tags: &TagSet) -> bool {
        key.starts_with(self.prefix.as_bytes())
            && self.size_above.is_none_or(|least| bytes > least)
            && self.size_below.is_none_or(|most| bytes < most)
            && self.tags.iter().all(|(key, value)| tags.value(key) == Some(value))
    }

    /// Whether anything but keys counts: what delete markers and uploads have not.
    pub fn is_prefix_only(&self) -> bool {
        self.tags.is_empty() && self.size_above.is_none() && self.size_below.is_none()
    }
}

/// How a rule names its objects; documents are given back as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `Prefix` in the rule itself, as older clients write it.
    Prefix,
    /// `Filter` with one part or none.
    One,
    /// `Filter` with `And`.
    And,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleRule {
    /// Its name, unique in the bucket; one is made where none is given.
    pub id: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// What it is about.
    pub filter: Filter,
    form: Form,
    /// What becomes of current versions.
    pub expiration: Option<Expiration>,
    /// What becomes of noncurrent ones.
    pub noncurrent: Option<NoncurrentExpiration>,
    /// Days after which an upload that is not complete is given up.
    pub abort_upload_days: Option<u32>,
}

/// Which small objects transitions leave alone by default. As there are no transitions it is only kept, for those who set it and compare.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>,
/// x-amz-transition-default-minimum-object-size.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransitionMinimum {
    /// Those below 128 KiB.
    #[default]
    AllStorageClasses128K,
    /// Those that the storage class says.
    VariesByStorageClass,
}

impl TransitionMinimum {
    /// The header that says it.
    pub const HEADER: &str = "x-amz-transition-default-minimum-object-size";

    /// What the header says.
    pub const fn name(self) -> &'static str {
        match self {
            TransitionMinimum::AllStorageClasses128K => "all_storage_classes_128K",
            TransitionMinimum::VariesByStorageClass => "varies_by_storage_class",
        }
    }

    /// Reads the header.
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument`.
    pub fn from_headers(headers: &Headers) -> Result<TransitionMinimum, S3Error> {
        let Some(value) = headers.first(TransitionMinimum::HEADER) else { return Ok(Self::default()) };
        TransitionMinimum::from_name(value).ok_or_else(|| {
            let message = "The value must be varies_by_storage_class or all_storage_classes_128K.";
            S3Error::invalid_argument(Self::HEADER, String::from_utf8_lossy(value), message)
        })
    }

    fn from_name(name: &[u8]) -> Option<TransitionMinimum> {
        [TransitionMinimum::AllStorageClasses128K, TransitionMinimum::VariesByStorageClass]
            .into_iter()
            .find(|known| known.name().as_bytes() == name)
    }
}

/// A bucket's rules: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleConfiguration {
    /// The rules.
    pub rules: Vec<LifecycleRule>,
    /// What a header beside the document says.
    pub transition_minimum: TransitionMinimum,
}

/// The element of a stored document that holds [`LifecycleConfiguration::transition_minimum`], if it is not the default.
const MINIMUM_ELEMENT: &str = "TransitionDefaultMinimumObjectSize";

/// The first midnight UTC that is not before `since_ms` and `days`.
///
/// "Amazon S3 calculates the time by adding the number of days specified in the rule to the object creation time and rounding up
/// the resulting time to the next day at midnight UTC."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html>, "Lifecycle rules: Based on an object's age".)
pub fn due_ms(since_ms: u64, days: u32) -> u64 {
    since_ms.saturating_add(u64::from(days) * DAY_MS).div_ceil(DAY_MS).saturating_mul(DAY_MS)
}

impl LifecycleConfiguration {
    /// Reads a `LifecycleConfiguration`.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>.)
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`, `InvalidArgument`, `InvalidRequest`; 501 `NotImplemented` for transitions.
    pub fn parse(document: &[u8]) -> Result<LifecycleConfiguration, S3Error> {
        let mut xml = XmlReader::new(document, 40_000)?;
        xml.root("LifecycleConfiguration")?;
        let mut rules: Vec<LifecycleRule> = Vec::new();
        let mut minimum = None;
        while let Some(name) = xml.child()? {
            match name {
                "Rule" if rules.len() >= RULES_MAX => return Err(malformed()),
                "Rule" => rules.push(rule(&mut xml)?),
                MINIMUM_ELEMENT => once(&mut minimum, xml.text()?)?,
                _ => xml.skip()?,
            }
        }
        xml.finish()?;
        if rules.is_empty() {
            return Err(malformed());
        }
        for index in 0..rules.len() {
            let Some((before, [rule, ..])) = rules.split_at_mut_checked(index) else { break };
            if rule.id.is_empty() {
                rule.id = made_id(document, index);
            }
            if before.iter().any(|other| other.id == rule.id) {
                let message = "Rule ID must be unique. Found same ID for more than one rule";
                return Err(S3Error::invalid_argument("ID", rule.id.clone(), message));
            }
        }
        let minimum = minimum.map(|name| TransitionMinimum::from_name(name.as_bytes()).ok_or_else(malformed));
        Ok(LifecycleConfiguration { rules, transition_minimum: minimum.transpose()?.unwrap_or_default() })
    }

    /// The `LifecycleConfiguration`.
    pub fn document(&self) -> Vec<u8> {
        let mut xml = XmlWriter::root("LifecycleConfiguration");
        self.rules.iter().for_each(|rule| rule.write(&mut xml));
        xml.finish()
    }

    /// The document with what is no part of it, for [`LifecycleConfiguration::parse`].
    pub fn stored(&self) -> Vec<u8> {
        let mut xml = XmlWriter::root("LifecycleConfiguration");
        self.rules.iter().for_each(|rule| rule.write(&mut xml));
        if self.transition_minimum != TransitionMinimum::default() {
            xml.text(MINIMUM_ELEMENT, self.transition_minimum.name());
        }
        xml.finish()
    }

    /// When an upload to a key, begun then, is given up, and by which rule: the earliest of all.
    pub fn aborts(&self, key: &[u8], created_ms: u64) -> Option<(u64, &str)> {
        let rules = self.rules.iter().filter(|rule| rule.enabled);
        let rules = rules.filter(|rule| key.starts_with(rule.filter.prefix.as_bytes()));
        let due =
            rules.filter_map(|rule| Some((due_ms(created_ms, rule.abort_upload_days?), rule.id.as_str())));
        due.min_by_key(|(due, _)| *due)
    }

    /// When the current version of a key expires, and by which rule: the earliest of all.
    pub fn expires(&self, key: &[u8], bytes: u64, tags: &TagSet, modified_ms: u64) -> Option<(u64, &str)> {
        let rules = self.rules.iter().filter(|rule| rule.enabled && rule.filter.matches(key, bytes, tags));
        let due = rules.filter_map(|rule| {
            let due = match rule.expiration? {
                Expiration::Days(days) => due_ms(modified_ms, days),
                Expiration::Date(date) => date,
                Expiration::DeleteMarker => return None,
            };
            Some((due, rule.id.as_str()))
        });
        due.min_by_key(|(due, _)| *due)
    }
}

impl LifecycleRule {
    fn write(&self, xml: &mut XmlWriter) {
        xml.open("Rule").text("ID", &self.id);
        match self.form {
            Form::Prefix => {
                xml.text("Prefix", &self.filter.prefix);
            }
            Form::One | Form::And => {
                xml.open("Filter");
                let is_bare = self.filter == Filter::default();
                if self.form == Form::And {
                    xml.open("And");
                }
                if !self.filter.prefix.is_empty() || is_bare {
                    xml.text("Prefix", &self.filter.prefix);
                }
                for (key, value) in &self.filter.tags {
                    xml.open("Tag").text("Key", key).text("Value", value).close();
                }
                for (name, bytes) in [
                    ("ObjectSizeGreaterThan", self.filter.size_above),
                    ("ObjectSizeLessThan", self.filter.size_below),
                ] {
                    if let Some(bytes) = bytes {
                        xml.value(name, bytes);
                    }
                }
                if self.form == Form::And {
                    xml.close();
                }
                xml.close();
            }
        }
        xml.text("Status", if self.enabled { "Enabled" } else { "Disabled" });
        if let Some(expiration) = self.expiration {
            xml.open("Expiration");
            match expiration {
                Expiration::Days(days) => xml.value("Days", days),
                Expiration::Date(ms) => xml.text("Date", &super::time::format_iso8601(ms)),
                Expiration::DeleteMarker => xml.value("ExpiredObjectDeleteMarker", true),
            };
            xml.close();
        }
        if let Some(noncurrent) = self.noncurrent {
            xml.open("NoncurrentVersionExpiration").value("NoncurrentDays", noncurrent.days);
            if noncurrent.newer > 0 {
                xml.value("NewerNoncurrentVersions", noncurrent.newer);
            }
            xml.close();
        }
        if let Some(days) = self.abort_upload_days {
            xml.open("AbortIncompleteMultipartUpload").value("DaysAfterInitiation", days).close();
        }
        xml.close();
    }
}

/// Names a rule that has no name: the same document gets the same.
fn made_id(document: &[u8], index: usize) -> String {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, document);
    format!("{sum:016x}{index:04}")
}

fn rule(xml: &mut XmlReader<'_>) -> Result<LifecycleRule, S3Error> {
    let (mut id, mut status, mut prefix, mut filter) = (None, None, None, None);
    let (mut expiration, mut noncurrent, mut abort_upload_days) = (None, None, None);
    while let Some(name) = xml.child()? {
        match name {
            "ID" => once(&mut id, xml.text()?)?,
            "Status" => once(&mut status, xml.text()?)?,
            "Prefix" => once(&mut prefix, xml.text()?)?,
            "Filter" => once(&mut filter, read_filter(xml)?)?,
            "Expiration" => once(&mut expiration, read_expiration(xml)?)?,
            "NoncurrentVersionExpiration" => once(&mut noncurrent, read_noncurrent(xml)?)?,
            "AbortIncompleteMultipartUpload" => once(&mut abort_upload_days, read_abort(xml)?)?,
            "Transition" | "NoncurrentVersionTransition" => return Err(refused_transition(xml)),
            // What is not understood might be what keeps an object.
            _ => return Err(malformed()),
        }
    }
    let id = id.unwrap_or_default();
    if id.chars().count() > ID_CHARACTERS_MAX {
        return Err(S3Error::invalid_argument("ID", id, "ID length should not exceed allowed limit of 255"));
    }
    let enabled = match status.as_deref() {
        Some("Enabled") => true,
        Some("Disabled") => false,
        _ => return Err(malformed()),
    };
    let (filter, form) = match (prefix, filter) {
        (Some(prefix), None) => (Filter { prefix, ..Filter::default() }, Form::Prefix),
        (None, Some(filter)) => filter,
        _ => return Err(malformed()),
    };
    if expiration.is_none() && noncurrent.is_none() && abort_upload_days.is_none() {
        let message = "At least one action needs to be specified in a rule";
        return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
    }
    let by_more = !filter.is_prefix_only();
    if by_more && (abort_upload_days.is_some() || expiration == Some(Expiration::DeleteMarker)) {
        let message = "AbortIncompleteMultipartUpload and ExpiredObjectDeleteMarker cannot be specified with tags or sizes";
        return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
    }
    Ok(LifecycleRule { id, enabled, filter, form, expiration, noncurrent, abort_upload_days })
}

fn read_filter(xml: &mut XmlReader<'_>) -> Result<(Filter, Form), S3Error> {
    let (mut filter, mut form, mut parts) = (Filter::default(), Form::One, 0);
    while let Some(name) = xml.child()? {
        parts += 1;
        if name == "And" {
            form = Form::And;
            while let Some(name) = xml.child()? {
                filter_part(xml, name, &mut filter)?;
            }
        } else {
            filter_part(xml, name, &mut filter)?;
        }
    }
    // "A Filter can have exactly one of Prefix, Tag, ObjectSizeGreaterThan, ObjectSizeLessThan, or And specified. If the
    // Filter element is left empty, the Lifecycle Rule applies to all objects in the bucket."
    // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRuleFilter.html>.)
    if parts > 1 { Err(malformed()) } else { Ok((filter, form)) }
}

fn filter_part(xml: &mut XmlReader<'_>, name: &str, filter: &mut Filter) -> Result<(), S3Error> {
    match name {
        "Prefix" => filter.prefix = xml.text()?,
        "Tag" => filter.tags.push(tag(xml)?),
        "ObjectSizeGreaterThan" => filter.size_above = Some(bytes(&xml.text()?)?),
        "ObjectSizeLessThan" => filter.size_below = Some(bytes(&xml.text()?)?),
        _ => return Err(malformed()),
    }
    Ok(())
}

/// Why a transition is not taken: what can not be read is told before that there are none.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Transition.html>.)
fn refused_transition(xml: &mut XmlReader<'_>) -> S3Error {
    let mut read = || -> Result<(), S3Error> {
        while let Some(name) = xml.child()? {
            match name {
                "Date" => drop(midnight(xml.text()?.trim_ascii())?),
                "Days" | "NoncurrentDays" | "NewerNoncurrentVersions" => drop(bytes(&xml.text()?)?),
                "StorageClass" => drop(xml.text()?),
                _ => return Err(malformed()),
            }
        }
        Ok(())
    };
    let message = "Transitions to other storage classes are not implemented.";
    read().err().unwrap_or_else(|| S3Error::with_message(ErrorCode::NotImplemented, message))
}

fn read_expiration(xml: &mut XmlReader<'_>) -> Result<Expiration, S3Error> {
    let (mut days, mut date, mut marker) = (None, None, None);
    while let Some(name) = xml.child()? {
        match name {
            "Days" => once(&mut days, positive("Days", &xml.text()?)?)?,
            "Date" => once(&mut date, midnight(xml.text()?.trim_ascii())?)?,
            "ExpiredObjectDeleteMarker" => once(
                &mut marker,
                match xml.text()?.trim_ascii() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(malformed()),
                },
            )?,
            _ => return Err(malformed()),
        }
    }
    match (days, date, marker) {
        (Some(days), None, None) => Ok(Expiration::Days(days)),
        (None, Some(date), None) => Ok(Expiration::Date(date)),
        (None, None, Some(true)) => Ok(Expiration::DeleteMarker),
        _ => Err(malformed()),
    }
}

fn read_noncurrent(xml: &mut XmlReader<'_>) -> Result<NoncurrentExpiration, S3Error> {
    let (mut days, mut newer) = (None, None);
    while let Some(name) = xml.child()? {
        match name {
            "NoncurrentDays" => once(&mut days, positive("NoncurrentDays", &xml.text()?)?)?,
            "NewerNoncurrentVersions" => {
                once(&mut newer, positive("NewerNoncurrentVersions", &xml.text()?)?)?
            }
            _ => return Err(malformed()),
        }
    }
    Ok(NoncurrentExpiration { days: days.ok_or_else(malformed)?, newer: newer.unwrap_or(0) })
}

fn read_abort(xml: &mut XmlReader<'_>) -> Result<u32, S3Error> {
    let mut days = None;
    while let Some(name) = xml.child()? {
        match name {
            "DaysAfterInitiation" => once(&mut days, positive("DaysAfterInitiation", &xml.text()?)?)?,
            _ => return Err(malformed()),
        }
    }
    days.ok_or_else(malformed)
}

/// A positive number. A negative one is refused as one, not cast.
fn positive(name: &'static str, text: &str) -> Result<u32, S3Error> {
    let number: i64 = text.trim_ascii().parse().map_err(|_| malformed())?;
    let number = u32::try_from(number).ok().filter(|number| (1..=i32::MAX as u32).contains(number));
    number
        .ok_or_else(|| S3Error::invalid_argument(name, text, format!("'{name}' must be a positive integer")))
}

fn bytes(text: &str) -> Result<u64, S3Error> {
    text.trim_ascii().parse().map_err(|_| malformed())
}

/// "The time is always midnight UTC." (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleExpiration.html>, Date.) A
/// date without a time is taken as well.
fn midnight(text: &str) -> Result<u64, S3Error> {
    let utc = text.strip_suffix("+00:00").map(|local| format!("{local}Z"));
    let whole =
        if text.contains('T') { utc.unwrap_or_else(|| text.to_owned()) } else { format!("{text}T00:00:00Z") };
    let ms = parse_iso8601(whole.as_bytes()).ok_or_else(malformed)?;
    match ms % DAY_MS {
        0 => Ok(ms),
        _ => Err(S3Error::invalid_argument("Date", text, "'Date' must be at midnight GMT")),
    }
}

fn malformed() -> S3Error {
    ErrorCode::MalformedXml.into()
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), S3Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rules: &str) -> Result<LifecycleConfiguration, ErrorCode> {
        let document = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        LifecycleConfiguration::parse(document.as_bytes()).map_err(|error| error.code)
    }

    fn one(filter: &str, action: &str) -> String {
        format!("<Rule><ID>r</ID>{filter}<Status>Enabled</Status>{action}</Rule>")
    }

    const DAY: &str = "<Expiration><Days>1</Days></Expiration>";

    #[test]
    fn rules_are_read_as_they_are_written() {
        // Every form of filter and every action.
        let filters = [
            "<Prefix>a/</Prefix>",
            "<Filter><Prefix>a/</Prefix></Filter>",
            "<Filter/>",
            "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>",
            "<Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>",
        ];
        let actions = [
            DAY,
            "<Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration>",
            "<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays><NewerNoncurrentVersions>3</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
        ];
        for (filter, action) in
            filters.iter().flat_map(|filter| actions.iter().map(move |action| (filter, action)))
        {
            let read = parse(&one(filter, action)).unwrap();
            assert_eq!(LifecycleConfiguration::parse(&read.document()), Ok(read.clone()));
            assert_eq!(read.stored(), read.document());
            let transition_minimum = TransitionMinimum::VariesByStorageClass;
            let varies = LifecycleConfiguration { transition_minimum, ..read };
            assert_eq!(LifecycleConfiguration::parse(&varies.stored()), Ok(varies));
        }
        for action in [
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
        ] {
            assert!(parse(&one(filters[0], action)).is_ok());
            assert_eq!(parse(&one(filters[3], action)), Err(ErrorCode::InvalidRequest));
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        // Names, states, numbers, dates, unknown elements, transitions.
        let prefix = "<Prefix/>";
        for (rules, code) in [
            (String::new(), ErrorCode::MalformedXml),
            (one(prefix, DAY).replace("Enabled", "enabled"), ErrorCode::MalformedXml),
            (one(prefix, DAY).repeat(2), ErrorCode::InvalidArgument),
            (
                one(prefix, DAY).replace("<ID>r", &format!("<ID>{}", "r".repeat(256))),
                ErrorCode::InvalidArgument,
            ),
            (one(prefix, &DAY.replace('1', "0")), ErrorCode::InvalidArgument),
            (one(prefix, &DAY.replace('1', "-1")), ErrorCode::InvalidArgument),
            (one(prefix, &DAY.replace('1', "x")), ErrorCode::MalformedXml),
            (one(prefix, "<Expiration><Date>20200101</Date></Expiration>"), ErrorCode::MalformedXml),
            (
                one(prefix, "<Expiration><Date>2020-01-01T01:00:00Z</Date></Expiration>"),
                ErrorCode::InvalidArgument,
            ),
            (one(prefix, "<Expiration/>"), ErrorCode::MalformedXml),
            (one(prefix, ""), ErrorCode::InvalidRequest),
            (one("", DAY), ErrorCode::MalformedXml),
            (one(prefix, &format!("{DAY}<Keep/>")), ErrorCode::MalformedXml),
            (one(prefix, "<Transition><Days>1</Days></Transition>"), ErrorCode::NotImplemented),
            (one(prefix, "<Transition><Date>20200101</Date></Transition>"), ErrorCode::MalformedXml),
        ] {
            assert_eq!(parse(&rules), Err(code), "{rules}");
        }
        let unnamed = one(prefix, DAY).replace("<ID>r</ID>", "");
        let ids: Vec<String> =
            parse(&unnamed.repeat(2)).unwrap().rules.into_iter().map(|rule| rule.id).collect();
        assert!(!ids[0].is_empty() && ids[0] != ids[1]);
    }

    #[test]
    fn objects_expire_at_midnight() {
        // Rounded up to the next day; the earliest rule counts; filters leave others alone.
        assert_eq!(due_ms(0, 1), DAY_MS);
        assert_eq!(due_ms(1, 1), 2 * DAY_MS);
        let rules = one("<Filter><ObjectSizeGreaterThan>10</ObjectSizeGreaterThan></Filter>", DAY)
            + &one("<Prefix>p/</Prefix>", "<Expiration><Days>5</Days></Expiration>").replace(">r<", ">s<");
        let lifecycle = parse(&rules).unwrap();
        let tags = TagSet::default();
        assert_eq!(lifecycle.expires(b"p/x", 11, &tags, 0), Some((DAY_MS, "r")));
        assert_eq!(lifecycle.expires(b"p/x", 10, &tags, 0), Some((5 * DAY_MS, "s")));
        assert_eq!(lifecycle.expires(b"x", 10, &tags, 0), None);
        assert_eq!(lifecycle.aborts(b"p/x", 0), None);
        let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
        let uploads = one("<Filter/>", &abort.replace('2', "3"))
            + &one("<Prefix>p/</Prefix>", abort).replace(">r<", ">s<")
            + &one("<Filter/>", &abort.replace('2', "1"))
                .replace(">r<", ">t<")
                .replace("Enabled", "Disabled");
        let uploads = parse(&uploads).unwrap();
        assert_eq!(uploads.aborts(b"p/x", 1), Some((3 * DAY_MS, "s")));
        assert_eq!(uploads.aborts(b"x", 0), Some((3 * DAY_MS, "r")));
    }
}
