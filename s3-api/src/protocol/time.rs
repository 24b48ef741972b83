//! The two ways S3 writes instants: HTTP dates in headers, ISO 8601 in documents.
//!
//! No clock: instants are whole seconds or milliseconds since 1970-01-01T00:00:00Z, from there to the end of 9999.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// 1970-01-01 was a Thursday.
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const SECONDS_PER_DAY: u64 = 86_400;
/// 9999-12-31T23:59:59Z.
const SECONDS_MAX: u64 = 253_402_300_799;

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// The proleptic Gregorian calendar in eras of 400 years that begin on 1 March, so that the leap day comes last.
    fn from_seconds(seconds: u64) -> Civil {
        let seconds = seconds.min(SECONDS_MAX);
        let (days, rest) = (seconds / SECONDS_PER_DAY + 719_468, seconds % SECONDS_PER_DAY);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Civil {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// The seconds since 1970, or `None` if a field is out of its bounds. A leap second counts as the second before.
    fn seconds(&self) -> Option<u64> {
        let leap =
            self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let month_days = match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            _ => return None,
        };
        let in_bounds = (1970..=9999).contains(&self.year)
            && (1..=month_days).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60;
        if !in_bounds {
            return None;
        }
        let year = self.year - u64::from(self.month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let shifted_month = (self.month + 9) % 12;
        let day_of_year = (153 * shifted_month + 2) / 5 + self.day - 1;
        let days =
            era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
        Some(days * SECONDS_PER_DAY + self.hour * 3_600 + self.minute * 60 + self.second.min(59))
    }
}

fn number(text: &str, digits: core::ops::RangeInclusive<usize>) -> Option<u64> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn month_number(name: &str) -> Option<u64> {
    (1..).zip(MONTHS).find(|(_, month)| *month == name).map(|(number, _)| number)
}

fn clock(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(':').map(|part| number(part, 2..=2));
    let (Some(hour), Some(minute), Some(second), None) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    Some((hour, minute, second))
}

/// Reads an HTTP date in any of its three forms (RFC 9110 §5.6.7), as seconds since 1970.
///
/// ```text
///   Sun, 06 Nov 1994 08:49:37 GMT      IMF-fixdate
///   Sunday, 06-Nov-94 08:49:37 GMT     RFC 850
///   Sun Nov  6 08:49:37 1994           asctime
/// ```
///
/// The name of the day is not checked. A two-digit year is taken between 1970 and 2069: the specification's sliding
/// window needs a clock, and no instant before 1970 can be told here.
pub fn parse_http_date(text: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(text).ok()?;
    let words: Vec<&str> = text.split_ascii_whitespace().take(7).collect();
    let (day, month, year, time) = match words[..] {
        [_, day, month, year, time, "GMT" | "UTC" | "+0000"] => {
            (number(day, 1..=2)?, month_number(month)?, number(year, 4..=4)?, time)
        }
        [_, date, time, "GMT" | "UTC"] => {
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            let year = number(year, 2..=2)?;
            if parts.next().is_some() {
                return None;
            }
            (
                number(day, 2..=2)?,
                month_number(month)?,
                if year < 70 { 2000 + year } else { 1900 + year },
                time,
            )
        }
        [_, month, day, time, year] => {
            (number(day, 1..=2)?, month_number(month)?, number(year, 4..=4)?, time)
        }
        _ => return None,
    };
    let (hour, minute, second) = clock(time)?;
    Civil { year, month, day, hour, minute, second }.seconds()
}

/// Writes `Sun, 06 Nov 1994 08:49:37 GMT`; what lies behind the year 9999 becomes its last second.
pub fn format_http_date(seconds: u64) -> String {
    let seconds = seconds.min(SECONDS_MAX);
    let Civil { year, month, day, hour, minute, second } = Civil::from_seconds(seconds);
    // Both indices are in bounds: a remainder by seven, and a month from 1 to 12.
    let weekday = DAYS.get((seconds / SECONDS_PER_DAY % 7) as usize).unwrap_or(&"Thu");
    let month = MONTHS.get(month as usize - 1).unwrap_or(&"Jan");
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads `2009-10-12T17:50:30Z`, with or without a fraction of a second, as milliseconds since 1970. What is finer
/// than a millisecond is cut off.
pub fn parse_iso8601(text: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (year, month, day) = (number(year, 4..=4)?, number(month, 2..=2)?, number(day, 2..=2)?);
    let (hour, minute, second) = clock(time)?;
    number(fraction, 1..=9)?;
    let millisecond: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(Civil { year, month, day, hour, minute, second }.seconds()? * 1_000 + millisecond)
}

/// Writes `2009-10-12T17:50:30.000Z`, as S3 does in documents; what lies behind the year 9999 becomes its last second.
pub fn format_iso8601(milliseconds: u64) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::from_seconds(milliseconds / 1_000);
    let millisecond = milliseconds % 1_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_forms_name_one_instant() {
        // The examples of RFC 9110 §5.6.7.
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse_http_date(text.as_bytes()), Some(784_111_777), "{text}");
        }
        assert_eq!(format_http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format_http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format_http_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        // Days that do not exist, years before 1970, missing and surplus parts.
        for text in [
            "",
            "Sun, 29 Feb 2023 00:00:00 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:1 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sunday, 06-Nov-94-1 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
        for text in
            ["2009-10-12T17:50:30", "2009-13-12T17:50:30Z", "2009-10-12 17:50:30Z", "2009-10-12T17:50:30.Z"]
        {
            assert_eq!(parse_iso8601(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_http_date(b"Thu, 29 Feb 2024 23:59:60 GMT"), Some(1_709_251_199));
    }

    proptest! {
        #[test]
        fn parse_inverts_format(milliseconds in 0..253_402_300_800_000u64) {
            // Every instant survives both notations at their resolution.
            prop_assert_eq!(parse_iso8601(format_iso8601(milliseconds).as_bytes()), Some(milliseconds));
            let seconds = milliseconds / 1_000;
            prop_assert_eq!(parse_http_date(format_http_date(seconds).as_bytes()), Some(seconds));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..48), any in any::<u64>()) {
            // Any bytes are a date or are not, and any number formats.
            let _ = (parse_http_date(&bytes), parse_iso8601(&bytes), format_http_date(any), format_iso8601(any));
        }
    }
}
