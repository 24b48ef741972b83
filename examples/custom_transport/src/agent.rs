//! The client's side: memory, what is exposed of it, and whoever answers for it.

use crate::frame::{REQUEST_BYTES, Request, Status};
use crossdock_transport::remote::{Access, RemoteKey, RemoteSlice};
use std::{
    fmt,
    io::{self, Read, Write},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Address of the first byte, so that no address is an offset by chance.
const BASE_ADDRESS: u64 = 0x4000_0000;

/// Bytes of a write that is refused are thrown away through a buffer of this size.
const WASTE_BYTES: usize = 4096;

/// Memory of a client, and what it exposes. Cheap to clone; any thread.
#[derive(Clone)]
pub struct Agent(Arc<Mutex<State>>);

struct State {
    bytes: Box<[u8]>,
    exposures: Vec<(RemoteSlice, Access)>,
    keys_made: u32,
}

impl Agent {
    /// `bytes` zeros, of which nothing is exposed.
    pub fn new(bytes: usize) -> Agent {
        let state = State { bytes: vec![0; bytes].into(), exposures: Vec::new(), keys_made: 0 };
        Agent(Arc::new(Mutex::new(state)))
    }

    /// Exposes a range, for one direction, until it is revoked.
    ///
    /// # Panics
    /// If the range is not inside the memory.
    pub fn expose(&self, range: Range<usize>, access: Access) -> RemoteSlice {
        let mut state = self.lock();
        assert!(range.start <= range.end && range.end <= state.bytes.len(), "{range:?} is not in the memory");
        state.keys_made = state.keys_made.checked_add(1).expect("fewer than 2^32 exposures");
        let (address, bytes) = (BASE_ADDRESS + range.start as u64, range.len() as u64);
        let slice =
            RemoteSlice::new(address, bytes, RemoteKey(state.keys_made)).expect("memory ends below 2^64");
        state.exposures.push((slice, access));
        slice
    }

    /// Withdraws an exposure. No later byte moves: whoever moves bytes has the lock.
    pub fn revoke(&self, slice: &RemoteSlice) {
        self.lock().exposures.retain(|(exposed, _)| exposed.key() != slice.key());
    }

    /// Looks at the memory.
    pub fn with_bytes<R>(&self, look: impl FnOnce(&mut [u8]) -> R) -> R {
        look(&mut self.lock().bytes)
    }

    /// Answers a server until it hangs up. Blocks.
    ///
    /// The lock is held for one request at a time, and while its bytes come in: a server that stops in the middle of a write stops
    /// whoever else wants the memory, as long as the stream is open.
    ///
    /// # Errors
    /// The stream failed, or what came over it is no request (`InvalidData`).
    pub fn serve(&self, mut stream: impl Read + Write) -> io::Result<()> {
        let mut request = [0; REQUEST_BYTES];
        while read_whole(&mut stream, &mut request)? {
            let request = Request::parse(&request).ok_or(io::ErrorKind::InvalidData)?;
            self.answer(&mut stream, request)?;
        }
        Ok(())
    }

    fn answer(&self, stream: &mut (impl Read + Write), request: Request) -> io::Result<()> {
        let mut state = self.lock();
        let memory = state.reach(&request);
        let status = if memory.is_some() { Status::Done } else { Status::Refused };
        match (request.access, memory) {
            (Access::Write, Some(memory)) => stream.read_exact(memory)?,
            (Access::Write, None) => throw_away(stream, request.slice.bytes())?,
            (Access::Read, Some(memory)) => {
                stream.write_all(&[status.to_byte()])?;
                return stream.write_all(memory);
            }
            (Access::Read, None) => {}
        }
        stream.write_all(&[status.to_byte()])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it locked left bytes and exposures, both of which are whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The bytes that a request names, if they are exposed for it.
    fn reach(&mut self, request: &Request) -> Option<&mut [u8]> {
        let slice = &request.slice;
        let (start, end) = (slice.address(), slice.address() + slice.bytes());
        let exposed = self.exposures.iter().any(|(whole, access)| {
            let inside = whole.address() <= start && end <= whole.address() + whole.bytes();
            whole.key() == slice.key() && *access == request.access && inside
        });
        // Exposures lie in the memory, so both are offsets into it.
        exposed.then(|| self.bytes.get_mut((start - BASE_ADDRESS) as usize..(end - BASE_ADDRESS) as usize))?
    }
}

/// False at the end of the stream; an end in the middle is an error.
fn read_whole(stream: &mut impl Read, target: &mut [u8]) -> io::Result<bool> {
    let first = loop {
        match stream.read(target) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    if first == 0 {
        return Ok(false);
    }
    let rest = target.get_mut(first..).unwrap_or_default();
    stream.read_exact(rest)?;
    Ok(true)
}

fn throw_away(stream: &mut impl Read, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    let mut waste = [0; WASTE_BYTES];
    while left > 0 {
        let part = waste.get_mut(..left.min(WASTE_BYTES as u64) as usize).unwrap_or_default();
        stream.read_exact(part)?;
        left -= part.len() as u64;
    }
    Ok(())
}

impl fmt::Debug for Agent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let mut agent = formatter.debug_struct("Agent");
        agent.field("bytes", &state.bytes.len()).field("exposures", &state.exposures.len()).finish()
    }
}
