//! An embedded object-storage engine.

pub mod layout;
