//! An embedded object-storage engine.

pub mod device;
pub mod extent;
pub mod layout;
