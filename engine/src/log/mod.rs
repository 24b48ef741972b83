//! The commit log of a shard: what makes a change durable, and where packed objects live.
//!
//! ```text
//!   zone 3: │ batch 17 │ batch 18 │ batch 19 │ unused │      zone 7: │ batch 20 │ …
//!            front ‖ gathered payloads ‖ packed payloads ‖ back
//! ```
//!
//! * Batches are numbered without gaps and chained by hash; a batch never crosses a zone. When one does not fit, it
//!   starts the zone that every earlier header of this zone names as the next.
//! * Front and back hold the same header and entries, keyed with the store's secret: a client's payload between
//!   them can not imitate one, and one rotten copy is mended from the other.
//! * `durable_upto` in a header is the highest batch known to be durable when it was made; recovery tells rot from a
//!   torn tail by it (see [`recover`]).

pub(crate) mod build;
pub(crate) mod memory;
pub(crate) mod recover;
pub(crate) mod tail;

use crate::layout::Entry;
use crossdock_transport::memory::FrozenLease;

/// Most batches whose log writes are in flight at once.
pub(crate) const BATCHES_IN_FLIGHT_MAX: usize = 8;
/// The buffer of a batch: front, packed payloads and back together. One lease of the 256 KiB class.
pub(crate) const BATCH_BUFFER_BYTES: usize = 256 * 1024;
/// Most bytes an entry may encode to: front and back of one always fit the buffer.
pub(crate) const ENTRY_BYTES_MAX: usize = 96 * 1024;
/// Most gathered payload in one batch.
pub(crate) const GATHERED_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes a batch can have: what recovery must look past.
pub(crate) const BATCH_BYTES_MAX: usize = BATCH_BUFFER_BYTES + GATHERED_BYTES_MAX;

/// A change and the payload it packs, on the way into the log.
pub(crate) struct Proposal {
    pub(crate) entry: Entry,
    /// For content that is `Packed`: the bytes, zero padded to whole blocks. The entry says how many count.
    pub(crate) payload: Option<FrozenLease>,
    /// The entry points at data zones, which must be made durable before the log says so.
    pub(crate) touches_data: bool,
}
