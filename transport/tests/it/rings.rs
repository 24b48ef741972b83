//! The ring itself: turning, parking, waking, closing.

use crate::{
    drive::{Bench, DEPTH, fill, open, poll_once, run},
    on_both_drivers,
};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy},
    ring::{DriverChoice, Durability, Ring, RingOptions},
    tcp::TcpListener,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::{
    io::Write,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

on_both_drivers!(
    an_idle_turn_makes_no_system_call,
    system_calls_are_counted_by_kind,
    a_park_ends_at_its_limit,
    a_wake_before_the_park_makes_it_return,
    a_wake_from_another_thread_ends_a_park,
    no_wake_is_lost,
    a_ring_that_closes_finishes_what_is_in_flight,
    a_future_outlives_its_ring,
    a_loop_of_ones_own_waits_on_the_descriptor,
    what_comes_over_a_socket_ends_a_wait_each_time,
    a_watched_descriptor_ends_a_park,
);

const LONG: Option<Duration> = Some(Duration::from_secs(20));

#[expect(clippy::disallowed_methods, reason = "tests measure how long a park took")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "tests wake from other threads")]
fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(work)
}

#[expect(clippy::disallowed_methods, reason = "tests wait until another thread sleeps")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A ring that spins with nothing to do costs no system calls.
fn an_idle_turn_makes_no_system_call(bench: &Bench) {
    let file = bench.file("idle");
    assert_eq!(bench.run(bench.ring.datasync(bench.slot(), &file)).result, Ok(0));
    bench.ring.turn();
    let before = bench.ring.system_calls();
    for _ in 0..1000 {
        assert_eq!(bench.ring.turn(), 0);
    }
    assert_eq!(bench.ring.system_calls(), before);
}

/// Calls are counted by kind: what the ring's thread enters the kernel for, and the write by which another wakes it in its sleep.
fn system_calls_are_counted_by_kind(bench: &Bench) {
    let file = bench.file("counted");
    let before = bench.ring.system_calls();
    assert_eq!(bench.run(bench.ring.datasync(bench.slot(), &file)).result, Ok(0));
    let after = bench.ring.system_calls();
    let is_uring = bench.ring.describe().contains("io_uring");
    assert_eq!(after.enters > before.enters, is_uring, "{after:?}");
    // The kernel completes without a call of anybody's; without io_uring a worker may have to wake the ring.
    assert!(after.wakes - before.wakes <= u64::from(!is_uring), "{after:?}");
    assert_eq!(after.total(), after.enters + after.others + after.wakes);
    let before = after;
    let waker = bench.ring.waker();
    // Awake, the ring is told by one atomic; asleep, by one call.
    waker.wake();
    assert_eq!(bench.ring.system_calls().wakes, before.wakes);
    bench.ring.park(Some(Duration::from_secs(5)));
    let other = spawn(move || {
        pause(Duration::from_millis(200));
        waker.wake();
    });
    bench.ring.park(Some(Duration::from_secs(20)));
    other.join().unwrap();
    assert_eq!(bench.ring.system_calls().wakes, before.wakes + 1);
}

/// A park with a limit and nothing to do sleeps that long and no longer; one of zero does not sleep.
fn a_park_ends_at_its_limit(bench: &Bench) {
    let start = now();
    assert_eq!(bench.ring.park(Some(Duration::from_millis(50))), 0);
    let slept = start.elapsed();
    assert!(slept >= Duration::from_millis(49) && slept < Duration::from_secs(5), "{slept:?}");
    let start = now();
    bench.ring.park(Some(Duration::ZERO));
    assert!(start.elapsed() < Duration::from_millis(40));
}

/// A wake while the ring is awake is kept for the next park, once.
fn a_wake_before_the_park_makes_it_return(bench: &Bench) {
    bench.ring.waker().wake();
    bench.ring.waker().wake();
    bench.ring.turn();
    let start = now();
    bench.ring.park(LONG);
    assert!(start.elapsed() < Duration::from_secs(5));
    let start = now();
    bench.ring.park(Some(Duration::from_millis(50)));
    assert!(start.elapsed() >= Duration::from_millis(49), "the notice was taken by the first park");
}

/// A sleeping ring is woken from another thread, again and again.
fn a_wake_from_another_thread_ends_a_park(bench: &Bench) {
    for _ in 0..20 {
        let waker = bench.ring.waker();
        let thread = spawn(move || {
            #[expect(clippy::disallowed_methods, reason = "the ring should be asleep by then")]
            std::thread::sleep(Duration::from_millis(5));
            waker.wake();
        });
        let start = now();
        bench.ring.park(LONG);
        assert!(start.elapsed() < Duration::from_secs(5));
        thread.join().unwrap();
        // A wake may end the park and still leave its write behind; the next sleep is then cut short, never this one.
        bench.ring.park(Some(Duration::from_millis(1)));
    }
}

