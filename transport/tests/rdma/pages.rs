//! Huge pages, on a machine of the test's own: their number is the kernel's, for everybody.

use crate::{
    card::{Card, Side},
    drive::{Bench, fill},
};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PageKind, PagePolicy},
    remote::Access,
    ring::{DriverChoice, Durability},
};
use std::fs;

const BYTES: usize = 32 << 20;
/// Of 2 MiB each.
const PAGES: usize = BYTES >> 21;

/// The kernel's numbers of huge pages: all, and those that nobody has touched, which reserved ones are until somebody does, as here at once.
fn huge_pages() -> (usize, usize) {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let number = |name: &str| -> usize {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (number("HugePages_Total:"), number("HugePages_Free:"))
}

/// Runs something while there are so many huge pages, and none afterwards.
fn with_huge_pages<R>(count: usize, run: impl FnOnce() -> R) -> R {
    let set = |count: usize| fs::write("/proc/sys/vm/nr_hugepages", count.to_string());
    set(count).expect("the machine is the test's own");
    assert_eq!(huge_pages(), (count, count), "the machine has the memory for them");
    let result = run();
    // A ring is taken apart by the kernel in its own time.
    for _ in 0..200 {
        if huge_pages() == (count, count) {
            break;
        }
        pause();
    }
    assert_eq!(huge_pages(), (count, count), "all of them came back");
    set(0).unwrap();
    result
}

#[allow(clippy::disallowed_methods, reason = "a test waits for the kernel")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(20));
}

fn arena(prefault: bool) -> Arena {
    Arena::map(&ArenaOptions { bytes: BYTES, pools: 1, pages: PagePolicy::Best, prefault }).unwrap()
}

#[test]
fn an_arena_of_huge_pages_serves_disk_and_card() {
    // Shows that huge pages are taken where there are enough, that ring and card register them, that bytes go from disk to client and
    // back through them, and that they are the kernel's again afterwards.
    with_huge_pages(PAGES, || {
        let arena = arena(true);
        assert_eq!((arena.page_kind(), arena.pages_lacking()), (PageKind::Huge2M, None));
        assert_eq!(huge_pages(), (PAGES, 0));
        let bench = Bench::new(DriverChoice::IoUring).expect("a kernel of this age has io_uring");
        bench.ring.register(&arena).expect("the arena is registered with the ring");
        let side = Side::with_arena_and_pool(Card::with_registrations(), arena.clone(), arena.pool(0));
        let bytes = 1 << 20;
        let content = side.filled(bytes, 3).freeze();
        let file = crate::through::disk(&bench);
        let write = bench.ring.write(bench.slot(), &file, 0, content.clone().into(), Durability::Durable);
        assert_eq!(bench.run(write).result, Ok(bytes as u32));

        let pair = side.connect(2 * bytes);
        let mut lease = side.pool.try_acquire(bytes).unwrap();
        lease.set_len(0);
        let (result, mut lease) =
            bench.run(bench.ring.read(bench.slot(), &file, 0, lease, 0, bytes)).into_lease();
        assert_eq!(result, Ok(bytes as u32));
        lease.set_len(bytes);
        let target = pair.client.expose(0..bytes, Access::Write).unwrap();
        assert_eq!(side.finish(pair.write(lease, target)).result, Ok(bytes as u32));
        assert!(pair.load(0..bytes) == content[..]);
        let mut expected = vec![0; bytes];
        fill(&mut expected, 9);
        pair.client.store(bytes, &expected);
        let source = pair.client.expose(bytes..2 * bytes, Access::Read).unwrap();
        let mut lease = side.pool.try_acquire(bytes).unwrap();
        lease.set_len(0);
        let (result, lease) = side.finish(pair.read(source, lease)).into_lease();
        assert_eq!(result, Ok(bytes as u32));
        assert!(lease.as_slice() == expected);
    });
}

#[test]
fn an_arena_that_finds_too_few_huge_pages_says_so_and_works() {
    // Shows none at all, and one too few: other pages are taken, with the reason, none of the huge ones is kept, and bytes go the same way.
    for there in [0, PAGES - 1] {
        with_huge_pages(there, || {
            let arena = arena(true);
            assert!(
                matches!(arena.page_kind(), PageKind::Transparent | PageKind::Plain),
                "{:?}",
                arena.page_kind()
            );
            let reason = arena.pages_lacking().expect("it is told");
            assert!(reason.starts_with("no 16 hugetlb pages of 2 MiB: "), "{reason}");
            assert_eq!(huge_pages(), (there, there));
            let side = Side::with_arena_and_pool(Card::with_registrations(), arena.clone(), arena.pool(0));
            let pair = side.connect(1 << 20);
            let target = pair.client.expose(0..1 << 20, Access::Write).unwrap();
            assert_eq!(side.finish(pair.write(side.filled(1 << 20, 5), target)).result, Ok(1 << 20));
        });
    }
}

#[test]
fn a_kernel_without_transparent_huge_pages_is_told_of_too() {
    // Shows the last step of the ladder: plain pages, and both reasons.
    let setting = "/sys/kernel/mm/transparent_hugepage/enabled";
    let before = fs::read_to_string(setting).expect("this kernel has them");
    let (_, chosen) = before.split_once('[').unwrap();
    let (chosen, _) = chosen.split_once(']').unwrap();
    fs::write(setting, "never").expect("the machine is the test's own");
    let arena = with_huge_pages(0, || arena(false));
    fs::write(setting, chosen).unwrap();
    assert_eq!(arena.page_kind(), PageKind::Plain);
    let reason = arena.pages_lacking().unwrap();
    assert!(reason.contains("no 16 hugetlb pages") && reason.ends_with("are switched off"), "{reason}");
}

#[test]
fn a_client_of_shared_memory_has_huge_pages_where_there_are_enough() {
    // Shows that memory which is handed over is of huge pages if there are as many as it takes, and of small ones else; and that a server
    // takes either.
    use crossdock_transport::shm::{Event, ShmClient, ShmOptions, same_user_or_root};
    use crossdock_transport::{remote::Transport, shm::Shm};
    for (there, huge) in [(PAGES, true), (PAGES - 1, false)] {
        with_huge_pages(there, || {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("shm");
            let server = Shm::listen(&socket, ShmOptions::default()).unwrap();
            let plain = ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
            server.register(&Arena::map(&plain).unwrap()).unwrap();
            let endpoint = server.open(crate::card::endpoint_options(16)).unwrap();
            let client = ShmClient::connect(&socket, BYTES as u64, same_user_or_root).unwrap();
            let free = if huge { 0 } else { there };
            assert_eq!(huge_pages(), (there, free));
            let session = loop {
                endpoint.poll();
                match client.poll() {
                    Some(Event::Session(session)) => break session,
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
            };
            drop((session, client));
            while endpoint.session_count() > 0 {
                endpoint.poll();
            }
            drop(endpoint);
        });
    }
}
