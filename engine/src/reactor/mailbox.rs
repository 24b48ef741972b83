//! How cores talk: each has a bounded mailbox of messages, and a message is work to do there.
//!
//! A core that finds a mailbox full keeps the message in an outbox of its own and tries again each loop, so that
//! sending never blocks and never fails. What may wait there is bounded by the operations in flight on the sender:
//! each has at most one call and one release under way.

use super::{Core, WakeCore};
use concurrent_queue::{ConcurrentQueue, PushError};
use futures_channel::oneshot;
use std::{cell::RefCell, collections::VecDeque, future::Future, sync::Arc};

/// Work to do on another core.
pub(crate) type Message = Box<dyn FnOnce(&Core) + Send>;

/// The receiving end of one core, as the others see it.
#[derive(Clone)]
pub(crate) struct Address {
    mailbox: Arc<ConcurrentQueue<Message>>,
    wake: WakeCore,
}

/// The core has gone: it will not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Address {
    pub(crate) fn new(capacity: usize, wake: WakeCore) -> Address {
        Address { mailbox: Arc::new(ConcurrentQueue::bounded(capacity)), wake }
    }

    pub(crate) fn pop(&self) -> Option<Message> {
        self.mailbox.pop().ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mailbox.is_empty()
    }

    /// After this, messages come back to their senders.
    pub(crate) fn close(&self) {
        self.mailbox.close();
    }

    fn try_send(&self, message: Message) -> Result<(), PushError<Message>> {
        self.mailbox.push(message)?;
        (self.wake)();
        Ok(())
    }

    /// Sends work that nobody waits for, from outside the cores; drops it if the core has gone.
    pub(crate) fn send_ignoring_closed(&self, work: impl FnOnce(&Core) + Send + 'static) {
        let mut message: Message = Box::new(work);
        // A full mailbox is being emptied by a running core: this ends.
        while let Err(PushError::Full(back)) = self.try_send(message) {
            message = back;
            std::thread::yield_now();
        }
    }

    /// Runs `work` on that core and resolves with its result, from any thread and any runtime.
    ///
    /// # Errors
    /// [`Gone`] if the core has stopped or stops before the work is done.
    ///
    /// # Cancellation
    /// Once sent, the work runs to its end even if this future is dropped.
    pub(crate) async fn call<T, W, F>(&self, work: W) -> Result<T, Gone>
    where
        T: Send + 'static,
        W: FnOnce(Core) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (mut message, reply) = package(work);
        loop {
            match self.try_send(message) {
                Ok(()) => return reply.await.map_err(|_| Gone),
                Err(PushError::Closed(_)) => return Err(Gone),
                // Full: let the receiver run. Callers outside the cores are bounded by admission, so this is rare.
                Err(PushError::Full(back)) => message = back,
            }
            yield_once().await;
        }
    }
}

fn package<T, W, F>(work: W) -> (Message, oneshot::Receiver<T>)
where
    T: Send + 'static,
    W: FnOnce(Core) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let message: Message = Box::new(move |core: &Core| {
        // What is waited for is dropped after it, should this panic.
        let sender = sender;
        let failing = core.failing();
        let future = work(core.clone());
        drop(failing);
        core.spawn_own(async move {
            // The caller may have lost interest; the work is done all the same.
            let _ = sender.send(future.await);
        })
        .detach();
    });
    (message, receiver)
}

/// What one core has still to send, by receiver.
pub(crate) struct Outbox {
    addresses: Vec<Address>,
    waiting: RefCell<Vec<VecDeque<Message>>>,
}

impl Outbox {
    pub(crate) fn new(addresses: Vec<Address>) -> Outbox {
        let waiting = addresses.iter().map(|_| VecDeque::new()).collect();
        Outbox { addresses, waiting: RefCell::new(waiting) }
    }

    pub(crate) fn core_count(&self) -> usize {
        self.addresses.len()
    }

    pub(crate) fn send(&self, target: usize, message: Message) {
        let queue = &mut self.waiting.borrow_mut()[target];
        if !queue.is_empty() {
            queue.push_back(message);
            return;
        }
        if let Err(PushError::Full(back)) = self.addresses[target].try_send(message) {
            queue.push_back(back);
        }
    }

