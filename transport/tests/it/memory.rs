use crate::polling::Polled;
use crossdock_transport::memory::{
    Arena, ArenaError, ArenaOptions, CopyReason, FrozenLease, LEASE_BYTES_MAX, PageKind, PagePolicy, Pool,
    ScatterList, copied_bytes, copied_bytes_here, copy_payload,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

const SUPERPAGE: usize = 4 << 20;

fn arena(superpages: usize, pools: usize) -> Arena {
    let options =
        ArenaOptions { bytes: superpages * SUPERPAGE, pools, pages: PagePolicy::Plain, prefault: false };
    Arena::map(&options).unwrap()
}

fn pool(superpages: usize) -> Pool {
    arena(superpages, 1).pool(0)
}

fn filled(pool: &Pool, bytes: &[u8]) -> FrozenLease {
    let mut lease = pool.try_acquire(bytes.len()).unwrap();
    lease.set_len(bytes.len());
    copy_payload(lease.as_mut_slice(), bytes, CopyReason::Inline);
    lease.freeze()
}

/// Shows that the arena says what it got, whatever this machine gives, and that the memory is there and zero.
#[test]
fn arena_maps_down_the_ladder() {
    for pages in [PagePolicy::Best, PagePolicy::Plain] {
        let options = ArenaOptions { bytes: 9 << 20, pools: 2, pages, prefault: true };
        let arena = Arena::map(&options).unwrap();
        assert_eq!((arena.bytes(), arena.pool_count()), (8 << 20, 2));
        if pages == PagePolicy::Plain {
            assert_eq!((arena.page_kind(), arena.pages_lacking()), (PageKind::Plain, None));
        } else {
            // What is not the best there is has a reason.
            assert_eq!(arena.pages_lacking().is_none(), arena.page_kind() == PageKind::Huge2M);
        }
        println!("{pages:?} gave {:?}", arena.page_kind());
        let mut lease = arena.pool(1).try_acquire(SUPERPAGE).unwrap();
        assert!(lease.full_mut().iter().all(|&byte| byte == 0));
        assert_eq!(lease.full_mut().as_ptr().addr() % (2 << 20), 0, "aligned to a huge page");
    }
}

/// Shows that sizes which cannot be are refused.
#[test]
fn arena_refuses_impossible_sizes() {
    let map = |bytes, pools| {
        Arena::map(&ArenaOptions { bytes, pools, pages: PagePolicy::Plain, prefault: false }).unwrap_err()
    };
    assert!(matches!(map(SUPERPAGE - 1, 1), ArenaError::TooSmall));
    assert!(matches!(map(SUPERPAGE, 2), ArenaError::TooSmall));
    assert!(matches!(map(SUPERPAGE, 0), ArenaError::TooSmall));
    assert!(matches!(map(17 << 40, 1), ArenaError::TooLarge));
}

/// Shows that a pool has one owner.
#[test]
#[should_panic(expected = "pool 0 is taken")]
fn pool_is_taken_once() {
    let arena = arena(1, 1);
    let _first = arena.pool(0);
    arena.pool(0);
}

/// Shows that pools divide the arena without a gap or an overlap.
#[test]
fn pools_divide_the_arena() {
    let arena = arena(7, 3);
    let mut leases = Vec::new();
    for index in 0..3 {
        let pool = arena.pool(index);
        leases.extend(std::iter::from_fn(|| pool.try_acquire(SUPERPAGE)));
    }
    let mut offsets: Vec<_> = leases.iter().map(|lease| lease.arena_offset()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..7).map(|index| index * SUPERPAGE).collect::<Vec<_>>());
}

/// Shows that leases give what was asked for, and that the balance returns to zero.
#[test]
fn leases_are_counted() {
    let pool = pool(3);
    let lease = pool.try_acquire(100_000).unwrap();
    let other = pool.try_acquire(1).unwrap();
    assert_eq!((lease.capacity(), other.capacity()), (256 << 10, 4096));
    assert_eq!((pool.leases(), pool.leased_bytes()), (2, (256 << 10) + 4096));
    drop((lease, other));
    assert_eq!(pool.drain_returns(), 2);
    assert_eq!((pool.leases(), pool.leased_bytes(), pool.total_bytes()), (0, 0, 3 * SUPERPAGE));
}