/// Ping-pong as fast as two threads can: if one wake were lost, a park would sleep for its whole limit.
fn no_wake_is_lost(bench: &Bench) {
    const ROUNDS: usize = 20_000;
    let (asked, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waker, ours, theirs) = (bench.ring.waker(), asked.clone(), answered.clone());
    let peer = spawn(move || {
        let mut seen = 0;
        while seen < ROUNDS {
            let round = ours.load(Ordering::Acquire);
            if round == seen {
                std::thread::yield_now();
                continue;
            }
            seen = round;
            theirs.store(round, Ordering::Release);
            waker.wake();
        }
    });
    let start = now();
    for round in 1..=ROUNDS {
        asked.store(round, Ordering::Release);
        while answered.load(Ordering::Acquire) != round {
            let slept = now();
            bench.ring.park(LONG);
            assert!(slept.elapsed() < Duration::from_secs(15), "a wake was lost in round {round}");
        }
    }
    peer.join().unwrap();
    eprintln!("{} wakes in {:?}", ROUNDS, start.elapsed());
}

/// Dropping the ring with writes and reads in flight waits for them: their memory comes back and nothing hangs.
fn a_ring_that_closes_finishes_what_is_in_flight(bench: &Bench) {
    let ring = Ring::new(&RingOptions { driver: bench.driver, depth: DEPTH }).unwrap();
    let _ = ring.register(&bench.arena);
    let file = ring.file(open(&bench.directory.path().join("closing"), libc::O_DIRECT).into());
    for n in 0..DEPTH {
        let slot = ring.queue().try_slot().unwrap();
        if n % 2 == 0 {
            let source = bench.filled(65536, n as u8).freeze().into();
            drop(ring.write(slot, &file, n as u64 * 65536, source, Durability::Durable));
        } else {
            drop(ring.read(slot, &file, 0, bench.lease(65536), 0, 65536));
        }
        if n == DEPTH / 2 {
            ring.turn();
        }
    }
    let queue = ring.queue().clone();
    drop((ring, file));
    assert_eq!(queue.in_flight(), 0);
    bench.pool.drain_returns();
    assert_eq!(bench.pool.leases(), 0);
}

/// A future that is waited for after its ring is gone resolves, with its memory.
fn a_future_outlives_its_ring(bench: &Bench) {
    let ring = Ring::new(&RingOptions { driver: bench.driver, depth: 4 }).unwrap();
    let file = ring.file(open(&bench.directory.path().join("outlived"), 0).into());
    let pending = ring.read(ring.queue().try_slot().unwrap(), &file, 0, bench.lease(4096), 0, 4096);
    drop(ring);
    let (result, lease) = bench.run(pending).into_lease();
    assert!(matches!(result, Ok(0) | Err(_)), "{result:?}");
    assert_eq!(lease.capacity(), 4096);
}

/// An owner that polls the descriptor itself is told of completions and of wakes, and of nothing else; a wake in a wait is
/// still a reason not to sleep after the turn, for an owner that looked at its mailbox before; and what is posted in a wait
/// goes out when the wait is begun again.
fn a_loop_of_ones_own_waits_on_the_descriptor(bench: &Bench) {
    let ring = &bench.ring;
    let descriptor = ring.descriptor().unwrap();
    let readable = |millis: i64| {
        let limit = Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 };
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)).unwrap() == 1
    };
    // The last completion may have left a wake.
    let settle = || {
        while !ring.begin_wait() {
            ring.turn();
        }
    };
    let file = bench.direct_file("descriptor");
    for round in 0..20 {
        settle();
        // The thread that did the last write may be late with its wake: one.
        if readable(5) {
            ring.turn();
            settle();
            assert!(!readable(5), "there is nothing to do in round {round}");
        }
        ring.turn();

        let waker = ring.waker();
        assert!(ring.begin_wait());
        let thread = spawn(move || waker.wake());
        assert!(readable(20_000), "nobody told of the wake in round {round}");
        thread.join().unwrap();
        ring.turn();
        assert!(
            !ring.begin_wait(),
            "the wake was in the wait of round {round}, its reason after the look perhaps"
        );
        assert!(ring.begin_wait(), "and counts once");
        ring.turn();

        ring.waker().wake();
        assert!(!ring.begin_wait(), "there was a wake");

        let source = bench.filled(65536, round).freeze().into();
        settle();
        let mut write = ring.write(bench.slot(), &file, 0, source, Durability::Durable);
        while poll_once(&mut write).is_pending() {
            if ring.begin_wait() {
                assert!(readable(20_000), "nobody told of the completion in round {round}");
            }
            ring.turn();
        }
    }
}

