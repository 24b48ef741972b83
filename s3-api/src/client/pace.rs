//! How long a transfer may take, which the server has to be told: it begins nothing behind the time that it was given.

use crate::protocol::remote::{TIMEOUT_DEFAULT, TIMEOUT_MAX};
use std::time::Duration;

/// How long a client lets a transfer over a transport take: a time, and more for each byte. A server begins no operation behind that, and
/// where it hears nothing it takes five seconds, in which a link of 1 Gbit/s moves 600 MB.
///
/// What hangs is ended much earlier by a server that watches what completes, as ours does, and by a client that closes its
/// connection. So the time only has to be long enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// What any transfer may take. Default: five seconds.
    pub base: Duration,
    /// Bytes a second that are enough beyond that; 0 counts as 1. Default: 50 million, half of what a link of 1 Gbit/s brings.
    pub bytes_per_second: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { base: TIMEOUT_DEFAULT, bytes_per_second: 50_000_000 }
    }
}

impl Pace {
    /// How long so many bytes may take, in whole milliseconds: from one to the ten minutes that the protocol ends at.
    pub fn time(&self, bytes: u64) -> Duration {
        let milliseconds = u128::from(bytes) * 1_000 / u128::from(self.bytes_per_second.max(1));
        let milliseconds = milliseconds.saturating_add(self.base.as_millis());
        let milliseconds = milliseconds.clamp(1, TIMEOUT_MAX.as_millis());
        // Clamped to what fits.
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }

    /// What the server is to be told of `time`: nothing where it is what it takes by itself, or as good as that.
    pub(super) fn told(time: Duration) -> Option<String> {
        let is_usual = time.as_secs() == TIMEOUT_DEFAULT.as_secs();
        (!is_usual).then(|| time.as_millis().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_grows_with_the_bytes() {
        // Shows the default at sizes that matter, its end, and that no setting makes a time that the protocol has no words for.
        let pace = Pace::default();
        assert_eq!(pace.time(0), TIMEOUT_DEFAULT);
        assert_eq!(pace.time(50_000_000), TIMEOUT_DEFAULT + Duration::from_secs(1));
        assert_eq!(pace.time(6 << 30), Duration::from_millis(5_000 + 128_849));
        assert_eq!(pace.time(u64::MAX), TIMEOUT_MAX);
        let none = Pace { base: Duration::ZERO, bytes_per_second: 0 };
        assert_eq!((none.time(0), none.time(7)), (Duration::from_millis(1), Duration::from_secs(7)));
        assert_eq!(Pace { base: Duration::MAX, ..none }.time(u64::MAX), TIMEOUT_MAX);
        assert_eq!(Pace::told(pace.time(16 << 20)), None, "small objects pay for no header");
        assert_eq!(Pace::told(pace.time(100_000_000)).as_deref(), Some("7000"));
        assert_eq!(Pace::told(none.time(0)).as_deref(), Some("1"));
    }
}
