//! The time stamps that requests are signed with.
#![deny(clippy::indexing_slicing)]

use core::fmt;

const SECONDS_PER_DAY: u64 = 86_400;

/// An instant from 1970 to 9999 in whole seconds, written `20130524T000000Z` (ISO 8601 basic format, UTC).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    seconds: u64,
}

impl Timestamp {
    /// The instant `seconds` after 1970-01-01T00:00:00Z; what lies beyond the year 9999 becomes its last second.
    pub fn from_seconds(seconds: u64) -> Self {
        Timestamp { seconds: seconds.min(253_402_300_799) }
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// Reads `20130524T000000Z`.
    pub fn parse_basic(text: &[u8]) -> Option<Self> {
        let text: &[u8; 16] = text.try_into().ok()?;
        let [y0, y1, y2, y3, m0, m1, d0, d1, b'T', h0, h1, n0, n1, s0, s1, b'Z'] = *text else { return None };
        let year = number(&[y0, y1, y2, y3])?;
        Self::from_civil(
            year,
            number(&[m0, m1])?,
            number(&[d0, d1])?,
            number(&[h0, h1])?,
            number(&[n0, n1])?,
            number(&[s0, s1])?,
        )
    }

    /// Reads `Fri, 24 May 2013 00:00:00 GMT` (IMF-fixdate, RFC 9110 §5.6.7), with `+0000` or `UTC` for `GMT` as well.
    /// The day's name is not checked.
    pub fn parse_http_date(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        let (_, rest) = text.split_once(',')?;
        let mut words = rest.split_ascii_whitespace();
        let day = number(words.next()?.as_bytes())?;
        let month = match words.next()? {
            "Jan" => 1,
            "Feb" => 2,
            "Mar" => 3,
            "Apr" => 4,
            "May" => 5,
            "Jun" => 6,
            "Jul" => 7,
            "Aug" => 8,
            "Sep" => 9,
            "Oct" => 10,
            "Nov" => 11,
            "Dec" => 12,
            _ => return None,
        };
        let year = number(words.next()?.as_bytes())?;
        let mut clock = words.next()?.split(':');
        let mut next = || number(clock.next()?.as_bytes());
        let (hour, minute, second) = (next()?, next()?, next()?);
        if clock.next().is_some()
            || !matches!(words.next()?, "GMT" | "UTC" | "+0000")
            || words.next().is_some()
        {
            return None;
        }
        Self::from_civil(year, month, day, hour, minute, second)
    }

    fn from_civil(year: u64, month: u64, day: u64, hour: u64, minute: u64, second: u64) -> Option<Self> {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let month_days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        // A leap second (:60) is taken as the second behind it.
        if !(1970..=9999).contains(&year)
            || day == 0
            || day > month_days
            || hour > 23
            || minute > 59
            || second > 60
        {
            return None;
        }
        // Days since 1970-03-01's era, with years that begin in March so that the leap day comes last.
        let (march_year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = march_year * 365 + march_year / 4 - march_year / 100
            + march_year / 400
            + (153 * march_month + 2) / 5
            + day
            - 1;
        let days = days.checked_sub(719_468)?;
        Some(Self::from_seconds(days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second))
    }

    /// `[year, month, day]`.
    fn date(self) -> [u64; 3] {
        let days = self.seconds / SECONDS_PER_DAY + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        [era * 400 + year_of_era + u64::from(month <= 2), month, day]
    }

    /// The time stamp as it is written, ASCII.
    pub fn text(self) -> [u8; 16] {
        let [year, month, day] = self.date();
        let second = self.seconds % SECONDS_PER_DAY;
        let [y0, y1] = two_digits(year / 100);
        let [y2, y3] = two_digits(year % 100);
        let [m0, m1] = two_digits(month);
        let [d0, d1] = two_digits(day);
        let [h0, h1] = two_digits(second / 3600);
        let [n0, n1] = two_digits(second / 60 % 60);
        let [s0, s1] = two_digits(second % 60);
        [y0, y1, y2, y3, m0, m1, d0, d1, b'T', h0, h1, n0, n1, s0, s1, b'Z']
    }

    /// The day as a credential scope writes it: `20130524`.
    pub fn day(self) -> String {
        self.text().iter().take(8).map(|&byte| char::from(byte)).collect()
    }

    /// Whether `day` is this time's, as a credential scope writes it.
    pub(super) fn is_on(self, day: &str) -> bool {
        self.text().get(..8) == Some(day.as_bytes())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number under 100 as two digits.
fn two_digits(number: u64) -> [u8; 2] {
    let digit = |digit: u64| b'0' + (digit % 10) as u8;
    [digit(number / 10), digit(number)]
}

fn number(digits: &[u8]) -> Option<u64> {
    // Four digits are the most any field has; the bound keeps the arithmetic above from overflowing.
    if digits.len() > 4 { None } else { super::super::http::parse_decimal(digits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_are_read_and_written() {
        // Values from `date -u -d`, around leap days, in both notations.
        let table = [
            ("19700101T000000Z", "Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("20000229T235959Z", "Tue, 29 Feb 2000 23:59:59 UTC", 951_868_799),
            ("20130524T000000Z", "Fri, 24 May 2013 00:00:00 +0000", 1_369_353_600),
            ("21000301T000000Z", "Mon, 1 Mar 2100 00:00:00 GMT", 4_107_542_400),
        ];
        for (basic, http, seconds) in table {
            assert_eq!(Timestamp::parse_basic(basic.as_bytes()).map(Timestamp::seconds), Some(seconds));
            assert_eq!(Timestamp::parse_http_date(http.as_bytes()).map(Timestamp::seconds), Some(seconds));
            assert_eq!(Timestamp::from_seconds(seconds).to_string(), basic);
        }
        assert_eq!(Timestamp::from_seconds(951_868_799).day(), "20000229");
        assert_eq!(Timestamp::from_seconds(u64::MAX).to_string(), "99991231T235959Z");
        for bad in [
            "21000229T000000Z",
            "20131301T000000Z",
            "20130532T000000Z",
            "20130524T240000Z",
            "20130524T000000",
            "+0130524T000000Z",
        ] {
            assert_eq!(Timestamp::parse_basic(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parse_inverts_format(seconds in 0u64..253_402_300_800) {
            // Every second the type can hold survives the round trip.
            let stamp = Timestamp::from_seconds(seconds);
            prop_assert_eq!(Timestamp::parse_basic(stamp.to_string().as_bytes()), Some(stamp));
        }

        #[test]
        fn no_text_panics(text in "[A-Za-z]{0,3},? ?[0-9]{0,5} (May|Feb|X) [0-9]{0,5} [0-9:]{0,9} (GMT|UTC)", bytes in any::<[u8; 16]>()) {
            // Anything that looks like a date is one or is not.
            let _ = Timestamp::parse_http_date(text.as_bytes());
            let _ = Timestamp::parse_basic(&bytes);
        }
    }
}
