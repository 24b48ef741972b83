//! A client's memory for messages: buffers that are sent from, and buffers that are received into, apart from what it exposes.

use super::{
    MESSAGE_BYTES_MAX,
    error::RdmaError,
    verbs::{Domain, Region, RegionAccess},
    work::Piece,
};
use crate::mapping::Mapping;
use std::{cell::RefCell, collections::VecDeque, sync::Arc};

/// Messages that may be on their way.
const SENDS: usize = 16;

pub(super) struct Messages {
    memory: Arc<Mapping>,
    region: Arc<Region>,
    receives: usize,
    free: RefCell<Vec<usize>>,
    /// Those that came, and the buffers they came in, which are to be posted again once they are taken.
    came: RefCell<VecDeque<(Vec<u8>, usize)>>,
}

impl Messages {
    /// Buffers for so many receives, and for what is sent.
    #[allow(unsafe_code)]
    pub(super) fn new(domain: &Arc<Domain>, receives: usize) -> Result<Messages, RdmaError> {
        let memory = Mapping::anonymous((receives + SENDS) * MESSAGE_BYTES_MAX as usize);
        let memory = Arc::new(memory.map_err(|source| RdmaError::Device { what: "mmap", source })?);
        let (start, bytes, held) = (memory.at(0), memory.bytes(), Arc::clone(&memory));
        // SAFETY: the mapping has that many bytes, and exists as long as a handle of it, such as the one that is given.
        let region = unsafe { Region::new(Arc::clone(domain), start, bytes, RegionAccess::Local, held) };
        let free = RefCell::new((receives..receives + SENDS).collect());
        Ok(Messages { memory, region: Arc::new(region?), receives, free, came: RefCell::default() })
    }

    fn piece(&self, buffer: usize, bytes: u32) -> Piece {
        let start = self.memory.at(buffer * MESSAGE_BYTES_MAX as usize);
        Piece { address: start.addr() as u64, bytes, local_key: self.region.local_key() }
    }

    /// What a receive is posted with.
    pub(super) fn room(&self, receive: usize) -> Piece {
        debug_assert!(receive < self.receives);
        self.piece(receive, MESSAGE_BYTES_MAX)
    }

    /// A buffer that holds the message, which fits. None if all are on their way.
    pub(super) fn fill(&self, message: &[u8]) -> Option<(usize, Piece)> {
        let buffer = self.free.borrow_mut().pop()?;
        self.memory.store(buffer * MESSAGE_BYTES_MAX as usize, message);
        // At most a buffer.
        Some((buffer, self.piece(buffer, message.len() as u32)))
    }

    /// The message of that buffer has arrived.
    pub(super) fn sent(&self, buffer: usize) {
        self.free.borrow_mut().push(buffer);
    }

    /// A message came into that buffer.
    pub(super) fn received(&self, receive: usize, bytes: u32) {
        let mut message = vec![0; bytes.min(MESSAGE_BYTES_MAX) as usize];
        self.memory.load(receive * MESSAGE_BYTES_MAX as usize, &mut message);
        self.came.borrow_mut().push_back((message, receive));
    }

    pub(super) fn take(&self) -> Option<(Vec<u8>, usize)> {
        self.came.borrow_mut().pop_front()
    }

    /// Nothing is on its way any more: the queue pair ended.
    pub(super) fn reset(&self) {
        *self.free.borrow_mut() = (self.receives..self.receives + SENDS).collect();
        self.came.borrow_mut().clear();
    }

    /// Keeps the memory for ever: a device may still write it.
    pub(super) fn leak(&self) {
        std::mem::forget((Arc::clone(&self.memory), Arc::clone(&self.region)));
    }
}
