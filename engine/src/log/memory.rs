//! The memory that commits need, set aside at open.
//!
//! Writers hold leases until their commit is durable. If a commit then had to wait for a lease like any other, a pool
//! used up by writers would never move again.

use super::BATCH_BUFFER_BYTES;
use crate::reactor::Signal;
use crossdock_transport::memory::{BufferLease, FrozenLease, Pool};
use std::{cell::RefCell, rc::Rc};

/// Zeros that a log zone is filled with, in pieces of this size.
pub(crate) const ZERO_BYTES: usize = 64 * 1024;

/// Batch buffers and zeros of one core, shared by its shards. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogMemory(Rc<Reserve>);

struct Reserve {
    buffers: RefCell<Vec<BufferLease>>,
    returned: Signal,
    zeros: FrozenLease,
}

impl LogMemory {
    /// Bytes it takes from the pool for `buffer_count` batches in flight.
    pub(crate) fn bytes(buffer_count: usize) -> usize {
        buffer_count * BATCH_BUFFER_BYTES + ZERO_BYTES
    }

    /// Takes the memory from `pool`; none if it is not there.
    pub(crate) fn reserve(pool: &Pool, buffer_count: usize) -> Option<LogMemory> {
        let buffers: Option<Vec<BufferLease>> =
            (0..buffer_count).map(|_| pool.try_acquire(BATCH_BUFFER_BYTES)).collect();
        let mut zeros = pool.try_acquire(ZERO_BYTES)?;
        zeros.full_mut().fill(0);
        zeros.set_len(ZERO_BYTES);
        Some(LogMemory(Rc::new(Reserve {
            buffers: RefCell::new(buffers?),
            returned: Signal::default(),
            zeros: zeros.freeze(),
        })))
    }

    /// A batch buffer, when one is free. Give it back with [`LogMemory::give_back`].
    pub(crate) async fn buffer(&self) -> BufferLease {
        self.0.returned.wait(|| self.0.buffers.borrow_mut().pop()).await
    }

    /// Takes a batch's buffer back once its write is done and nothing else looks at it.
    pub(crate) fn give_back(&self, buffer: FrozenLease) {
        let Ok(buffer) = buffer.thaw() else {
            unreachable!("the write has completed and its pieces are dropped: this is the last view");
        };
        self.0.buffers.borrow_mut().push(buffer);
        self.0.returned.notify();
    }

    pub(crate) fn zeros(&self) -> &FrozenLease {
        &self.0.zeros
    }
}