/// Shows that an exhausted pool says so, takes back what was dropped by itself, and gives all of it again.
#[test]
fn exhausted_pool_takes_back_by_itself() {
    let pool = pool(1);
    let mut leases: Vec<_> = std::iter::from_fn(|| pool.try_acquire(64 << 10)).collect();
    assert_eq!(leases.len(), 64);
    assert!(pool.try_acquire(1).is_none());
    leases.pop();
    assert!(pool.try_acquire(1).is_some());
}

/// Shows that a lease and its views outlive the pool and the arena, and may be used and dropped on another thread.
#[test]
fn leases_outlive_pool_and_arena() {
    let arena = arena(1, 1);
    let pool = arena.pool(0);
    let frozen = filled(&pool, b"outlives");
    drop((pool, arena));
    let part = frozen.slice(3..8);
    drop(frozen);
    let bytes = part.into_bytes();
    #[allow(clippy::disallowed_methods, reason = "the test is about threads")]
    std::thread::spawn(move || assert_eq!(&bytes[..], b"lives")).join().unwrap();
}

/// Shows that a buffer comes back with its last view only, and that only the last view can become writable again.
#[test]
fn buffer_comes_back_with_its_last_view() {
    let pool = pool(1);
    let frozen = filled(&pool, b"0123456789");
    let part = frozen.slice(2..6).slice(1..3);
    assert_eq!(&part[..], b"34");
    assert_eq!(part.arena_offset(), frozen.arena_offset() + 3);
    let frozen = frozen.thaw().expect_err("there is another view");
    let front = frozen.slice(0..5);
    drop(frozen);
    assert_eq!(pool.drain_returns(), 0);
    drop(part.thaw().expect_err("there is another view, and it starts behind the front"));
    let lease = front.thaw().unwrap();
    assert_eq!((lease.capacity(), lease.as_slice()), (4096, &b"01234"[..]));
    drop(lease);
    assert_eq!(pool.drain_returns(), 1);
}

/// Shows that zeroing the tail reaches exactly from the length to the end asked for.
#[test]
fn zero_tail_leaves_no_stale_byte() {
    let pool = pool(1);
    let mut lease = pool.try_acquire(4096).unwrap();
    lease.full_mut().fill(0xaa);
    lease.set_len(10);
    lease.zero_tail(512);
    lease.set_len(513);
    let bytes = lease.as_slice();
    assert!(bytes[..10].iter().chain(&bytes[512..]).all(|&byte| byte == 0xaa));
    assert!(bytes[10..512].iter().all(|&byte| byte == 0));
    lease.zero_tail(100);
    assert!(lease.as_slice()[100..].contains(&0xaa), "what is in use is not touched");
}

/// Shows that small requests do not overtake a large one that waits, and are served after it.
#[test]
fn waiters_for_memory_are_served_in_order() {
    let pool = pool(2);
    let small = pool.try_acquire(1).unwrap();
    let other_small = pool.try_acquire(1).unwrap();
    let large = pool.try_acquire(SUPERPAGE).unwrap();
    let mut first = Polled::waiting(pool.acquire(SUPERPAGE));
    let mut second = Polled::waiting(pool.acquire(1));
    assert!(pool.try_acquire(1).is_none(), "there is room for it, but others came first");
    drop(small);
    pool.drain_returns();
    assert_eq!((first.wakes(), second.wakes(), pool.waiters()), (0, 0, 2));
    drop(large);
    pool.drain_returns();
    assert_eq!((first.wakes(), second.wakes(), pool.waiters()), (1, 1, 0));
    assert_eq!(first.poll().unwrap().capacity(), SUPERPAGE);
    drop((second.poll().unwrap(), other_small));
}

/// Shows that one who gives up lets those behind it through, and that a lease nobody comes for goes back.
#[test]
fn waiter_that_gives_up_holds_up_nobody() {
    let pool = pool(1);
    let held = pool.try_acquire(1).unwrap();
    let large = Polled::waiting(pool.acquire(LEASE_BYTES_MAX));
    let mut small = Polled::waiting(pool.acquire(1));
    drop(large);
    assert_eq!(small.wakes(), 1);
    drop(small.poll().unwrap());
    let granted = Polled::waiting(pool.acquire(LEASE_BYTES_MAX));
    drop(held);
    pool.drain_returns();
    assert_eq!((granted.wakes(), pool.waiters()), (1, 0));
    drop(granted);
    pool.drain_returns();
    assert_eq!(pool.leases(), 0);
}

