//! An embedded object-storage engine.

pub mod extent;
pub mod layout;
