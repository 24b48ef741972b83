//! The client of a loopback session: memory of this process that it exposes.

use crate::{
    memory::{CopyReason, copy_payload},
    remote::{Access, RemoteKey, RemoteSlice, TransferError},
};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Address of the first byte of every peer's memory, so that no address is an offset by chance.
const BASE_ADDRESS: u64 = 0x10_0000;

/// Notices that a client has room for.
const NOTICES_MAX: usize = 128;

/// Memory that a client in this process owns, and what it exposes of it. Cheap to clone; any thread.
///
/// A lock, because the other side may be another thread and a reference implementation is to be obviously right.
#[derive(Clone)]
pub struct LoopbackPeer(Arc<Mutex<State>>);

struct State {
    bytes: Box<[u8]>,
    exposures: Vec<(RemoteSlice, Access)>,
    /// Memory that was handed over whole, by its key.
    lent: HashMap<RemoteKey, (RemoteSlice, Access, Box<[u8]>)>,
    keys_made: u32,
    /// A session tells when bytes are there.
    notified: bool,
    /// Told, and not taken.
    notices: VecDeque<u32>,
    gone: bool,
    silent: bool,
}

impl LoopbackPeer {
    /// A client with `bytes` zeros.
    pub fn new(bytes: usize) -> LoopbackPeer {
        let state = State {
            bytes: vec![0; bytes].into(),
            exposures: Vec::new(),
            lent: HashMap::new(),
            keys_made: 0,
            notified: false,
            notices: VecDeque::new(),
            gone: false,
            silent: false,
        };
        LoopbackPeer(Arc::new(Mutex::new(state)))
    }

    /// Exposes a range of the memory, for one direction, until it is revoked.
    ///
    /// # Panics
    /// If the range is not inside the memory.
    pub fn expose(&self, range: Range<usize>, access: Access) -> RemoteSlice {
        let mut state = self.lock();
        assert!(range.start <= range.end && range.end <= state.bytes.len(), "{range:?} is not in the memory");
        let key = state.next_key();
        let (address, bytes) = (BASE_ADDRESS + range.start as u64, range.len() as u64);
        let slice = RemoteSlice::new(address, bytes, key).expect("memory of this process ends below 2^64");
        state.exposures.push((slice, access));
        slice
    }

    /// Withdraws what was exposed under the key of `slice`: no later byte moves.
    pub fn revoke(&self, slice: &RemoteSlice) {
        self.lock().exposures.retain(|(exposed, _)| exposed.key() != slice.key());
    }

    /// Exposes memory of its own, which nobody else has until it is taken back.
    pub(super) fn lend(&self, memory: Box<[u8]>, access: Access) -> RemoteSlice {
        let mut state = self.lock();
        let key = state.next_key();
        let slice = RemoteSlice::new(BASE_ADDRESS, memory.len() as u64, key).expect("ends below 2^64");
        state.lent.insert(key, (slice, access, memory));
        slice
    }

    /// Takes back what was lent under the key of `slice`: no later byte moves. Nothing is in the middle of moving either, since
    /// that is done under the lock.
    pub(super) fn take_back(&self, slice: &RemoteSlice) -> Option<Box<[u8]>> {
        self.lock().lent.remove(&slice.key()).map(|(_, _, memory)| memory)
    }

    /// The client disappears: nothing reaches its memory any more.
    pub fn vanish(&self) {
        self.lock().gone = true;
    }

    /// The client falls silent: [simulated](crate::simulated) cards lose every packet to it and from it, and nobody tells them why.
    pub fn fall_silent(&self) {
        self.lock().silent = true;
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.lock().silent
    }

    /// Whether a session tells when bytes are there.
    pub fn is_notified(&self) -> bool {
        self.lock().notified
    }

    /// A session will.
    pub(crate) fn set_notified(&self) {
        self.lock().notified = true;
    }

    /// The next notice of a session's, if there is one: the bytes that it speaks of are there.
    pub fn take_notice(&self) -> Option<u32> {
        self.lock().notices.pop_front()
    }

    /// The other side tells that bytes are there.
    pub(crate) fn notify(&self, notice: u32) -> Result<(), TransferError> {
        let mut state = self.lock();
        if state.gone {
            return Err(TransferError::Ended);
        }
        // A card would say that the receiver is not ready, several times, and give up.
        if state.notices.len() >= NOTICES_MAX {
            return Err(TransferError::TimedOut);
        }
        state.notices.push_back(notice);
        Ok(())
    }

    /// Looks at the memory.
    pub fn with_bytes<R>(&self, look: impl FnOnce(&mut [u8]) -> R) -> R {
        look(&mut self.lock().bytes)
    }

    /// Whether all of the slice is exposed for `access`: a card looks at the whole range before it moves the first packet.
    pub(crate) fn check(&self, slice: &RemoteSlice, access: Access) -> Result<(), TransferError> {
        self.lock().reach(slice, access).map(|_| ())
    }

    /// The other side reads.
    pub(crate) fn read(&self, source: &RemoteSlice, target: &mut [u8]) -> Result<(), TransferError> {
        let mut state = self.lock();
        let bytes = state.reach(source, Access::Read)?;
        copy_payload(target, bytes, CopyReason::Foreign);
        Ok(())
    }

    /// The other side writes all pieces, which are as long as `target`.
    pub(crate) fn write<'a>(
        &self,
        pieces: impl Iterator<Item = &'a [u8]>,
        target: &RemoteSlice,
    ) -> Result<(), TransferError> {
        let mut state = self.lock();
        let mut rest = state.reach(target, Access::Write)?;
        for piece in pieces {
            let (front, behind) = rest.split_at_mut_checked(piece.len()).ok_or(TransferError::Refused)?;
            copy_payload(front, piece, CopyReason::Foreign);
            rest = behind;
        }
        Ok(())
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.lock().gone
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it locked left bytes and exposures, both of which are whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_key(&mut self) -> RemoteKey {
        self.keys_made = self.keys_made.checked_add(1).expect("fewer than 2^32 exposures of one client");
        RemoteKey(self.keys_made)
    }

    /// The bytes of the slice, if it is exposed for `access`.
    fn reach(&mut self, slice: &RemoteSlice, access: Access) -> Result<&mut [u8], TransferError> {
        if self.gone {
            return Err(TransferError::Ended);
        }
        if slice.bytes() == 0 {
            // Nothing of nothing is exposed to everybody.
            return Ok(&mut []);
        }
        let (start, end) = (slice.address(), slice.address() + slice.bytes());
        let exposes = |whole: &RemoteSlice, allowed: Access| {
            let inside = whole.address() <= start && end <= whole.address() + whole.bytes();
            whole.key() == slice.key() && allowed == access && inside
        };
        let memory = match self.lent.get_mut(&slice.key()) {
            Some((whole, allowed, memory)) => exposes(whole, *allowed).then_some(memory),
            None => {
                let exposed = self.exposures.iter().any(|(whole, allowed)| exposes(whole, *allowed));
                exposed.then_some(&mut self.bytes)
            }
        };
        let memory = memory.ok_or(TransferError::Refused)?;
        // What is exposed lies in its memory, so both are offsets into it.
        memory
            .get_mut((start - BASE_ADDRESS) as usize..(end - BASE_ADDRESS) as usize)
            .ok_or(TransferError::Refused)
    }
}

impl fmt::Debug for LoopbackPeer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let mut peer = formatter.debug_struct("LoopbackPeer");
        peer.field("bytes", &state.bytes.len()).field("exposures", &state.exposures.len()).finish()
    }
}
