//! The memory that commits need, set aside at open.
//!
//! Writers hold leases until their commit is durable. If a commit then had to wait for a lease like any other, a pool
//! used up by writers would never move again.
//!
//! One buffer is kept for each shard, and the rest goes to whoever asks first: a shard whose device hangs keeps what it has for ever,
//! and the others of its core go on with theirs.

use super::{BATCH_BUFFER_BYTES, BATCHES_IN_FLIGHT_MAX};
use crate::reactor::Signal;
use crossdock_transport::memory::{BufferLease, FrozenLease, Pool};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// Zeros that a log zone is filled with, in pieces of this size.
pub(crate) const ZERO_BYTES: usize = 64 * 1024;

/// Batch buffers of a core with so many shards: one for each, and as many as one has in flight at most for all of them; two such shards
/// never wait for each other.
pub(crate) const fn buffers_of_core(shard_count: usize) -> usize {
    let least = 2 * BATCHES_IN_FLIGHT_MAX;
    let wanted = shard_count + BATCHES_IN_FLIGHT_MAX;
    if wanted > least { wanted } else { least }
}

/// Batch buffers and zeros of one core, shared by its shards. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogMemory(Rc<Reserve>);

struct Reserve {
    buffers: RefCell<Vec<BufferLease>>,
    /// Shares that have not been taken yet.
    shares: Cell<usize>,
    /// Shares that have no buffer now. For each of them one is there: never more than there are buffers.
    idle: Cell<usize>,
    returned: Signal,
    zeros: FrozenLease,
}

/// What one shard has of its core's log memory.
pub(crate) struct LogShare {
    memory: LogMemory,
    /// Buffers that it has.
    taken: Cell<usize>,
}

impl LogMemory {
    /// Bytes it takes from the pool for `buffer_count` batches in flight.
    pub(crate) fn bytes(buffer_count: usize) -> usize {
        buffer_count * BATCH_BUFFER_BYTES + ZERO_BYTES
    }

    /// Takes the memory for the shards of a core from `pool`; none if it is not there.
    ///
    /// # Panics
    /// If there are less buffers than shards.
    pub(crate) fn reserve(pool: &Pool, buffer_count: usize, shard_count: usize) -> Option<LogMemory> {
        assert!(shard_count <= buffer_count, "a buffer for each shard");
        let buffers: Option<Vec<BufferLease>> =
            (0..buffer_count).map(|_| pool.try_acquire(BATCH_BUFFER_BYTES)).collect();
        let mut zeros = pool.try_acquire(ZERO_BYTES)?;
        zeros.full_mut().fill(0);
        zeros.set_len(ZERO_BYTES);
        Some(LogMemory(Rc::new(Reserve {
            buffers: RefCell::new(buffers?),
            shares: Cell::new(shard_count),
            idle: Cell::new(shard_count),
            returned: Signal::default(),
            zeros: zeros.freeze(),
        })))
    }

    /// The share of one more shard. One that is not taken, or whose shard is gone, stays set aside.
    ///
    /// # Panics
    /// If there are more than it was made for.
    pub(crate) fn share(&self) -> LogShare {
        let left = self.0.shares.get().checked_sub(1);
        self.0.shares.set(left.expect("a share for each shard of the core"));
        LogShare { memory: self.clone(), taken: Cell::new(0) }
    }
}

impl LogShare {
    /// A batch buffer, when one is free: at once if this share has none. Give it back with [`LogShare::give_back`].
    pub(crate) async fn buffer(&self) -> BufferLease {
        self.memory.0.returned.wait(|| self.try_buffer()).await
    }

    fn try_buffer(&self) -> Option<BufferLease> {
        let reserve = &*self.memory.0;
        let (mut buffers, idle) = (reserve.buffers.borrow_mut(), reserve.idle.get());
        let is_first = self.taken.get() == 0;
        if !is_first && buffers.len() <= idle {
            return None;
        }
        let buffer = buffers.pop()?;
        reserve.idle.set(idle - usize::from(is_first));
        self.taken.set(self.taken.get() + 1);
        Some(buffer)
    }

    /// Takes a batch's buffer back once its write is done and nothing else looks at it.
    pub(crate) fn give_back(&self, buffer: FrozenLease) {
        let Ok(buffer) = buffer.thaw() else {
            unreachable!("the write has completed and its pieces are dropped: this is the last view");
        };
        let reserve = &*self.memory.0;
        reserve.buffers.borrow_mut().push(buffer);
        self.taken.set(self.taken.get() - 1);
        reserve.idle.set(reserve.idle.get() + usize::from(self.taken.get() == 0));
        reserve.returned.notify();
    }

    pub(crate) fn zeros(&self) -> &FrozenLease {
        &self.memory.0.zeros
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_transport::memory::{Arena, ArenaOptions, PagePolicy};

    /// However many buffers others have and keep, a shard that has none gets one at once; together they get all there are.
    #[test]
    fn a_buffer_is_kept_for_each_shard() {
        let options = ArenaOptions { bytes: 16 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
        let arena = Arena::map(&options).unwrap();
        let memory = LogMemory::reserve(&arena.pool(0), 6, 3).unwrap();
        let [greedy, other, late] = [(); 3].map(|()| memory.share());
        let mut held: Vec<_> = std::iter::from_fn(|| greedy.try_buffer()).collect();
        assert_eq!(held.len(), 4, "all but those of the others");
        let first = other.try_buffer().expect("its own");
        assert!(other.try_buffer().is_none(), "the last is another's");
        greedy.give_back(held.pop().unwrap().freeze());
        let second = other.try_buffer().expect("one came back");
        // One that has nothing any more has its own kept for it again.
        other.give_back(first.freeze());
        other.give_back(second.freeze());
        held.extend(std::iter::from_fn(|| greedy.try_buffer()));
        assert_eq!(held.len(), 4);
        let kept = [other.try_buffer(), late.try_buffer()];
        assert!(kept.iter().all(Option::is_some) && late.try_buffer().is_none());
    }
}