/// Bytes that another thread sends end the wait of an owner that polls the descriptor, the tenth time as the first.
fn what_comes_over_a_socket_ends_a_wait_each_time(bench: &Bench) {
    let ring = &bench.ring;
    let descriptor = ring.descriptor().unwrap();
    let listener = TcpListener::bind(ring, "127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = listener.local_addr();
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let sender = spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        for () in asked {
            // After the owner went to sleep, most likely.
            std::thread::park_timeout(Duration::from_millis(5));
            stream.write_all(b"x").unwrap();
        }
    });
    let (ours, _) = bench.run(listener.accept()).unwrap();
    for round in 0..10 {
        let mut receive = Box::pin(ours.receive(bench.lease(4096), 1));
        assert!(poll_once(&mut receive).is_pending());
        ask.send(()).unwrap();
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        loop {
            if ring.begin_wait() {
                let told = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)).unwrap();
                assert_eq!(told, 1, "nobody told of the bytes of round {round}");
            }
            ring.turn();
            if let Poll::Ready((_, count)) = poll_once(&mut receive) {
                assert_eq!(count, Ok(1));
                break;
            }
        }
    }
    drop(ask);
    sender.join().unwrap();
}

/// A park ends when a watched descriptor becomes readable, ends at once while it is, and sleeps when it is not; and it is called quiet
/// only while it is not readable.
fn a_watched_descriptor_ends_a_park(bench: &Bench) {
    let ring = &bench.ring;
    let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
    let watch = ring.watch(event.try_clone().unwrap()).unwrap();
    assert!(!ring.is_quiet(watch), "nobody looked");
    let can_tell = bench.driver != DriverChoice::Portable;
    let (short, long) = (Duration::from_millis(30), Duration::from_secs(20));
    for _ in 0..5 {
        let begin = now();
        ring.park(Some(short));
        assert!(begin.elapsed() >= short / 2, "it did not sleep");
        assert_eq!(ring.is_quiet(watch), can_tell);
        ring.turn();
        assert_eq!(ring.is_quiet(watch), can_tell);
        let theirs = event.clone();
        let begin = now();
        let thread = spawn(move || {
            std::thread::park_timeout(Duration::from_millis(5));
            rustix::io::write(&*theirs, &1u64.to_ne_bytes()).unwrap();
        });
        while rustix::io::read(&*event, &mut [0; 8]).is_err() {
            ring.park(Some(long));
            assert!(begin.elapsed() < long, "nobody ended it");
        }
        thread.join().unwrap();
        // Quiet when it became readable: a turn notices, however busy the core is.
        ring.park(Some(short));
        rustix::io::write(&*event, &1u64.to_ne_bytes()).unwrap();
        let begin = now();
        while ring.is_quiet(watch) {
            ring.turn();
            assert!(begin.elapsed() < long, "nobody said that it is readable");
        }
        // Readable, and not looked after: no park sleeps.
        let begin = now();
        for _ in 0..3 {
            ring.park(Some(long));
        }
        assert!(begin.elapsed() < long);
        rustix::io::read(&*event, &mut [0; 8]).unwrap();
    }
}

#[test]
fn rings_of_several_threads_share_one_registration() {
    // Shows that rings on three threads use one arena as fixed buffers at the same time, for reads and writes.
    const CORES: usize = 3;
    let arena = Arena::map(&ArenaOptions {
        bytes: CORES * (4 << 20),
        pools: CORES,
        pages: PagePolicy::Plain,
        prefault: false,
    })
    .unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let registered = Arc::new(Barrier::new(CORES));
    let cores: Vec<_> = (0..CORES)
        .map(|core| {
            let (arena, registered) = (arena.clone(), registered.clone());
            let path = directory.path().join(core.to_string());
            spawn(move || {
                let ring = Ring::new(&RingOptions::default()).unwrap();
                let result = ring.register(&arena);
                // All are registered before the first is dropped.
                registered.wait();
                let pool = arena.pool(core);
                let file = ring.file(open(&path, libc::O_DIRECT).into());
                let mut lease = pool.try_acquire(65536).unwrap();
                lease.set_len(65536);
                fill(lease.as_mut_slice(), core as u8);
                let whole = lease.freeze();
                let slot = ring.queue().try_slot().unwrap();
                let write = ring.write(slot, &file, 0, whole.clone().into(), Durability::Durable);
                assert_eq!(run(&ring, write).result, Ok(65536));
                let slot = ring.queue().try_slot().unwrap();
                let read = ring.read(slot, &file, 0, pool.try_acquire(65536).unwrap(), 0, 65536);
                let (count, mut lease) = run(&ring, read).into_lease();
                assert_eq!(count, Ok(65536));
                assert!(lease.full_mut()[..65536] == whole[..]);
                (result.map_err(|error| error.to_string()), ring.describe())
            })
        })
        .collect();
    for core in cores {
        let (result, description) = core.join().unwrap();
        match result {
            Err(error) => eprintln!("SKIPPED: the arena is not registered: {error}"),
            Ok(()) if description.starts_with("portable") => eprintln!("SKIPPED: no io_uring here"),
            Ok(()) => assert!(!description.contains("no fixed buffers"), "{description}"),
        }
    }
}
