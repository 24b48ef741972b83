//! The arena as fixed buffers of io_uring.
//!
//! ```text
//!   arena    | 1 GiB | 1 GiB | rest |      a fixed buffer is at most 1 GiB
//!   index        0       1       2         = offset in the arena >> 30; no lease straddles two
//! ```
//!
//! Registering pins every page, so it is done once for a process: in a *template* ring, from which the rings of the cores
//! clone the table (kernel 6.12). The template is not `SINGLE_ISSUER`: from one that is, other threads' clones fail with
//! EEXIST. Older kernels register the arena once for each ring.
#![allow(unsafe_code)]

use crate::memory::Arena;
use io_uring::IoUring;
use std::{
    io,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// `SZ_1G`, the kernel's bound on a fixed buffer (`io_validate_user_buf_range` in io_uring/rsrc.c, Linux 6.18).
const SLICE_BITS: u32 = 30;

/// What one ring has registered. The arena is kept mapped, so that the addresses can not come to mean other memory.
pub(super) struct FixedBuffers {
    range: ArenaRange,
    arena: Arena,
    template: Option<Arc<Template>>,
}

/// A ring that does nothing but hold the table. Before the arena, so that it goes first.
struct Template {
    ring: IoUring,
    arena: Arena,
}

/// Addresses of a registered arena.
#[derive(Clone, Copy)]
struct ArenaRange {
    base: usize,
    bytes: usize,
}

impl FixedBuffers {
    /// Registers the arena with `ring`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn register(ring: &IoUring, arena: &Arena) -> io::Result<FixedBuffers> {
        let template = Template::of(arena)?;
        let cloned = ring.submitter().register_buffers_clone(template.ring.as_raw_fd());
        let template = match cloned {
            Ok(()) => Some(template),
            Err(error) => {
                tracing::debug!(%error, "the table of fixed buffers can not be cloned; registering it for this ring");
                drop(template);
                register(ring, arena)?;
                None
            }
        };
        Ok(FixedBuffers { range: ArenaRange::of(arena), arena: arena.clone(), template })
    }

    /// The fixed buffer that a piece of memory lies in.
    pub(super) fn index(&self, piece: &libc::iovec) -> Option<u16> {
        self.range.index(piece.iov_base as usize, piece.iov_len)
    }

    pub(super) fn is_of(&self, arena: &Arena) -> bool {
        self.arena.base() == arena.base()
    }

    pub(super) fn is_cloned(&self) -> bool {
        self.template.is_some()
    }
}

impl Template {
    /// The template of this arena: the one there is, or a new one.
    fn of(arena: &Arena) -> io::Result<Arc<Template>> {
        // Taken when rings start, never on a data path. Weak: the last ring gives the pages back.
        static TEMPLATES: Mutex<Vec<Weak<Template>>> = Mutex::new(Vec::new());
        let mut templates = TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
        templates.retain(|template| template.strong_count() > 0);
        // A template keeps its arena mapped: equal addresses mean the same arena.
        let known =
            templates.iter().filter_map(Weak::upgrade).find(|known| known.arena.base() == arena.base());
        if let Some(known) = known {
            return Ok(known);
        }
        let ring = IoUring::new(1)?;
        register(&ring, arena)?;
        let template = Arc::new(Template { ring, arena: arena.clone() });
        templates.push(Arc::downgrade(&template));
        Ok(template)
    }
}

fn register(ring: &IoUring, arena: &Arena) -> io::Result<()> {
    let slices: Vec<libc::iovec> = (0..arena.bytes())
        .step_by(1 << SLICE_BITS)
        .map(|offset| libc::iovec {
            iov_base: arena.base().wrapping_add(offset).cast(),
            iov_len: (arena.bytes() - offset).min(1 << SLICE_BITS),
        })
        .collect();
    // SAFETY: the slices are the arena's mapping, which is `bytes()` long from `base()`. Both callers keep the arena
    // mapped for as long as `ring` has them registered: `FixedBuffers` and `Template` hold it beside the ring.
    unsafe { ring.submitter().register_buffers(&slices) }
}

impl ArenaRange {
    fn of(arena: &Arena) -> ArenaRange {
        ArenaRange { base: arena.base() as usize, bytes: arena.bytes() }
    }

    fn index(&self, address: usize, bytes: usize) -> Option<u16> {
        let start = address.checked_sub(self.base)?;
        let last = start.checked_add(bytes.checked_sub(1)?)?;
        let one_slice = last < self.bytes && start >> SLICE_BITS == last >> SLICE_BITS;
        one_slice.then(|| u16::try_from(start >> SLICE_BITS).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_gibibyte_and_memory_elsewhere_has_none() {
        // Shows which fixed buffer a piece is found in, at every edge of a table of 2.5 GiB.
        const GIB: usize = 1 << SLICE_BITS;
        let range = ArenaRange { base: 4096, bytes: 2 * GIB + GIB / 2 };
        let index = |offset: usize, bytes| range.index(4096 + offset, bytes);
        assert_eq!(index(0, 1), Some(0));
        assert_eq!(index(GIB - 4096, 4096), Some(0));
        assert_eq!(index(GIB - 4096, 4097), None, "no buffer spans two slices");
        assert_eq!(index(GIB, 4096), Some(1));
        assert_eq!(index(2 * GIB + GIB / 2 - 1, 1), Some(2));
        assert_eq!(index(2 * GIB + GIB / 2 - 1, 2), None);
        assert_eq!(range.index(4095, 1), None);
        assert_eq!(range.index(4096, 0), None, "nothing needs no buffer");
        assert_eq!(range.index(usize::MAX, usize::MAX), None);
    }
}
