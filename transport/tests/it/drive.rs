//! What tests need instead of a reactor: a ring, memory, and a loop that runs one future.

use crossdock_transport::{
    memory::{Arena, ArenaOptions, BufferLease, PagePolicy, Pool},
    operation::Slot,
    ring::{DriverChoice, Ring, RingFile, RingOptions},
};
use std::{
    fs::{File, OpenOptions},
    future::Future,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

/// Longest a test waits for anything that should come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test body as two tests, one for each driver.
#[macro_export]
macro_rules! on_both_drivers {
    ($($name:ident),* $(,)?) => {
        mod io_uring {
            $(#[test] fn $name() {
                // Shows what the function of this name says, on io_uring.
                if let Some(bench) = $crate::drive::Bench::new(crossdock_transport::ring::DriverChoice::IoUring) {
                    super::$name(&bench);
                }
            })*
        }
        mod portable {
            $(#[test] fn $name() {
                // Shows what the function of this name says, on the portable driver.
                let bench = $crate::drive::Bench::new(crossdock_transport::ring::DriverChoice::Portable);
                super::$name(&bench.expect("the portable driver runs everywhere"));
            })*
        }
    };
}

/// A ring with memory and a directory.
pub(crate) struct Bench {
    pub(crate) ring: Ring,
    pub(crate) pool: Pool,
    pub(crate) arena: Arena,
    pub(crate) driver: DriverChoice,
    pub(crate) directory: tempfile::TempDir,
}

/// File operations in flight at once on a bench's ring.
pub(crate) const DEPTH: usize = 64;

impl Bench {
    /// None, and says so, where there is no io_uring.
    pub(crate) fn new(driver: DriverChoice) -> Option<Bench> {
        let ring = match Ring::new(&RingOptions { driver, depth: DEPTH }) {
            Ok(ring) => ring,
            Err(error) => {
                eprintln!("SKIPPED: no ring of kind {driver:?} here: {error}");
                return None;
            }
        };
        let arena = arena(64 << 20);
        let pool = arena.pool(0);
        // Beside the build, where the disk is: /tmp may be in memory.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Some(Bench { ring, pool, arena, driver, directory })
    }

    /// A new file on the ring.
    pub(crate) fn file(&self, name: &str) -> RingFile {
        self.ring.file(open(&self.directory.path().join(name), 0).into())
    }

    /// The same with O_DIRECT.
    pub(crate) fn direct_file(&self, name: &str) -> RingFile {
        self.ring.file(open(&self.directory.path().join(name), libc::O_DIRECT).into())
    }

    pub(crate) fn slot(&self) -> Slot {
        self.ring.queue().try_slot().expect("the queue has room")
    }

    /// A lease of `bytes` in use, filled with a pattern that `seed` begins.
    pub(crate) fn filled(&self, bytes: usize, seed: u8) -> BufferLease {
        let mut lease = self.lease(bytes);
        lease.set_len(bytes);
        fill(lease.as_mut_slice(), seed);
        lease
    }

    pub(crate) fn lease(&self, bytes: usize) -> BufferLease {
        self.pool.drain_returns();
        self.pool.try_acquire(bytes).expect("the arena has room")
    }

    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        run(&self.ring, future)
    }

    /// Turns until nothing is in flight.
    pub(crate) fn settle(&self) {
        let in_flight = || self.ring.queue().in_flight() + self.ring.socket_queue().in_flight();
        for _ in 0..200 {
            if in_flight() == 0 {
                return;
            }
            self.ring.park(Some(Duration::from_millis(100)));
        }
        panic!("{} operations never ended", in_flight());
    }
}

pub(crate) fn fill(bytes: &mut [u8], seed: u8) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (index / 512) as u8 ^ index as u8 ^ seed;
    }
}

pub(crate) fn arena(bytes: usize) -> Arena {
    Arena::map(&ArenaOptions { bytes, pools: 1, pages: PagePolicy::Plain, prefault: false }).unwrap()
}

pub(crate) fn open(path: &Path, flags: i32) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match options.custom_flags(flags).open(path) {
        // The file system has none: tmpfs before Linux 6.6. The same bytes go the same way then, but for the page cache.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && flags & libc::O_DIRECT != 0 => {
            options.custom_flags(flags & !libc::O_DIRECT).open(path).unwrap()
        }
        opened => opened.unwrap(),
    }
}

/// Runs one future on the ring: polls it when it was woken, parks when not.
pub(crate) fn run<F: Future>(ring: &Ring, future: F) -> F::Output {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    #[expect(clippy::disallowed_methods, reason = "a test that hangs must end")]
    let now = std::time::Instant::now;
    let end = now() + PATIENCE;
    loop {
        if flag.0.swap(false, Ordering::AcqRel)
            && let Poll::Ready(output) = future.as_mut().poll(&mut cx)
        {
            return output;
        }
        assert!(now() < end, "waited {PATIENCE:?} in vain");
        ring.park(Some(Duration::from_millis(100)));
    }
}

/// Polls once, to start what a future does.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
