//! Memory of another process on this host: the client hands over a memory file, and the server has it mapped.
//!
//! ```text
//!   client process                                      server, a core
//!   memory file ── hello, over a Unix socket ─────────► seals it, maps it ──► session <id>
//!   expose a range ───────────────────────────────────► window: address, direction
//!   request, with shm:<id>:<address>:<size> ── HTTP ──► read, write: copies · peer_lease: the disk writes there itself
//!   withdraw ─────────────────────────────────────────► and told when no device has it any more
//! ```
//!
//! A session comes about in one of two ways. A client connects to the [path](Shm::listen), is told its session's name, and names it in a
//! request that somebody signed: [`connect`](crate::remote::Endpoint::connect) with that name as the offer's token makes it
//! the signer's. Or somebody who has the connected socket offers it as the descriptor.
//!
//! A session that is not used for [`idle_max`](crate::remote::SessionLimits::idle_max) ends, as everywhere. Its memory stays, because it can not be handed
//! over again: the seals forbid every new mapping that is writable. It waits under another name, which the client is told, for the same
//! principal to bind it, and gives way when others need its place or its room.
//!
//! What a client can do to the server:
//! * *Take its memory away*: no. It is sealed before it is touched, see `handover`.
//! * *Make it pay*: a session costs the page tables of its memory, 1/512 of what is mapped and touched, within
//!   [`ShmOptions::mapped_bytes_max`]; a connection costs one descriptor and some kilobytes. Both are bounded. Where the kernel gives
//!   memory files huge pages, a hole of less than one huge page can hide behind the last one, so a session may make the server
//!   allocate up to 2 MiB once.
//! * *Make it wait*: where there is swap, yes. Once the kernel has put out pages of the client's memory file, a copy to or from
//!   them waits on the core's thread for the disk they are on, and all sessions of the core with it: in one turn for the pages of one
//!   operation, or of 8 MiB if they are more operations. They are not locked here, as that would be the server's memory to answer for.
//!   Huge pages are never put out; nor are pages of clients whose control group may not swap (`memory.swap.max`,
//!   <https://docs.kernel.org/admin-guide/cgroup-v2.html>).
//! * *Make it close something slow*: on threads for that, four at most, see `closing`. Who keeps all of them keeps others from
//!   connecting, and nobody from what he has.
//! * *Change its bytes under the server's eyes*: yes. A read copies them, each once, and the copy is what is checked and kept. What is
//!   written is never read back here. A disk that reads into a [`PeerLease`](crate::memory::PeerLease) is no different from a copy: a
//!   checksum of bytes there is a checksum of what the client let stand, so it must be taken elsewhere, or be taken again before
//!   a difference is called damage.
//! * *Say nothing, or too much*: it is hung up on; see `endpoint`.
//! * *Die*: the session ends with its connection, and the mapping goes with the last operation on it.
//!
//! What a server can do to a client is more: it has all of the memory mapped, writable, and what is exposed is a promise that it keeps.
//! A client connects to servers of its own user or of root, who could as well write into its process, or to those it is told to
//! trust ([`ShmClient::connect`]).

mod client;
mod closing;
mod endpoint;
mod handover;
mod line;
mod link;
mod numbers;
mod session;
mod socket;
mod windows;

pub use client::{Event, ShmClient, same_user_or_root};
pub use link::{ShmLink, ShmMemory};
pub use socket::PeerCredentials;

use crate::{
    memory::Arena,
    remote::{Capabilities, Endpoint, EndpointOptions, Medium, Principal, SessionLimits, Transport},
};
use closing::Closer;
use endpoint::ShmEndpoint;
use std::{
    fmt, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

const CAPABILITIES: Capabilities = Capabilities {
    medium: Medium::SharedMemory,
    operation_bytes_max: 1 << 30,
    pieces_max: 1024,
    directional: true,
    revocable: true,
    survives_refusal: true,
    foreign_memory: false,
    peer_leases: true,
    // What this process wrote is there for every process when it goes on: a notice would say nothing more.
    notices: false,
    message_bytes_max: 0,
};

/// What becomes of a client that connects to the path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is hung up on.
    Refuse,
    /// It gets a session that is nobody's until somebody names it in a request.
    Wait,
    /// It gets a session of that principal: whoever it is was decided by its credentials.
    Bind(Principal),
}

/// Decides about a client by what the kernel says of it.
pub type Admit = Arc<dyn Fn(&PeerCredentials) -> Admission + Send + Sync>;

/// Limits, and who may connect.
#[derive(Clone)]
pub struct ShmOptions {
    /// Bytes of one client's memory at most.
    pub session_bytes_max: u64,
    /// Bytes of all clients' memory at most. Mapping costs page tables: up to 1/512 of it.
    pub mapped_bytes_max: u64,
    /// Connections of one endpoint that are not bound to a principal, at most.
    pub handovers_max: usize,
    /// Those of them that are of one user, who loses the oldest when it has one more.
    pub user_handovers_max: usize,
    /// Let disks read straight into memory of small pages too, and not only into that of huge pages. It saves the copy and costs more: on a
    /// virtual disk half of the throughput, and no processor time is won (measured with 4 KiB pages on virtio, Linux 6.18).
    pub lend_small_pages: bool,
    /// Who may connect to the path. Not asked about sockets that are offered, since whoever offers one has decided.
    pub admit: Admit,
}

