//! Benchmarks, each a ratio against a yardstick taken in the same run.
//!
//! A bare time on a shared machine says nothing. A yardstick is run before and after each measurement, so that what
//! else the machine does falls on both, and what is printed is the ratio of the medians with its spread.

pub mod fio;
pub mod load;
pub mod machine;
pub mod peers;
pub mod plot;
pub mod ratio;
pub mod report;
pub mod server;
