//! The engine in a simulated world: any number of cores on one thread, a disk that loses what it may lose and fails as
//! disks fail, a clock that stands still until told. One seed gives one run, and the same run again.
//!
//! ```text
//!   seed ─► history: operations, troubles, ends of lives ─► run ─► report, or what did not hold
//!                                                            │ world: cores, disk, clock
//!                                                            │ client ─► engine ─► answer ─► knowledge
//! ```
//!
//! * [`world`] runs the cores and the disk, and crashes them.
//! * [`operation`] and [`history`] draw what happens; [`run`] lets it happen and checks.
//! * [`exhaustive`] goes through all short histories and all their crashes, instead of drawing some.
//! * [`shrink`] makes a history that fails small.
//! * [`bare`] is a core alone on disks in memory, to count what the engine costs.
//! * [`harm`] is what was done to which shard, and which answers that excuses.
//! * `care` is what the store's keeper asks for: the scrub, the end of old uploads; `damage` what befalls disks at rest; `room` how much
//!   there is of it.
//! * [`model`] is what a store is; [`knowledge`] what a client may expect of one; [`client`] does operations and judges the
//!   answers. [`readers`] read while other things happen; [`remote`] moves objects over a card that does not exist.

pub mod bare;
mod care;
pub mod client;
mod damage;
pub mod exhaustive;
pub mod harm;
pub mod history;
pub mod knowledge;
pub mod model;
mod opening;
pub mod operation;
pub mod readers;
pub mod remote;
mod report;
mod room;
pub mod run;
pub mod shrink;
mod uploads;
mod versions;
pub mod world;
