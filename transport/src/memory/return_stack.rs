//! How leases come home: an intrusive stack that any thread pushes on and one thread drains.
//!
//! Every granule of the arena has a header in a table beside the arena: the number of holders, and the link of the
//! stack. Because the link lives in the header, the stack is never full and a push allocates nothing.
//!
//! ```text
//!   FREE ──acquire──► 1 holder ──share──► n holders ──release──► 0 holders ──push──► on the stack ──drain──► FREE
//! ```
//!
//! Invariants
//! * A header is pushed by whoever released its last holder, so it is on the stack at most once.
//! * The stack is drained by taking all of it (one swap), never by popping one: there is no compare of a head
//!   against a link read earlier, so there is no ABA.
//! * No wake-up is lost. The owner sets `waiting` and *then* swaps the head; a pusher swaps the head and *then* reads
//!   `waiting`. Both are read-modify-writes of the same word, so one comes first: either the owner's swap finds the
//!   push, or the push reads from the owner's swap (or from a push after it) and so sees `waiting` set.
//!
//! The atomics are loom's under `--cfg loom`; the test at the end says how to run it.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// No header: the end of the stack.
const NONE: u32 = u32::MAX;

/// The count of holders of a granule that is on its owner's free list.
const FREE: u32 = u32::MAX;

/// More holders than this are a leak in a loop; the count must never run into `FREE`.
const HOLDERS_MAX: u32 = u32::MAX / 2;

/// What the arena knows of one granule: 8 bytes for 4 KiB of memory, 0.2 %.
pub(super) struct Header {
    holders: AtomicU32,
    next: AtomicU32,
}

impl Header {
    pub(super) fn new() -> Self {
        Self { holders: AtomicU32::new(FREE), next: AtomicU32::new(NONE) }
    }

    /// Owner only: the granule leaves the free list with one holder.
    ///
    /// # Panics
    /// If it is held or on its way back.
    pub(super) fn acquire(&self) {
        // Relaxed: only the owner moves a header out of and into FREE.
        assert_eq!(self.holders.load(Ordering::Relaxed), FREE, "a lease is taken from the free list");
        self.holders.store(1, Ordering::Relaxed);
    }

    /// One more holder, taken by a holder.
    pub(super) fn share(&self) {
        // Relaxed: the new holder gets everything it sees from the one that shares, on whatever way the handle travels.
        let before = self.holders.fetch_add(1, Ordering::Relaxed);
        if before >= HOLDERS_MAX {
            // As `Arc` does: to unwind would leave the count wrong, and a wrong count frees memory in use.
            std::process::abort();
        }
    }

    /// One holder less. True for the last one, who must push the header.
    pub(super) fn release(&self) -> bool {
        // Release: what this holder did with the bytes comes before their next use. Acquire, for the last one: it
        // speaks for all of them when it pushes.
        let before = self.holders.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before != 0 && before <= HOLDERS_MAX, "released more often than held");
        before == 1
    }

    /// The exclusive holder is gone; it must push the header. Cheaper than `release`: nobody else counts.
    pub(super) fn release_exclusive(&self) {
        debug_assert_eq!(self.holders.load(Ordering::Relaxed), 1, "an exclusive lease has one holder");
        // Relaxed: the push that follows releases.
        self.holders.store(0, Ordering::Relaxed);
    }

    /// True if the caller, who holds it, is the only holder.
    pub(super) fn is_exclusive(&self) -> bool {
        // Acquire: pairs with the `release` of the others, whose reads must be over before the caller writes.
        self.holders.load(Ordering::Acquire) == 1
    }
}

/// The leases on their way back to one pool.
pub(super) struct ReturnStack {
    head: AtomicU32,
    waiting: AtomicBool,
}

impl ReturnStack {
    pub(super) fn new() -> Self {
        Self { head: AtomicU32::new(NONE), waiting: AtomicBool::new(false) }
    }

