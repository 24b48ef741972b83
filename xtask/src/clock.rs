//! The one file of this package that reads the clock, sleeps or starts a thread.
//!
//! The libraries take time as an argument; a program that drives real processes has to look at a real clock.

use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// The present moment.
#[allow(clippy::disallowed_methods)] // this is the file that may
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The present date and time.
#[allow(clippy::disallowed_methods)] // this is the file that may
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Blocks this thread for `duration`.
#[allow(clippy::disallowed_methods)] // this is the file that may
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Starts a thread.
#[allow(clippy::disallowed_methods)] // this is the file that may
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(work)
}
