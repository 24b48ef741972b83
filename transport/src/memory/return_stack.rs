//! How buffers come back: a stack that any thread pushes on and the owner empties at once.
//!
//! The links lie in a table beside the arena, one for each page, so that the stack is never full and a push allocates
//! nothing. The owner takes the whole stack with one swap, so that no push can be confused by a page that left and came
//! again while it looked (ABA).
//!
//! A sleeping owner is woken only if somebody waits for memory. Pusher and owner each write one thing, pass a sequentially
//! consistent fence, and read the other: either the pusher sees the flag, or the owner, which looks at the stack after
//! raising the flag, sees the push.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

/// The end of the stack. Pages are numbered from 0, links hold the number plus one.
const END: u32 = 0;

/// The link and the count of one page.
pub(super) struct Header {
    next: AtomicU32,
    references: AtomicU32,
}

impl Header {
    pub(super) fn new() -> Header {
        Header { next: AtomicU32::new(END), references: AtomicU32::new(0) }
    }

    /// Sets the count of a buffer that nobody else knows of.
    pub(super) fn set_references(&self, count: u32) {
        self.references.store(count, Ordering::Relaxed);
    }

    pub(super) fn add_reference(&self) {
        // Relaxed is enough: whoever clones already holds a reference.
        let before = self.references.fetch_add(1, Ordering::Relaxed);
        // As `Arc` does: a count near the end means leaked clones; going on would free memory in use.
        assert!(before < u32::MAX / 2, "too many views of one buffer");
    }

    /// Takes one reference away; true if it was the last: the caller is alone with the buffer.
    pub(super) fn drop_reference(&self) -> bool {
        if self.references.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // Everything others did with the buffer happens before it is used again. A load and not a fence: loom knows
        // loads better, and it costs the same.
        let left = self.references.load(Ordering::Acquire);
        debug_assert_eq!(left, 0);
        true
    }

    /// Whether the caller's reference is the only one.
    pub(super) fn is_unique(&self) -> bool {
        self.references.load(Ordering::Acquire) == 1
    }
}

pub(super) struct ReturnStack {
    head: AtomicU32,
    wanted: AtomicBool,
}

impl ReturnStack {
    pub(super) fn new() -> ReturnStack {
        ReturnStack { head: AtomicU32::new(END), wanted: AtomicBool::new(false) }
    }

    /// Puts a page on the stack; true if the owner waits for one.
    pub(super) fn push(&self, page: u32, headers: &[Header]) -> bool {
        let link = &headers[page as usize].next;
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, page + 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        fence(Ordering::SeqCst);
        self.wanted.load(Ordering::Relaxed)
    }

    /// Owner: says whether pages are waited for. After raising it, look at the stack once more.
    pub(super) fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Owner: takes everything off the stack.
    pub(super) fn drain(&self, headers: &[Header], mut take: impl FnMut(u32)) -> usize {
        if self.head.load(Ordering::Relaxed) == END {
            return 0;
        }
        let mut link = self.head.swap(END, Ordering::Acquire);
        let mut count = 0;
        while link != END {
            let page = link - 1;
            // Read before the page is handed on: its next user may push it again.
            link = headers[page as usize].next.load(Ordering::Relaxed);
            take(page);
            count += 1;
        }
        count
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test -p crossdock-transport --release --lib loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{sync::Arc, thread};

    /// Pages pushed by two threads while the owner drains all arrive, each once.
    #[test]
    fn loom_nothing_is_lost_or_doubled() {
        loom::model(|| {
            let stack = Arc::new(ReturnStack::new());
            let headers: Arc<Vec<Header>> = Arc::new((0..2).map(|_| Header::new()).collect());
            let pushers: Vec<_> = (0..2u32)
                .map(|page| {
                    let (stack, headers) = (stack.clone(), headers.clone());
                    thread::spawn(move || stack.push(page, &headers))
                })
                .collect();
            let mut seen = Vec::new();
            stack.drain(&headers, |page| seen.push(page));
            for pusher in pushers {
                pusher.join().unwrap();
            }
            stack.drain(&headers, |page| seen.push(page));
            seen.sort_unstable();
            assert_eq!(seen, [0, 1]);
        });
    }

    /// An owner that raised its flag either finds the page or is told of it.
    #[test]
    fn loom_no_wake_up_is_lost() {
        loom::model(|| {
            let stack = Arc::new(ReturnStack::new());
            let headers: Arc<Vec<Header>> = Arc::new(vec![Header::new()]);
            let pusher = {
                let (stack, headers) = (stack.clone(), headers.clone());
                thread::spawn(move || stack.push(0, &headers))
            };
            stack.set_wanted(true);
            let found = stack.drain(&headers, |_| {}) == 1;
            let told = pusher.join().unwrap();
            assert!(found || told);
        });
    }

    /// Of two views dropped at once exactly one is the last.
    #[test]
    fn loom_one_drop_is_the_last() {
        loom::model(|| {
            let header = Arc::new(Header::new());
            header.set_references(2);
            let other = {
                let header = header.clone();
                thread::spawn(move || header.drop_reference())
            };
            let mine = header.drop_reference();
            assert!(mine ^ other.join().unwrap());
        });
    }
}
