//! Object lock: what must not be deleted, and until when.
//!
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>.) A version may have a retention period, in one of two
//! modes, and a legal hold; each by itself keeps it. Nothing here forgets a lock: whoever can not read one must take it for held.

use super::error::{ErrorCode, S3Error};
use super::http::Headers;
use super::time::{format_iso8601, parse_iso8601};
use super::xml::{XmlReader, XmlWriter};

/// The longest of these documents, bytes.
pub const LOCK_BYTES_MAX: usize = 4 << 10;

const MILLISECONDS_PER_DAY: u64 = 86_400_000;
const DAYS_MAX: u32 = 36_500;
const YEARS_MAX: u32 = 100;
/// A year in days, as retention counts them.
const DAYS_PER_YEAR: u64 = 365;

/// How a retention period binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetentionMode {
    /// Users with a special permission can shorten or bypass it.
    Governance = 1,
    /// Nobody can, before it ends.
    Compliance = 2,
}

impl RetentionMode {
    /// The name in documents and headers.
    pub const fn name(self) -> &'static str {
        match self {
            RetentionMode::Governance => "GOVERNANCE",
            RetentionMode::Compliance => "COMPLIANCE",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &[u8]) -> Option<RetentionMode> {
        [RetentionMode::Governance, RetentionMode::Compliance]
            .into_iter()
            .find(|mode| mode.name().as_bytes() == name)
    }
}

/// A retention period of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How it binds.
    pub mode: RetentionMode,
    /// When it ends: milliseconds since 1970.
    pub until_ms: u64,
}

impl Retention {
    /// Whether it still binds.
    pub fn is_active(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }

    /// Reads a `Retention` document; an empty one takes the period away.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html>.)
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`.
    pub fn parse(document: &[u8]) -> Result<Option<Retention>, S3Error> {
        let mut xml = XmlReader::new(document, 16)?;
        xml.root("Retention")?;
        let (mut mode, mut until) = (None, None);
        while let Some(name) = xml.child()? {
            match name {
                "Mode" => set_once(&mut mode, xml.text()?)?,
                "RetainUntilDate" => set_once(&mut until, xml.text()?)?,
                _ => xml.skip()?,
            }
        }
        xml.finish()?;
        match (mode, until) {
            (None, None) => Ok(None),
            (Some(mode), Some(until)) => {
                let mode = RetentionMode::from_name(mode.trim_ascii().as_bytes()).ok_or_else(malformed)?;
                let until_ms = date(until.trim_ascii()).ok_or_else(malformed)?;
                Ok(Some(Retention { mode, until_ms }))
            }
            _ => Err(malformed()),
        }
    }

    /// The `Retention` document.
    pub fn document(&self) -> Vec<u8> {
        let mut xml = XmlWriter::root("Retention");
        xml.text("Mode", self.mode.name()).text("RetainUntilDate", &format_iso8601(self.until_ms));
        xml.finish()
    }

    /// Whether this may take the place of `old`, which is what the version has: a period that binds may grow; one in
    /// governance mode may become anything with `bypass`, also one in compliance mode, which may nothing but grow.
    ///
    /// A request extends a period with a date "that is later than the one currently configured for the object version";
    /// "When an object is locked in compliance mode, its retention mode can't be changed, and its retention period can't
    /// be shortened."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>, "Retention periods", "Retention modes".)
    pub fn may_replace(new: Option<Retention>, old: Option<Retention>, now_ms: u64, bypass: bool) -> bool {
        let Some(old) = old.filter(|old| old.is_active(now_ms)) else { return true };
        let grows = new.is_some_and(|new| new.mode == old.mode && new.until_ms >= old.until_ms);
        grows || (old.mode == RetentionMode::Governance && bypass)
    }
}

/// What keeps a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Its retention period.
    pub retention: Option<Retention>,
    /// Its legal hold: none if it never had one.
    pub legal_hold: Option<bool>,
}

impl Lock {
    /// Whether the version may be deleted. `bypass`: by somebody who may bypass governance mode, and says so.
    pub fn allows_delete(&self, now_ms: u64, bypass: bool) -> bool {
        let held = self.legal_hold == Some(true);
        let retained = self.retention.is_some_and(|retention| {
            retention.is_active(now_ms) && !(bypass && retention.mode == RetentionMode::Governance)
        });
        !held && !retained
    }

    /// Reads `x-amz-object-lock-mode`, `-retain-until-date` and `-legal-hold` of a request that writes.
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument`: unknown words, half of a retention, a date that is past.
    pub fn from_headers(headers: &Headers, now_ms: Option<u64>) -> Result<Lock, S3Error> {
        const MODE: &str = "x-amz-object-lock-mode";
        const DATE: &str = "x-amz-object-lock-retain-until-date";
        const HOLD: &str = "x-amz-object-lock-legal-hold";
        let refuse = |name: &'static str, message: &'static str| {
            let value = String::from_utf8_lossy(headers.first(name).unwrap_or_default()).into_owned();
            S3Error::invalid_argument(name, value, message)
        };
        let retention = match (headers.first(MODE), headers.first(DATE)) {
            (None, None) => None,
            (Some(mode), Some(until)) => {
                let mode = RetentionMode::from_name(mode)
                    .ok_or_else(|| refuse(MODE, "Unknown wormMode directive."))?;
                let until_ms = core::str::from_utf8(until).ok().and_then(date);
                let until_ms = until_ms.ok_or_else(|| {
                    refuse(DATE, "The retain until date must be provided in ISO 8601 format")
                })?;
                if now_ms.is_some_and(|now| until_ms <= now) {
                    return Err(refuse(DATE, "The retain until date must be in the future!"));
                }
                Some(Retention { mode, until_ms })
            }
            _ => {
                let message =
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied";
                return Err(refuse(MODE, message));
            }
        };
        let legal_hold = match headers.first(HOLD) {
            None => None,
            Some(b"ON") => Some(true),
            Some(b"OFF") => Some(false),
            Some(_) => return Err(refuse(HOLD, "Legal Hold must be either of 'ON' or 'OFF'")),
        };
        Ok(Lock { retention, legal_hold })
    }
}

