//! The engine in a simulated world: any number of cores on one thread, a disk that loses what it may lose, a clock that
//! stands still until told. One seed gives one run, and the same run again.
//!
//! * [`world`] runs the cores and the disk, and crashes them.
//! * [`model`] is what the engine must look like from outside.
//! * [`run`] draws operations from a seed, does them to both, and compares.

pub mod model;
pub mod run;
pub mod world;
