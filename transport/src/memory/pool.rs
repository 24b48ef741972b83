//! The free lists of one core.

use super::{PAGE_BYTES, SUPERPAGE_BYTES, arena::Shared, lease::BufferLease};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Buffer sizes. Each divides a superpage.
const CLASS_BYTES: [usize; 5] = [4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// The largest lease.
pub const LEASE_BYTES_MAX: usize = 4 << 20;
const PAGES_PER_SUPERPAGE: u32 = (SUPERPAGE_BYTES / PAGE_BYTES) as u32;

const _: () = {
    let mut class = 0;
    while class < CLASS_BYTES.len() {
        assert!(SUPERPAGE_BYTES.is_multiple_of(CLASS_BYTES[class]));
        assert!(CLASS_BYTES[class].is_multiple_of(PAGE_BYTES));
        class += 1;
    }
    assert!(CLASS_BYTES[CLASS_BYTES.len() - 1] == LEASE_BYTES_MAX);
};

/// One core's part of the arena. Not `Send`, cheap to clone.
#[derive(Clone)]
pub struct Pool(Rc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    index: usize,
    lists: RefCell<FreeLists>,
    waiting: RefCell<VecDeque<Rc<Waiting>>>,
    leases: Cell<usize>,
    leased_bytes: Cell<usize>,
}

/// Superpages of this pool, numbered from its first.
struct FreeLists {
    first_page: u32,
    superpages: Vec<Superpage>,
    /// Superpages that are carved into nothing.
    empty: BTreeSet<u32>,
    /// By class: superpages with a free buffer. The lowest is used first, so that the others run empty.
    partial: [BTreeSet<u32>; CLASS_BYTES.len()],
}

#[derive(Default)]
struct Superpage {
    class: usize,
    /// Free buffers, by number within the superpage.
    free: Vec<u16>,
}

struct Waiting {
    bytes: usize,
    lease: RefCell<Option<BufferLease>>,
    waker: RefCell<Option<Waker>>,
}

impl Pool {
    pub(super) fn new(shared: Arc<Shared>, index: usize, superpages: usize) -> Pool {
        let first_page = (index * superpages) as u32 * PAGES_PER_SUPERPAGE;
        let lists = FreeLists {
            first_page,
            superpages: (0..superpages).map(|_| Superpage::default()).collect(),
            empty: (0..superpages as u32).collect(),
            partial: Default::default(),
        };
        Pool(Rc::new(Owner {
            shared,
            index,
            lists: RefCell::new(lists),
            waiting: RefCell::default(),
            leases: Cell::new(0),
            leased_bytes: Cell::new(0),
        }))
    }

    /// A lease of at least `bytes`, of the smallest class that fits; none if there is none left, or others wait.
    ///
    /// # Panics
    /// Above [`LEASE_BYTES_MAX`].
    pub fn try_acquire(&self, bytes: usize) -> Option<BufferLease> {
        if !self.0.waiting.borrow().is_empty() {
            return None;
        }
        if let Some(lease) = self.0.take(bytes) {
            return Some(lease);
        }
        self.0.reap();
        self.0.take(bytes)
    }

    /// A lease of at least `bytes` when it is this caller's turn: first come, first served, so that a large request is
    /// not starved by small ones.
    ///
    /// # Panics
    /// Above [`LEASE_BYTES_MAX`].
    pub fn acquire(&self, bytes: usize) -> Acquire {
        assert!(bytes <= LEASE_BYTES_MAX, "a lease has at most {LEASE_BYTES_MAX} bytes, not {bytes}");
        Acquire { pool: self.clone(), bytes, waiting: None }
    }

    /// Takes back what was dropped since the last call and serves those who wait. Once in each round of the core's loop.
    pub fn drain_returns(&self) -> usize {
        let count = self.0.reap();
        if count > 0 {
            self.0.serve();
        }
        count
    }

    /// Bytes of this pool.
    pub fn total_bytes(&self) -> usize {
        self.0.lists.borrow().superpages.len() * SUPERPAGE_BYTES
    }

    /// Bytes in leases, or dropped and not yet taken back.
    pub fn leased_bytes(&self) -> usize {
        self.0.leased_bytes.get()
    }

    /// Leases out, or dropped and not yet taken back.
    pub fn leases(&self) -> usize {
        self.0.leases.get()
    }

    /// How many wait for memory.
    pub fn waiters(&self) -> usize {
        self.0.waiting.borrow().len()
    }

    /// `wake` is called, from any thread, when a lease comes back while somebody waits. Set once.
    ///
    /// # Panics
    /// When set twice.
    pub fn on_return(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        let set = self.0.shared.pools[self.0.index].wake.set(wake);
        assert!(set.is_ok(), "the pool's wake-up is set once");
    }
}

impl Owner {
    fn take(self: &Rc<Owner>, bytes: usize) -> Option<BufferLease> {
        assert!(bytes <= LEASE_BYTES_MAX, "a lease has at most {LEASE_BYTES_MAX} bytes, not {bytes}");
        let class = CLASS_BYTES.iter().position(|class| bytes <= *class)?;
        let page = self.lists.borrow_mut().take(class)?;
        self.leases.set(self.leases.get() + 1);
        self.leased_bytes.set(self.leased_bytes.get() + CLASS_BYTES[class]);
        Some(BufferLease::new(self.shared.clone(), page, CLASS_BYTES[class]))
    }

    fn reap(&self) -> usize {
        let mut lists = self.lists.borrow_mut();
        let mut bytes = 0;
        let returns = &self.shared.pools[self.index].returns;
        let count = returns.drain(&self.shared.headers, |page| bytes += lists.give_back(page));
        self.leases.set(self.leases.get() - count);
        self.leased_bytes.set(self.leased_bytes.get() - bytes);
        count
    }

    /// Gives memory to those who wait, in order, as far as it goes.
    fn serve(self: &Rc<Owner>) {
        loop {
            let Some(first) = self.waiting.borrow().front().cloned() else { break };
            let Some(lease) = self.take(first.bytes) else { return };
            self.waiting.borrow_mut().pop_front();
            *first.lease.borrow_mut() = Some(lease);
            if let Some(waker) = first.waker.take() {
                waker.wake();
            }
        }
        self.shared.pools[self.index].returns.set_wanted(false);
    }
}

impl FreeLists {
    fn take(&mut self, class: usize) -> Option<u32> {
        let number = match self.partial[class].first() {
            Some(number) => *number,
            None => {
                let number = self.empty.pop_first()?;
                let superpage = &mut self.superpages[number as usize];
                superpage.class = class;
                let count = (SUPERPAGE_BYTES / CLASS_BYTES[class]) as u16;
                superpage.free.clear();
                superpage.free.extend((0..count).rev());
                self.partial[class].insert(number);
                number
            }
        };
        let superpage = &mut self.superpages[number as usize];
        let buffer = superpage.free.pop().expect("a partial superpage has a free buffer");
        if superpage.free.is_empty() {
            self.partial[class].remove(&number);
        }
        let pages = (CLASS_BYTES[class] / PAGE_BYTES) as u32;
        Some(self.first_page + number * PAGES_PER_SUPERPAGE + u32::from(buffer) * pages)
    }

    /// Puts a buffer back; gives its size.
    fn give_back(&mut self, page: u32) -> usize {
        let page = page - self.first_page;
        let number = page / PAGES_PER_SUPERPAGE;
        let superpage = &mut self.superpages[number as usize];
        let class = superpage.class;
        let pages = (CLASS_BYTES[class] / PAGE_BYTES) as u32;
        let buffer = (page % PAGES_PER_SUPERPAGE / pages) as u16;
        debug_assert!(!superpage.free.contains(&buffer), "a buffer comes back once");
        superpage.free.push(buffer);
        if superpage.free.len() == SUPERPAGE_BYTES / CLASS_BYTES[class] {
            self.partial[class].remove(&number);
            self.empty.insert(number);
        } else if superpage.free.len() == 1 {
            self.partial[class].insert(number);
        }
        CLASS_BYTES[class]
    }
}

/// Future of [`Pool::acquire`]. Dropping it leaves the line.
pub struct Acquire {
    pool: Pool,
    bytes: usize,
    waiting: Option<Rc<Waiting>>,
}

impl Future for Acquire {
    type Output = BufferLease;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BufferLease> {
        if let Some(waiting) = &self.waiting {
            let lease = waiting.lease.borrow_mut().take();
            let Some(lease) = lease else {
                *waiting.waker.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            };
            self.waiting = None;
            return Poll::Ready(lease);
        }
        if let Some(lease) = self.pool.try_acquire(self.bytes) {
            return Poll::Ready(lease);
        }
        let waker = RefCell::new(Some(cx.waker().clone()));
        let waiting = Rc::new(Waiting { bytes: self.bytes, lease: RefCell::default(), waker });
        let owner = &self.pool.0;
        owner.waiting.borrow_mut().push_back(waiting.clone());
        // Raised before the look that follows: a lease dropped meanwhile is either found or wakes this core.
        owner.shared.pools[owner.index].returns.set_wanted(true);
        self.pool.drain_returns();
        self.waiting = Some(waiting);
        // It may have been served by that very look.
        let served = self.waiting.as_ref().and_then(|waiting| waiting.lease.borrow_mut().take());
        match served {
            Some(lease) => {
                self.waiting = None;
                Poll::Ready(lease)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        let owner = &self.pool.0;
        owner.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiting));
        drop(waiting);
        // Whoever stood behind may be served with what is there.
        owner.reap();
        owner.serve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Arena, ArenaOptions, PagePolicy};
    use std::pin::pin;

    fn arena(superpages: usize, pools: usize) -> Arena {
        let bytes = superpages * SUPERPAGE_BYTES;
        Arena::map(&ArenaOptions { bytes, pools, pages: PagePolicy::Plain, prefault: false }).unwrap()
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Every class is served; buffers never overlap and lie where the arena is.
    #[test]
    fn classes_do_not_overlap() {
        let arena = arena(6, 1);
        let pool = arena.pool(0);
        let mut leases: Vec<BufferLease> = Vec::new();
        for bytes in [1, 4096, 4097, 65_536, 65_537, 262_144, 1 << 20, (1 << 20) + 1] {
            leases.push(pool.try_acquire(bytes).unwrap());
        }
        for (index, lease) in leases.iter_mut().enumerate() {
            lease.full_mut().fill(index as u8);
            lease.set_len(lease.capacity());
        }
        for (index, lease) in leases.iter().enumerate() {
            assert!(lease.as_slice().iter().all(|byte| *byte == index as u8));
            assert!(lease.arena_offset() + lease.capacity() <= arena.bytes());
            assert_eq!(lease.as_ptr().align_offset(PAGE_BYTES), 0);
        }
    }

    /// A superpage whose buffers all came back serves another class: small leases do not use the arena up for good.
    #[test]
    fn superpages_change_class() {
        let pool = arena(1, 1).pool(0);
        let small: Vec<_> = (0..1024).map(|_| pool.try_acquire(4096).unwrap()).collect();
        assert!(pool.try_acquire(4096).is_none());
        assert_eq!((pool.leases(), pool.leased_bytes()), (1024, SUPERPAGE_BYTES));
        drop(small);
        assert_eq!(pool.try_acquire(4 << 20).unwrap().capacity(), 4 << 20);
    }

    /// Leases that waiters got are handed out in the order of asking; one that leaves passes its turn on.
    #[test]
    fn waiters_are_served_in_order() {
        let pool = arena(1, 1).pool(0);
        let held = pool.try_acquire(4 << 20).unwrap();
        let mut gone = Box::pin(pool.acquire(4 << 20));
        let mut large = pin!(pool.acquire(4 << 20));
        let mut small = pin!(pool.acquire(1));
        assert!(poll(gone.as_mut()).is_pending());
        assert!(poll(large.as_mut()).is_pending());
        assert!(poll(small.as_mut()).is_pending());
        drop(held);
        assert!(pool.try_acquire(1).is_none(), "others wait");
        drop(gone);
        let Poll::Ready(lease) = poll(large.as_mut()) else { panic!("it is the large one's turn") };
        assert!(poll(small.as_mut()).is_pending());
        drop(lease);
        pool.drain_returns();
        assert!(poll(small.as_mut()).is_ready());
        pool.drain_returns();
        assert_eq!((pool.leases(), pool.waiters()), (0, 0));
    }

    /// Frozen views keep the buffer until the last is dropped, on whatever thread, and slices see the right bytes.
    #[test]
    fn frozen_views() {
        let arena = arena(1, 1);
        let pool = arena.pool(0);
        let mut lease = pool.try_acquire(8192).unwrap();
        lease.set_len(8192);
        lease.as_mut_slice().iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8);
        let whole = lease.freeze();
        let part = whole.slice(100..200).slice(10..20);
        assert_eq!(&part[..], &(110..120).collect::<Vec<u8>>()[..]);
        let bytes = whole.clone().into_bytes();
        let Err(whole) = whole.thaw() else { panic!("it has other views") };
        drop(whole);
        let thread = std::thread::Builder::new().spawn(move || drop((part, bytes))).unwrap();
        thread.join().unwrap();
        pool.drain_returns();
        assert_eq!(pool.leases(), 0);
    }

    /// The only view of a buffer can be written again, and goes back once.
    #[test]
    fn thaw() {
        let pool = arena(1, 1).pool(0);
        let mut lease = pool.try_acquire(4096).unwrap();
        lease.set_len(10);
        let lease = lease.freeze().thaw().unwrap();
        assert_eq!(lease.len(), 10);
        let frozen = lease.freeze();
        assert!(frozen.slice(1..2).thaw().is_err(), "it has another view");
        drop(frozen);
        pool.drain_returns();
        assert_eq!(pool.leases(), 0);
    }

    /// A waiter on a sleeping core is woken by a drop on another thread.
    #[test]
    fn a_return_wakes_the_owner() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let pool = arena(1, 1).pool(0);
        let woken = Arc::new(AtomicBool::new(false));
        let flag = woken.clone();
        pool.on_return(Arc::new(move || flag.store(true, Ordering::SeqCst)));
        let held = pool.try_acquire(4 << 20).unwrap();
        let other = std::thread::Builder::new().spawn(|| drop(held)).unwrap();
        other.join().unwrap();
        assert!(!woken.load(Ordering::SeqCst), "nobody waited");
        let held = pool.try_acquire(4 << 20).unwrap();
        let mut waiting = pin!(pool.acquire(4096));
        assert!(poll(waiting.as_mut()).is_pending());
        std::thread::Builder::new().spawn(|| drop(held)).unwrap().join().unwrap();
        assert!(woken.load(Ordering::SeqCst));
        pool.drain_returns();
        assert!(poll(waiting.as_mut()).is_ready());
    }

    /// What is left of the arena is shared evenly, and a pool is taken once.
    #[test]
    #[should_panic(expected = "one owner")]
    fn pools_have_one_owner() {
        let arena = arena(2, 2);
        assert_eq!(arena.pool(0).total_bytes(), SUPERPAGE_BYTES);
        let _second = arena.pool(1);
        let _again = arena.pool(1);
    }
}
