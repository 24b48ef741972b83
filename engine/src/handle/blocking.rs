//! For programs without a runtime: a thread that waits.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

/// Wakes a thread that is parked.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future of an [`Engine`](crate::Engine), or any other, on this thread, which sleeps meanwhile. So each operation is one
/// that blocks: `block_on(engine.put_bytes("b", b"key", bytes))`; and several at once are several threads, or one future of them all.
///
/// Not for threads that run futures for others: a front end on the engine's cores would wait for itself.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        // An `unpark` that came since the poll makes this return at once.
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_channel::oneshot;

    /// It sleeps until it is woken, also when it is woken before it sleeps, and more than once.
    #[test]
    fn a_thread_waits_for_another() {
        assert_eq!(block_on(async { 7 }), 7);
        let (first, one) = oneshot::channel();
        let (second, two) = oneshot::channel();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| block_on(async { one.await.map(|one: u32| one + 1) }));
            first.send(1).unwrap();
            second.send(2).unwrap();
            assert_eq!((waiting.join().unwrap(), block_on(two)), (Ok(2), Ok(2)));
        });
    }
}