/// Shows that a drop on another thread wakes the owner exactly when somebody waits.
#[test]
fn owner_is_woken_only_when_somebody_waits() {
    let pool = pool(1);
    let wakes = Arc::new(AtomicUsize::new(0));
    pool.on_return({
        let wakes = Arc::clone(&wakes);
        Arc::new(move || {
            wakes.fetch_add(1, Ordering::SeqCst);
        })
    });
    #[allow(clippy::disallowed_methods, reason = "the test is about threads")]
    let drop_elsewhere = |lease| std::thread::spawn(move || drop::<Option<_>>(lease)).join().unwrap();
    drop_elsewhere(pool.try_acquire(SUPERPAGE));
    assert_eq!(wakes.load(Ordering::SeqCst), 0);
    for round in 1..=3 {
        let held = pool.try_acquire(SUPERPAGE);
        assert!(held.is_some());
        let mut waiter = Polled::waiting(pool.acquire(1));
        drop_elsewhere(held);
        assert_eq!(wakes.load(Ordering::SeqCst), round);
        pool.drain_returns();
        assert!(waiter.poll().is_some());
        pool.drain_returns();
    }
}

/// Shows, with threads that drop what the owner leases, that nothing is lost, doubled or written by two.
#[test]
fn leases_dropped_by_many_threads_all_come_back() {
    let pool = pool(2);
    let threads = 3;
    let (mut senders, mut handles) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let (sender, receiver) = std::sync::mpsc::channel::<FrozenLease>();
        senders.push(sender);
        #[allow(clippy::disallowed_methods, reason = "the test is about threads")]
        handles.push(std::thread::spawn(move || {
            for view in receiver {
                let first = view[0];
                assert!(view.iter().all(|&byte| byte == first), "written while shared");
            }
        }));
    }
    let sizes = [1, 5_000, 64 << 10, 200_000, 1 << 20];
    for round in 0..4_000_usize {
        let mut lease = loop {
            pool.drain_returns();
            if let Some(lease) = pool.try_acquire(sizes[round % sizes.len()]) {
                break lease;
            }
            std::thread::yield_now();
        };
        lease.set_len(1_000);
        lease.as_mut_slice().fill(round as u8);
        let view = lease.freeze();
        for sender in &senders {
            sender.send(view.clone()).unwrap();
        }
    }
    drop(senders);
    for handle in handles {
        handle.join().unwrap();
    }
    pool.drain_returns();
    assert_eq!((pool.leases(), pool.leased_bytes()), (0, 0));
}

/// Shows that advancing a list by every count leaves exactly the bytes behind it, and drops the pieces passed.
#[test]
fn scatter_list_advances_by_every_count() {
    let pool = pool(1);
    let list: ScatterList =
        [&b"abc"[..], b"", b"d", b"efgh"].iter().map(|bytes| filled(&pool, bytes)).collect();
    assert_eq!((list.bytes(), list.pieces().len()), (8, 3), "the empty piece is gone");
    for count in 0..=8 {
        let mut rest = list.clone();
        rest.advance(count);
        let bytes: Vec<u8> = rest.pieces().iter().flat_map(|piece| piece.iter().copied()).collect();
        assert_eq!(bytes, b"abcdefgh"[count..]);
        assert_eq!(rest.bytes(), bytes.len());
        assert!(rest.pieces().iter().all(|piece| !piece.is_empty()));
    }
    drop(list);
    pool.drain_returns();
    assert_eq!(pool.leases(), 0);
}

/// Shows that copies are counted under their reason, from every thread, and for each thread by itself.
#[test]
fn copies_are_counted() {
    // No other test of this process copies for this reason.
    let reason = CopyReason::Record;
    let (before, here) = (copied_bytes(reason), copied_bytes_here(reason));
    let mut target = [0; 5];
    copy_payload(&mut target, b"12345", reason);
    #[allow(clippy::disallowed_methods, reason = "the test is about threads")]
    std::thread::spawn(move || copy_payload(&mut [0; 7], b"1234567", reason)).join().unwrap();
    assert_eq!((copied_bytes(reason) - before, copied_bytes_here(reason) - here), (12, 5));
    assert_eq!(&target, b"12345");
}
