//! Tests of the source tree as a whole.

mod architecture;