/// Reads a `LegalHold` document.
///
/// # Errors
///
/// 400 `MalformedXML`.
pub fn parse_legal_hold(document: &[u8]) -> Result<bool, S3Error> {
    let mut xml = XmlReader::new(document, 16)?;
    xml.root("LegalHold")?;
    let mut status = None;
    while let Some(name) = xml.child()? {
        match name {
            "Status" => set_once(&mut status, xml.text()?)?,
            _ => xml.skip()?,
        }
    }
    xml.finish()?;
    match status.as_deref().map(str::trim_ascii) {
        Some("ON") => Ok(true),
        Some("OFF") => Ok(false),
        _ => Err(malformed()),
    }
}

/// The `LegalHold` document.
pub fn legal_hold_document(on: bool) -> Vec<u8> {
    let mut xml = XmlWriter::root("LegalHold");
    xml.text("Status", if on { "ON" } else { "OFF" });
    xml.finish()
}

/// How long new versions are retained that do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Days of 24 hours.
    Days(u32),
    /// Years of 365 days.
    Years(u32),
}

/// A bucket's lock configuration: that it has locks, and what new versions get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockConfiguration {
    /// What a new version gets that names no retention.
    pub default: Option<(RetentionMode, Period)>,
}

impl LockConfiguration {
    /// The retention of a version made now that names none.
    pub fn retention(&self, now_ms: u64) -> Option<Retention> {
        let (mode, period) = self.default?;
        let days = match period {
            Period::Days(days) => u64::from(days),
            Period::Years(years) => u64::from(years) * DAYS_PER_YEAR,
        };
        Some(Retention { mode, until_ms: now_ms.saturating_add(days * MILLISECONDS_PER_DAY) })
    }