    /// Any thread: brings back a granule without holders. True if the owner waits and must be woken by the caller.
    pub(super) fn push(&self, headers: &[Header], granule: u32) -> bool {
        let next = &headers[granule as usize].next;
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            next.store(head, Ordering::Relaxed);
            // Release: the link and the last use of the bytes come before the owner's swap. Acquire: see the module.
            match self.head.compare_exchange_weak(head, granule, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        // The load first, because a swap would take the line of the flag from the other cores at every drop.
        self.waiting.load(Ordering::Acquire) && self.waiting.swap(false, Ordering::AcqRel)
    }

    /// Owner: asks the next push for a wake-up. Must be followed by `drain_all`, or a push before it stays unseen.
    pub(super) fn arm(&self) {
        self.waiting.store(true, Ordering::Release);
    }

    /// Owner: nobody waits any more.
    pub(super) fn disarm(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Owner: takes back what is there. A look without a read-modify-write first, for the loop that finds nothing.
    pub(super) fn drain(&self, headers: &[Header], take_back: impl FnMut(u32)) -> usize {
        if self.head.load(Ordering::Relaxed) == NONE { 0 } else { self.drain_all(headers, take_back) }
    }

    /// Owner: takes back what is there, in an order with every push (see the module).
    pub(super) fn drain_all(&self, headers: &[Header], mut take_back: impl FnMut(u32)) -> usize {
        // Acquire: the links, and the last use of the bytes by their holders. Release: `waiting`, for the pushers.
        let mut granule = self.head.swap(NONE, Ordering::AcqRel);
        let mut count = 0;
        while granule != NONE {
            let header = &headers[granule as usize];
            // The link is read before the granule is given away: its next holder may push it at once.
            let next = header.next.load(Ordering::Relaxed);
            assert_eq!(header.holders.load(Ordering::Relaxed), 0, "a lease comes back once, without holders");
            header.holders.store(FREE, Ordering::Relaxed);
            take_back(granule);
            count += 1;
            granule = next;
        }
        count
    }
}

#[cfg(all(test, loom))]
#[allow(unsafe_code, reason = "loom's cells, which check what the safety comments say")]
mod tests {
    //! `RUSTFLAGS="--cfg loom" cargo test -p crossdock-transport --lib --release loom_`

    use super::*;
    use loom::{
        cell::UnsafeCell,
        sync::{Arc, atomic::AtomicBool},
        thread,
    };

    struct Shared {
        headers: Vec<Header>,
        stack: ReturnStack,
        /// Stands for the bytes of each granule; loom reports every unordered access.
        bytes: Vec<UnsafeCell<u32>>,
        woken: AtomicBool,
    }

    impl Shared {
        fn new(granules: u32) -> Arc<Self> {
            Arc::new(Self {
                headers: (0..granules).map(|_| Header::new()).collect(),
                stack: ReturnStack::new(),
                bytes: (0..granules).map(|_| UnsafeCell::new(0)).collect(),
                woken: AtomicBool::new(false),
            })
        }

        fn push(&self, granule: u32) {
            if self.stack.push(&self.headers, granule) {
                self.woken.store(true, Ordering::Release);
            }
        }

        fn write(&self, granule: u32) {
            // SAFETY: the caller is the only holder of the granule; loom fails the test if that is not so.
            self.bytes[granule as usize].with_mut(|bytes| unsafe { *bytes += 1 });
        }

        fn read(&self, granule: u32) -> u32 {
            // SAFETY: every holder only reads while the granule is shared; loom fails the test if that is not so.
            self.bytes[granule as usize].with(|bytes| unsafe { *bytes })
        }
    }

    /// Two threads bring back a lease each while the owner drains and leases again: nothing is lost, doubled or torn.
    #[test]
    fn loom_pushes_from_two_threads_all_arrive() {
        loom::model(|| {
            let shared = Shared::new(2);
            let threads: Vec<_> = (0..2)
                .map(|granule| {
                    shared.headers[granule as usize].acquire();
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        shared.write(granule);
                        shared.headers[granule as usize].release_exclusive();
                        shared.push(granule);
                    })
                })
                .collect();
            let mut back = Vec::new();
            shared.stack.drain(&shared.headers, |granule| back.push(granule));
            for &granule in &back {
                shared.headers[granule as usize].acquire();
                shared.write(granule);
                shared.headers[granule as usize].release_exclusive();
                shared.push(granule);
            }
            for thread in threads {
                thread.join().unwrap();
            }
            let mut last = Vec::new();
            shared.stack.drain(&shared.headers, |granule| last.push(granule));
            last.sort_unstable();
            assert_eq!(last, [0, 1]);
        });
    }

    /// Of two holders on two threads exactly one pushes, and the owner may write after it comes back.
    #[test]
    fn loom_the_last_of_two_holders_brings_a_shared_lease_back() {
        loom::model(|| {
            let shared = Shared::new(1);
            shared.headers[0].acquire();
            shared.write(0);
            shared.headers[0].share();
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        assert_eq!(shared.read(0), 1);
                        if shared.headers[0].release() {
                            shared.push(0);
                        }
                    })
                })
                .collect();
            if shared.stack.drain(&shared.headers, |_| ()) == 1 {
                shared.headers[0].acquire();
                shared.write(0);
                shared.headers[0].release_exclusive();
                shared.push(0);
            }
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(shared.stack.drain(&shared.headers, |_| ()), 1);
        });
    }

    /// An owner that arms and then drains finds the lease, or is woken for it: a wake-up is never lost.
    #[test]
    fn loom_an_armed_owner_is_woken_or_finds_the_lease() {
        loom::model(|| {
            let shared = Shared::new(2);
            let threads: Vec<_> = (0..2)
                .map(|granule| {
                    shared.headers[granule as usize].acquire();
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        shared.headers[granule as usize].release_exclusive();
                        shared.push(granule);
                    })
                })
                .collect();
            shared.stack.arm();
            let found = shared.stack.drain_all(&shared.headers, |_| ());
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(found == 2 || shared.woken.load(Ordering::Acquire), "{found} found and nobody woken");
        });
    }
}
