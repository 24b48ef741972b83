//! Memory windows: parts of a region that the other side reaches, each for as long as one exposure lasts.

#![allow(unsafe_code)]

use super::{
    error::RdmaError,
    sys::*,
    verbs::{Region, missing},
};
use std::{ffi::c_int, ptr::NonNull, sync::Arc};

/// A memory window of type 2: a part of a region, and who may do what there, changed without a call to the kernel.
pub(super) struct Window {
    region: Arc<Region>,
    window: NonNull<ibv_mw>,
}

impl Window {
    /// A window that is not bound.
    pub(super) fn new(region: Arc<Region>) -> Result<Window, RdmaError> {
        let domain = region.domain();
        let allocate = domain.context().ops().alloc_mw.ok_or_else(|| missing("ibv_alloc_mw"))?;
        // SAFETY: the domain exists, and is kept; the function is its driver's.
        let window = unsafe { allocate(domain.as_ptr(), IBV_MW_TYPE_2) };
        let window = NonNull::new(window).ok_or_else(|| RdmaError::last("ibv_alloc_mw"))?;
        Ok(Window { region, window })
    }

    /// For a request that binds it.
    pub(super) fn as_ptr(&self) -> *mut ibv_mw {
        self.window.as_ptr()
    }

    /// For a request that binds it.
    pub(super) fn region(&self) -> *mut ibv_mr {
        self.region.as_ptr()
    }

    /// What the other side names it by, once it is bound.
    pub(super) fn remote_key(&self) -> u32 {
        // SAFETY: the window exists; the key is changed in `bound` only, which is on this thread.
        unsafe { (*self.window.as_ptr()).rkey }
    }

    /// Notes that a bind under its next key was posted.
    pub(super) fn bound(&self) {
        let key = next_key(self.remote_key());
        // SAFETY: the window exists, and its memory is the library's heap, which nobody else looks at: work that names it has been
        // taken apart by the post. Drivers compare this key with their own at the next bind.
        unsafe { (*self.window.as_ptr()).rkey = key };
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let context = self.region.domain().context();
        // SAFETY: the window exists, and is deallocated once; the function is its driver's.
        let deallocate = |deallocate: unsafe extern "C" fn(*mut ibv_mw) -> c_int| unsafe {
            deallocate(self.window.as_ptr())
        };
        let result = context.ops().dealloc_mw.map_or(libc::ENOSYS, deallocate);
        if result != 0 {
            tracing::warn!(device = context.name(), result, "a memory window is leaked");
        }
    }
}

/// The next key of a window: the low 8 bits of a key are its user's to choose
/// (InfiniBand Architecture Specification 1.2.1, section 10.6.3.4).
pub(super) fn next_key(key: u32) -> u32 {
    (key & !0xff) | (key.wrapping_add(1) & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_window_go_round() {
        // Shows that only the low 8 bits change, and come back after 256.
        let mut key = 0x1234_56fe;
        for round in 0..256u32 {
            key = next_key(key);
            assert_eq!((key >> 8, key & 0xff), (0x12_3456, (0xff + round) & 0xff));
        }
        assert_eq!(key, 0x1234_56fe);
    }
}