    /// Reads an `ObjectLockConfiguration`.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html>.) "The DefaultRetention period can be
    /// either Days or Years but you must select one. You cannot specify Days and Years at the same time."
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`; `InvalidRetentionPeriod` for a period that is no positive number, or too long.
    pub fn parse(document: &[u8]) -> Result<LockConfiguration, S3Error> {
        let mut xml = XmlReader::new(document, 32)?;
        xml.root("ObjectLockConfiguration")?;
        let (mut enabled, mut rule) = (None, None);
        while let Some(name) = xml.child()? {
            match name {
                "ObjectLockEnabled" => set_once(&mut enabled, xml.text()?)?,
                "Rule" => {
                    let mut found = None;
                    while let Some(name) = xml.child()? {
                        match name {
                            "DefaultRetention" => set_once(&mut found, default_retention(&mut xml)?)?,
                            _ => xml.skip()?,
                        }
                    }
                    set_once(&mut rule, found.ok_or_else(malformed)?)?;
                }
                _ => xml.skip()?,
            }
        }
        xml.finish()?;
        match enabled.as_deref().map(str::trim_ascii) {
            Some("Enabled") => Ok(LockConfiguration { default: rule }),
            _ => Err(malformed()),
        }
    }

    /// The `ObjectLockConfiguration`.
    pub fn document(&self) -> Vec<u8> {
        let mut xml = XmlWriter::root("ObjectLockConfiguration");
        xml.text("ObjectLockEnabled", "Enabled");
        if let Some((mode, period)) = self.default {
            xml.open("Rule").open("DefaultRetention").text("Mode", mode.name());
            match period {
                Period::Days(days) => xml.value("Days", days),
                Period::Years(years) => xml.value("Years", years),
            };
        }
        xml.finish()
    }
}

fn default_retention(xml: &mut XmlReader<'_>) -> Result<(RetentionMode, Period), S3Error> {
    let (mut mode, mut days, mut years) = (None, None, None);
    while let Some(name) = xml.child()? {
        match name {
            "Mode" => set_once(&mut mode, xml.text()?)?,
            "Days" => set_once(&mut days, xml.text()?)?,
            "Years" => set_once(&mut years, xml.text()?)?,
            _ => xml.skip()?,
        }
    }
    let mode = mode.ok_or_else(malformed)?;
    let mode = RetentionMode::from_name(mode.trim_ascii().as_bytes()).ok_or_else(malformed)?;
    // A negative number is read as one, and refused: a cast would make it four thousand million days.
    let positive = |text: String, most: u32| {
        let number: i64 = text.trim_ascii().parse().map_err(|_| malformed())?;
        let number = u32::try_from(number).ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| {
            let message = "Default retention period must be a positive integer value.";
            S3Error::with_message(ErrorCode::InvalidRetentionPeriod, message)
        })
    };
    let period = match (days, years) {
        (Some(days), None) => Period::Days(positive(days, DAYS_MAX)?),
        (None, Some(years)) => Period::Years(positive(years, YEARS_MAX)?),
        _ => return Err(malformed()),
    };
    Ok((mode, period))
}

/// A date as documents and headers have it: with milliseconds, without, or with a zone of its own.
fn date(text: &str) -> Option<u64> {
    let Some(local) = text.strip_suffix("+00:00") else { return parse_iso8601(text.as_bytes()) };
    parse_iso8601(format!("{local}Z").as_bytes())
}

fn malformed() -> S3Error {
    ErrorCode::MalformedXml.into()
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), S3Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOVERNANCE: RetentionMode = RetentionMode::Governance;
    const COMPLIANCE: RetentionMode = RetentionMode::Compliance;

    #[test]
    fn a_lock_keeps_a_version() {
        // Each of period and hold by itself; governance yields to a bypass, compliance and a hold do not.
        let lock =
            |mode, until_ms, legal_hold| Lock { retention: Some(Retention { mode, until_ms }), legal_hold };
        assert!(Lock::default().allows_delete(0, false));
        assert!(!lock(GOVERNANCE, 10, None).allows_delete(9, false));
        assert!(lock(GOVERNANCE, 10, None).allows_delete(10, false));
        assert!(lock(GOVERNANCE, 10, Some(false)).allows_delete(9, true));
        assert!(!lock(GOVERNANCE, 10, Some(true)).allows_delete(11, true));
        assert!(!lock(COMPLIANCE, 10, None).allows_delete(9, true));
    }

    #[test]
    fn a_period_grows() {
        // What may take the place of what.
        let of = |mode, until_ms| Some(Retention { mode, until_ms });
        let may = |new, old, bypass| Retention::may_replace(new, old, 5, bypass);
        assert!(may(of(GOVERNANCE, 20), of(GOVERNANCE, 10), false));
        assert!(
            !may(of(COMPLIANCE, 10), of(GOVERNANCE, 10), false)
                && may(of(COMPLIANCE, 10), of(GOVERNANCE, 10), true)
        );
        assert!(!may(of(GOVERNANCE, 9), of(GOVERNANCE, 10), false));
        assert!(may(of(GOVERNANCE, 9), of(GOVERNANCE, 10), true));
        assert!(!may(None, of(GOVERNANCE, 10), false) && may(None, of(GOVERNANCE, 10), true));
        assert!(!may(of(GOVERNANCE, 20), of(COMPLIANCE, 10), true) && !may(None, of(COMPLIANCE, 10), true));
        assert!(may(None, of(COMPLIANCE, 5), false));
    }

    #[test]
    fn configurations_are_read_as_they_are_written() {
        // Days, years and none; both, neither, negative, none at all and unknown words are refused.
        for default in [None, Some((GOVERNANCE, Period::Days(1))), Some((COMPLIANCE, Period::Years(100)))] {
            let configuration = LockConfiguration { default };
            assert_eq!(LockConfiguration::parse(&configuration.document()), Ok(configuration));
        }
        let code = |rule: &str| {
            let document = format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                 {rule}</DefaultRetention></Rule></ObjectLockConfiguration>"
            );
            LockConfiguration::parse(document.as_bytes()).unwrap_err().code
        };
        let mode = "<Mode>GOVERNANCE</Mode>";
        assert_eq!(code(&format!("{mode}<Days>1</Days><Years>1</Years>")), ErrorCode::MalformedXml);
        assert_eq!(code(mode), ErrorCode::MalformedXml);
        assert_eq!(code("<Mode>governance</Mode><Days>1</Days>"), ErrorCode::MalformedXml);
        for bad in ["0", "-1", "36501", "4294967297"] {
            assert_eq!(
                code(&format!("{mode}<Days>{bad}</Days>")),
                ErrorCode::InvalidRetentionPeriod,
                "{bad}"
            );
        }
        assert!(LockConfiguration::parse(b"<ObjectLockConfiguration/>").is_err());
        let day = LockConfiguration { default: Some((GOVERNANCE, Period::Days(1))) };
        assert_eq!(day.retention(7), Some(Retention { mode: GOVERNANCE, until_ms: 86_400_007 }));
    }

    #[test]
    fn documents_of_versions() {
        // A period, none, half of one; a hold.
        let retention = Retention { mode: COMPLIANCE, until_ms: 1_893_456_000_000 };
        assert_eq!(Retention::parse(&retention.document()), Ok(Some(retention)));
        assert_eq!(Retention::parse(b"<Retention/>"), Ok(None));
        assert!(Retention::parse(b"<Retention><Mode>GOVERNANCE</Mode></Retention>").is_err());
        assert_eq!(parse_legal_hold(&legal_hold_document(true)), Ok(true));
        assert!(parse_legal_hold(b"<LegalHold><Status>on</Status></LegalHold>").is_err());
    }

    #[test]
    fn headers_name_a_lock() {
        // Whole, half, past, and unknown.
        let of = |fields: &[(&str, &str)]| {
            let mut headers = Headers::default();
            fields.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
            Lock::from_headers(&headers, Some(1_000_000_000_000))
        };
        let mode = ("x-amz-object-lock-mode", "GOVERNANCE");
        let until = |date| ("x-amz-object-lock-retain-until-date", date);
        let lock =
            of(&[mode, until("2030-01-01T00:00:00Z"), ("x-amz-object-lock-legal-hold", "ON")]).unwrap();
        assert_eq!(lock.retention.unwrap().until_ms, 1_893_456_000_000);
        assert_eq!(lock.legal_hold, Some(true));
        assert!(of(&[mode, until("2030-01-01T00:00:00+00:00")]).is_ok());
        for bad in [
            &[mode][..],
            &[until("2030-01-01T00:00:00Z")],
            &[mode, until("2001-01-01T00:00:00Z")],
            &[mode, until("soon")],
            &[("x-amz-object-lock-mode", "NONE"), until("2030-01-01T00:00:00Z")],
            &[("x-amz-object-lock-legal-hold", "on")],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