    pub(crate) async fn call<T, W, F>(&self, target: usize, work: W) -> Result<T, Gone>
    where
        T: Send + 'static,
        W: FnOnce(Core) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (message, reply) = package(work);
        self.send(target, message);
        reply.await.map_err(|_| Gone)
    }

    pub(crate) async fn ask<T, W>(&self, target: usize, work: W) -> Result<T, Gone>
    where
        T: Send + 'static,
        W: FnOnce(&Core) -> T + Send + 'static,
    {
        let (sender, reply) = oneshot::channel();
        let message: Message = Box::new(move |core: &Core| {
            let (sender, _failing) = (sender, core.failing());
            // The caller may have lost interest.
            let _ = sender.send(work(core));
        });
        self.send(target, message);
        reply.await.map_err(|_| Gone)
    }

    /// Tries again what did not fit; says whether some still does not.
    pub(crate) fn flush(&self) -> bool {
        let mut left = false;
        for (address, queue) in self.addresses.iter().zip(self.waiting.borrow_mut().iter_mut()) {
            while let Some(message) = queue.pop_front() {
                if let Err(PushError::Full(back)) = address.try_send(message) {
                    queue.push_front(back);
                    left = true;
                    break;
                }
            }
        }
        left
    }
}

/// Gives way to every other task that is ready, once.
pub(crate) async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[cfg(all(test, loom))]
mod loom_tests {
    //! `RUSTFLAGS="--cfg loom" cargo test -p crossdock --lib --release loom_`: every interleaving of senders with a core that takes
    //! messages, and with one that stops. The queue's own atomics are among what is interleaved.

    use super::*;
    use loom::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    /// Counts its own end: of the future that waits for a message's reply, this is all that matters.
    struct Reply(Arc<std::sync::atomic::AtomicUsize>);

    impl Drop for Reply {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn explore(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        // The queue waits in a loop for a sender that was stopped in the midst of a push: without a bound that has no end.
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    /// Of a core that stops while others send, no message stays behind: each was taken, or is dropped with the mailbox
    /// closed, or comes back to its sender. Whoever waits for a reply hears that the core has gone.
    #[test]
    fn loom_a_core_that_stops_leaves_no_message_behind() {
        explore(|| {
            let ended = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let address = Address::new(2, Arc::new(|| {}));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (address, reply) = (address.clone(), Reply(ended.clone()));
                    thread::spawn(move || {
                        // Kept by a caller, as the address is: what is left in the mailbox would never be dropped.
                        let sent = address.try_send(Box::new(move |_: &Core| drop(reply)));
                        assert!(!matches!(sent, Err(PushError::Full(_))), "there is room for both");
                        address
                    })
                })
                .collect();
            // What a core does in a turn, and then in its stop.
            drop(address.pop());
            address.close();
            while let Some(message) = address.pop() {
                drop(message);
            }
            let kept: Vec<Address> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
            assert_eq!(
                ended.load(Ordering::SeqCst),
                2,
                "a message is left in a mailbox that nobody looks into"
            );
            drop(kept);
        });
    }

    /// A core that was woken finds what it was woken for.
    #[test]
    fn loom_a_wake_comes_after_its_message() {
        explore(|| {
            let woken = Arc::new(AtomicBool::new(false));
            let wake = woken.clone();
            let address = Address::new(1, Arc::new(move || wake.store(true, Ordering::Release)));
            let sender = {
                let address = address.clone();
                thread::spawn(move || address.try_send(Box::new(|_: &Core| {})).is_ok())
            };
            let was_woken = woken.load(Ordering::Acquire);
            let found = address.pop().is_some();
            assert!(found || !was_woken, "woken, and there is nothing");
            assert!(sender.join().unwrap());
            assert!(found || address.pop().is_some());
        });
    }

    /// What does not fit comes back whole, and fits once the core has taken what was there.
    #[test]
    fn loom_what_does_not_fit_comes_back() {
        explore(|| {
            let ended = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let address = Address::new(1, Arc::new(|| {}));
            let first = Reply(ended.clone());
            assert!(address.try_send(Box::new(move |_: &Core| drop(first))).is_ok());
            let sender = {
                let (address, second) = (address.clone(), Reply(ended.clone()));
                thread::spawn(move || match address.try_send(Box::new(move |_: &Core| drop(second))) {
                    Err(PushError::Full(back)) => Some(back),
                    _ => None,
                })
            };
            let taken = address.pop();
            let back = sender.join().unwrap();
            let later = address.pop();
            assert!(taken.is_some());
            assert!(back.is_some() != later.is_some(), "twice, or lost");
            drop((taken, back, later));
            assert_eq!(ended.load(Ordering::SeqCst), 2);
        });
    }
}