impl Default for ShmOptions {
    /// 16 GiB for each of the clients and 64 GiB in all (128 MiB of page tables), 64 handovers, 16 for each user, and only
    /// processes of this process's own user and root, which wait for a request.
    fn default() -> ShmOptions {
        let own = rustix::process::geteuid().as_raw();
        let admit = move |peer: &PeerCredentials| {
            if peer.user == own || peer.user == 0 { Admission::Wait } else { Admission::Refuse }
        };
        ShmOptions {
            session_bytes_max: 16 << 30,
            mapped_bytes_max: 64 << 30,
            handovers_max: 64,
            user_handovers_max: 16,
            lend_small_pages: false,
            admit: Arc::new(admit),
        }
    }
}

impl fmt::Debug for ShmOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ShmOptions")
            .field("session_bytes_max", &self.session_bytes_max)
            .field("mapped_bytes_max", &self.mapped_bytes_max)
            .field("handovers_max", &self.handovers_max)
            .field("user_handovers_max", &self.user_handovers_max)
            .field("lend_small_pages", &self.lend_small_pages)
            .finish_non_exhaustive()
    }
}

/// The transport. Cheap to clone; clones are the same transport.
#[derive(Clone)]
pub struct Shm(Arc<Shared>);

struct Shared {
    arena: OnceLock<Arena>,
    options: ShmOptions,
    listener: Option<Listener>,
    mapped_bytes: Arc<AtomicU64>,
    closer: Closer,
}

/// A socket in the file system, removed when it is dropped if it is still the one at its path.
struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and number of what was made at the path.
    file: Option<(u64, u64)>,
}

impl Shm {
    /// A transport that nobody can connect to by a path: sockets are offered.
    pub fn new(options: ShmOptions) -> Shm {
        Shm::with(options, None)
    }

    /// A transport that clients of this host connect to at `path`. All its endpoints share the clients: whoever is free
    /// takes the next. A socket that a server which is gone left at the path is replaced. The directory's permissions say
    /// who gets so far.
    ///
    /// # Errors
    /// Somebody listens at the path (`AddrInUse`), or something else than a socket is there; the path is longer than 107
    /// bytes; the file system refuses.
    pub fn listen(path: impl AsRef<Path>, options: ShmOptions) -> io::Result<Shm> {
        let path = path.as_ref().to_path_buf();
        let socket = match socket::listen_at(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(&path) => {
                replace_abandoned(&path)?
            }
            result => result?,
        };
        let file = file_at(&path);
        Ok(Shm::with(options, Some(Listener { socket, path, file })))
    }

    fn with(options: ShmOptions, listener: Option<Listener>) -> Shm {
        Shm(Arc::new(Shared {
            arena: OnceLock::new(),
            options,
            listener,
            mapped_bytes: Arc::default(),
            closer: Closer::default(),
        }))
    }
}

/// Whether it is a socket that nobody listens at any more.
fn is_abandoned(path: &Path) -> bool {
    // Connecting to any other file is refused, too.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    is_socket && socket::connect_to(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Puts a socket in the place of one that nobody listens at. It takes the path with a rename, from a name of its own, so that the path is never
/// without a socket. Of two servers that find the same dead one at once the later has the path.
fn replace_abandoned(path: &Path) -> io::Result<OwnedFd> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", rustix::process::getpid().as_raw_nonzero()));
    let own = PathBuf::from(name);
    let socket = socket::listen_at(&own)?;
    std::fs::rename(&own, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&own);
    })?;
    Ok(socket)
}

/// What lies at the path, told apart from whatever else comes to lie there.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

impl Shared {
    fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(|listener| listener.socket.as_fd())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if file_at(&self.path) != self.file {
            // Another server's by now: its clients would not find it any more.
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

impl Transport for Shm {
    fn name(&self) -> &'static str {
        "shm"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn register(&self, arena: &Arena) -> io::Result<()> {
        // Nothing to register: the processor reaches all of it. It is kept because whoever registers relies on that.
        self.0.arena.set(arena.clone()).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    fn endpoint_bytes_max(&self, limits: &SessionLimits) -> u64 {
        // Clients whose session is not bound have windows, too.
        let sessions_max = limits.sessions_max.saturating_add(self.0.options.handovers_max);
        SessionLimits { sessions_max, ..*limits }.bytes_max(windows::BYTES_MAX)
    }

    fn open(&self, options: EndpointOptions) -> io::Result<Rc<dyn Endpoint>> {
        options.limits.check()?;
        if self.0.arena.get().is_none() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(Rc::new(ShmEndpoint::new(Arc::clone(&self.0), options)?))
    }
}

impl fmt::Debug for Shm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shm = formatter.debug_struct("Shm");
        shm.field("options", &self.0.options).field("arena", &self.0.arena.get());
        shm.field("path", &self.0.listener.as_ref().map(|listener| &listener.path)).finish()
    }
}
