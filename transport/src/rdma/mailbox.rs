//! What other threads have to tell an endpoint, and what wakes its core for it.

use super::{error::RdmaError, verbs::QueuePair};
use crate::remote::Principal;
use rustix::event::{EventfdFlags, eventfd};
use std::{
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A queue pair that comes back from being connected.
pub(super) struct Letter {
    /// The place of the session that it is of.
    pub(super) place: u32,
    /// The rail that the pair is on: numbers of queue pairs are a device's own, and places are those of all rails.
    pub(super) rail: usize,
    /// Whom the session was made for.
    pub(super) owner: Principal,
    pub(super) pair: QueuePair,
    pub(super) result: Result<(), RdmaError>,
}

/// Letters of one endpoint, and a bell.
pub(super) struct Mailbox {
    bell: OwnedFd,
    /// There is a letter, or something happened to a device.
    news: AtomicBool,
    letters: Mutex<Vec<Letter>>,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Mailbox> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox { bell, news: AtomicBool::new(false), letters: Mutex::default() })
    }

    /// Any thread.
    pub(super) fn send(&self, letter: Letter) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        self.ring();
    }

    /// Wakes the core, or keeps it from sleeping. Any thread.
    pub(super) fn ring(&self) {
        self.news.store(true, Ordering::Release);
        // Refused only if the counter is full: then it is readable already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Becomes readable when the bell was rung.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Makes the descriptor unreadable again.
    pub(super) fn silence(&self) {
        // Nothing to read is what is wanted.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    /// Whether there is something to take notice of.
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// Whether there was something since the last call. Letters are taken behind this.
    pub(super) fn take_news(&self) -> bool {
        // A plain load first: it is looked at in every turn of the core.
        self.has_news() && self.news.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take_letters(&self) -> Vec<Letter> {
        mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
