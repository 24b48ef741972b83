//! Where a store lies: its files, how they are made and opened, and which shard and core a key belongs to.

pub(crate) mod directory;
pub(crate) mod format;
pub(crate) mod placement;
mod vacant;

pub(crate) use placement::Placement;
