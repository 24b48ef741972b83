//! Clients that do not keep to the rules, and what comes of it: a refusal, and a server that goes on.

#![allow(clippy::disallowed_methods, reason = "it waits for other threads")]

use super::{open, shm};
use crossdock_transport::{
    memory::{Arena, Pool},
    operation::{Completion, Pending},
    remote::{
        Access, ConnectError, Endpoint, Offer, Principal, RemoteKey, RemoteMemory, RemoteSlice, SessionId,
        TransferError,
    },
    shm::{Admission, Event, PeerCredentials, Shm, ShmClient, ShmOptions, same_user_or_root},
};
use rustix::{
    fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, connect, recv, send, sendmsg, socket_with, socketpair,
    },
};
use std::{
    cell::Cell,
    future::Future,
    io::{ErrorKind, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

pub(super) const BYTES: u64 = 1 << 20;

/// A server that listens at a path, driven by the test.
pub(super) struct Server {
    pub(super) endpoint: Rc<dyn Endpoint>,
    pool: Pool,
    pub(super) path: PathBuf,
    /// The session that was told last.
    last: Cell<Option<SessionId>>,
    _shm: Shm,
    _arena: Arena,
    _directory: tempfile::TempDir,
}

impl Server {
    pub(super) fn new(options: ShmOptions) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let shm = Shm::listen(&path, options).unwrap();
        let (arena, endpoint) = open(&shm);
        Server {
            endpoint,
            pool: arena.pool(0),
            path,
            last: Cell::new(None),
            _shm: shm,
            _arena: arena,
            _directory: directory,
        }
    }

    pub(super) fn client(&self) -> ShmClient {
        ShmClient::connect(&self.path, BYTES, same_user_or_root).unwrap()
    }

    /// What the client hears next.
    pub(super) fn event(&self, client: &ShmClient) -> Event {
        (0..100)
            .find_map(|_| {
                self.endpoint.poll();
                client.poll()
            })
            .expect("the server answers")
    }

    /// A client whose session waits to be named.
    fn waiting(&self) -> (ShmClient, SessionId) {
        let client = self.client();
        match self.event(&client) {
            Event::Session(id) => {
                self.last.set(Some(id));
                (client, id)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn bind(&self, id: SessionId, principal: &Principal) -> Result<SessionId, ConnectError> {
        let token = format!("{:032x}", u128::from_be_bytes(id.to_bytes()));
        let offer = Offer { token, ..Offer::default() };
        self.endpoint.connect(principal, offer).map(|answer| answer.session)
    }

    pub(super) fn session(&self) -> (ShmClient, Rc<dyn RemoteMemory>) {
        let (client, id) = self.waiting();
        self.bind(id, &alice()).unwrap();
        (client, self.endpoint.session(id, &alice()).unwrap())
    }

    fn finish(&self, pending: Pending) -> Completion {
        let mut pending = pin!(pending);
        (0..1000)
            .find_map(|_| {
                self.endpoint.poll();
                match pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(completion) => Some(completion),
                    Poll::Pending => None,
                }
            })
            .expect("an operation completes")
    }

    fn write(&self, session: &Rc<dyn RemoteMemory>, target: RemoteSlice) -> Result<u32, TransferError> {
        let mut lease = self.pool.try_acquire(4096).unwrap();
        lease.set_len(target.bytes() as usize);
        lease.as_mut_slice().fill(7);
        let slot = session.credits().try_slot().unwrap();
        let completion = self.finish(session.write(slot, lease.freeze().into(), target));
        completion.result.map_err(TransferError::from)
    }

    /// The server still serves others.
    pub(super) fn assert_works(&self) {
        let (client, session) = self.session();
        let target = client.expose(100..200, Access::Write).unwrap();
        assert_eq!(self.write(&session, target), Ok(100));
        let mut seen = [0; 102];
        client.load(99, &mut seen);
        assert!(seen[0] == 0 && seen[101] == 0 && seen[1..101].iter().all(|byte| *byte == 7));
    }
}

pub(super) fn alice() -> Principal {
    Principal::new("alice")
}

/// A bare connection, for what no client of ours would say.
pub(super) struct Raw(OwnedFd);

impl Raw {
    pub(super) fn connect(server: &Server) -> Raw {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(&server.path).unwrap()).unwrap();
        Raw(socket)
    }

    pub(super) fn say(&self, line: &str, descriptors: &[&OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        sendmsg(&self.0, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    /// Everything the server said until it hung up.
    pub(super) fn until_the_end(&self, server: &Server) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..100 {
            server.endpoint.poll();
            let mut line = [0; 256];
            match recv(&self.0, &mut line[..], rustix::net::RecvFlags::DONTWAIT) {
                Ok((0, _)) => return said,
                Ok((bytes, _)) => said.push(String::from_utf8_lossy(&line[..bytes]).into_owned()),
                Err(_) => {}
            }
        }
        panic!("the server did not hang up, and said {said:?}");
    }
}

pub(super) fn memory(bytes: u64) -> OwnedFd {
    let file = memfd_create("crossdock-test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
    file
}

/// What clients had a hand in is closed by other threads, soon.
fn settles(what: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it does not settle");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Descriptors of this process, which is the test's own: see [`in_a_process_of_its_own`].
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs the test in a process where no other test opens or closes descriptors meanwhile, whichever runner there is: in the process
/// that the runner made it returns false, once another one has passed the test.
fn in_a_process_of_its_own(test: &str) -> bool {
    const ALONE: &str = "CROSSDOCK_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", test, "--nocapture"]).env(ALONE, "1");
    let output = alone.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let about = || format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{}", about());
    false
}

#[test]
fn a_session_is_whose_request_names_it() {
    // Shows that a client that came by the path is nobody's until it is named, and then one principal's only.
    let server = Server::new(ShmOptions::default());
    let (client, id) = server.waiting();
    assert_eq!(id.core(), 5);
    assert!(server.endpoint.session(id, &alice()).is_none(), "before anybody named it");
    assert_eq!(server.endpoint.session_count(), 0);
    assert_eq!(server.bind(id, &alice()).unwrap(), id);
    assert!(matches!(server.bind(id, &Principal::new("mallory")), Err(ConnectError::Malformed(_))));
    assert!(server.endpoint.session(id, &Principal::new("mallory")).is_none());
    assert!(server.endpoint.session(id, &alice()).is_some());
    drop(client);
    server.endpoint.poll();
    assert_eq!(server.endpoint.session_count(), 0, "a session lives as long as its client");
    assert!(server.bind(id, &alice()).is_err());
    server.assert_works();
}

#[test]
fn credentials_decide_where_that_was_asked_for() {
    // Shows that a client may be refused or given a principal by what the kernel says of it.
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let admit = {
        let seen = Arc::clone(&seen);
        Arc::new(move |peer: &PeerCredentials| {
            let mut seen = seen.lock().unwrap();
            seen.push(*peer);
            if seen.len() == 1 { Admission::Refuse } else { Admission::Bind(Principal::new("by-user")) }
        })
    };
    let server = Server::new(ShmOptions { admit, ..ShmOptions::default() });
    let refused = server.client();
    assert_eq!(server.event(&refused), Event::Refused("not for this user".into()));
    assert_eq!(server.event(&refused), Event::Gone);
    let (_client, id) = server.waiting();
    assert!(server.endpoint.session(id, &Principal::new("by-user")).is_some());
    let peer = seen.lock().unwrap()[1];
    let own = rustix::process::getpid().as_raw_nonzero().get();
    assert_eq!((peer.user, peer.process), (rustix::process::geteuid().as_raw(), own));
    assert!(ShmClient::connect(&server.path, BYTES, |_| false).is_err(), "a server that is not trusted");
}

#[test]
fn a_session_by_credentials_is_seen_through_a_middleware() {
    // Shows that a session which nobody connected is there for a transport's wrapper too, and goes with its client.
    use super::{arena, options};
    use crossdock_transport::{
        middleware::{Tracer, Wrapped},
        remote::Transport,
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let admit = Arc::new(|_: &PeerCredentials| Admission::Bind(alice()));
    let shm = Shm::listen(&path, ShmOptions { admit, ..ShmOptions::default() }).unwrap();
    let wrapped = Wrapped::new(shm, |_core| Rc::new(Tracer::default()));
    wrapped.register(&arena()).unwrap();
    let endpoint = wrapped.open(options()).unwrap();
    let client = ShmClient::connect(&path, BYTES, same_user_or_root).unwrap();
    let event = (0..10).find_map(|_| {
        endpoint.poll();
        client.poll()
    });
    let Some(Event::Session(id)) = event else { panic!("no session") };
    let session = endpoint.session(id, &alice()).unwrap();
    let again = endpoint.session(id, &alice()).unwrap();
    assert!(session.is_open() && Rc::ptr_eq(&session, &again));
    drop(client);
    endpoint.poll();
    assert!(!session.is_open());
    assert!(endpoint.session(id, &alice()).is_none());
}

#[test]
fn what_is_no_handover_is_refused() {
    // Shows that hellos without memory, with other memory, or that are none at all end their connection, leave no descriptor
    // open, and harm nobody else.
    if !in_a_process_of_its_own("shm::hostile::what_is_no_handover_is_refused") {
        return;
    }
    let server = Server::new(ShmOptions::default());
    let before = descriptors();
    let good = || memory(BYTES);
    let sparse = || {
        let file = memfd_create("crossdock-test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, BYTES).unwrap();
        file
    };
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let hello = format!("hello 1 {BYTES:016x}");
    let refusals: Vec<(&str, String, Vec<OwnedFd>)> = vec![
        ("", hello.clone(), vec![]),
        ("", hello.clone(), vec![good(), good()]),
        ("", hello.clone(), vec![good(), good(), good(), good(), good(), good(), good(), good()]),
        ("refused no memory file that can be sealed", hello.clone(), vec![null()]),
        ("refused the memory has holes", hello.clone(), vec![sparse()]),
        ("refused not the size that was stated", format!("hello 1 {:016x}", BYTES + 1), vec![good()]),
        ("refused not the size that was stated", format!("hello 1 {:016x}", 0), vec![good()]),
        ("refused more memory than this server takes", format!("hello 1 {:016x}", u64::MAX), vec![good()]),
        ("refused more memory than this server takes", format!("hello 1 {:016x}", 17u64 << 30), vec![good()]),
        ("", format!("hello 2 {BYTES:016x}"), vec![good()]),
        ("", "x".repeat(1000), vec![good()]),
        ("", "withdraw 0000000000000000".into(), vec![]),
        ("", "\u{0}".into(), vec![]),
    ];
    for (said, line, files) in &refusals {
        let raw = Raw::connect(&server);
        raw.say(line, &files.iter().collect::<Vec<_>>());
        let heard = raw.until_the_end(&server);
        let expected: Vec<&str> = if said.is_empty() { vec![] } else { vec![said] };
        assert_eq!(heard, expected, "{line:?} with {} descriptors", files.len());
    }
    drop(refusals);
    settles(|| descriptors() == before);
    server.assert_works();
}

#[test]
fn lines_that_are_against_the_rules_end_the_session() {
    // Shows that a client which exposes what it does not have, withdraws what it did not expose, says hello twice or sends files
    // for nothing loses its session, and no other.
    if !in_a_process_of_its_own("shm::hostile::lines_that_are_against_the_rules_end_the_session") {
        return;
    }
    let server = Server::new(ShmOptions::default());
    let before = descriptors();
    let expose = |address: u64, bytes: u64, offset: u64| {
        format!("expose {address:016x} {bytes:016x} {offset:016x} write")
    };
    let lines = [
        (expose(0, BYTES + 1, 0), false),
        (expose(0, 1, BYTES), false),
        (expose(0, 2, u64::MAX), false),
        (expose(u64::MAX, 2, 0), false),
        (expose(0, 0, 0), false),
        ("withdraw 0000000000000001".to_owned(), false),
        (format!("hello 1 {BYTES:016x}"), true),
        (expose(0, 1, 0), true),
    ];
    for (line, file) in lines {
        let (raw, file_sent) = (Raw::connect(&server), memory(BYTES));
        raw.say(&format!("hello 1 {BYTES:016x}"), &[&file_sent]);
        let files = if file { vec![&file_sent] } else { vec![] };
        raw.say(&line, &files);
        let heard = raw.until_the_end(&server);
        assert!(matches!(&heard[..], [session] if session.starts_with("session ")), "{line}: {heard:?}");
    }
    settles(|| descriptors() == before);
    server.assert_works();
}

#[test]
fn those_who_say_nothing_keep_nobody_out() {
    // Shows that connections without a hello are bounded, and that a user who holds as many as it may still gets in: at the cost of
    // its oldest.
    if !in_a_process_of_its_own("shm::hostile::those_who_say_nothing_keep_nobody_out") {
        return;
    }
    let options = ShmOptions { user_handovers_max: 4, handovers_max: 6, ..ShmOptions::default() };
    let server = Server::new(options);
    let before = descriptors();
    let silent: Vec<_> = (0..50)
        .map(|_| {
            let raw = Raw::connect(&server);
            server.endpoint.poll();
            raw
        })
        .collect();
    server.endpoint.poll();
    settles(|| descriptors() - before == 50 + 4);
    server.assert_works();
    drop(silent);
    server.endpoint.poll();
    settles(|| descriptors() == before);
}

#[test]
fn memory_is_bounded() {
    // Shows that clients together have no more mapped than they may, and that there is room again when one goes, dead or alive.
    let options = ShmOptions { mapped_bytes_max: 2 * BYTES + 4096, ..ShmOptions::default() };
    let server = Server::new(options);
    let (first, _second) = (server.session(), server.waiting());
    let third = server.client();
    assert_eq!(server.event(&third), Event::Refused("too many clients".into()));
    drop(first);
    server.endpoint.poll();
    server.waiting();
}

/// Lets the server look twice, so far apart that what was not used has ended; the second look is at `seconds` and 300 more.
fn let_idle(server: &Server, seconds: u64) -> usize {
    server.endpoint.expire_idle(Duration::from_secs(seconds));
    server.endpoint.expire_idle(Duration::from_secs(seconds + 300))
}

#[test]
fn what_was_not_used_for_long_is_bound_again_under_another_name() {
    // Shows that memory whose session ended for want of use is its principal's again for the asking, with what was exposed of it; that it is
    // nobody else's, and that the old name is nobody's for ever.
    let server = Server::new(ShmOptions::default());
    let (client, session) = server.session();
    let target = client.expose(100..200, Access::Write).unwrap();
    let (old, bob) = (server.last.get().unwrap(), Principal::new("bob"));
    assert_eq!(let_idle(&server, 0), 1);
    assert!(!session.is_open() && server.endpoint.session_count() == 0);
    let Event::Session(new) = server.event(&client) else { panic!("another name") };
    assert_ne!(new, old);
    assert!(server.bind(old, &alice()).is_err() && server.bind(new, &bob).is_err());
    assert!(server.endpoint.session(new, &alice()).is_none(), "not before it is bound");
    // A lost reply, or two requests that find it so, ask twice.
    assert_eq!(server.bind(new, &alice()).unwrap(), new);
    assert_eq!(server.bind(new, &alice()).unwrap(), new);
    assert!(server.bind(new, &bob).is_err());
    assert_eq!(server.endpoint.session_count(), 1);
    let session = server.endpoint.session(new, &alice()).unwrap();
    assert_eq!(server.write(&session, target), Ok(100));
    client.withdraw(&target).unwrap();
    assert_eq!(server.event(&client), Event::Withdrawn(target.address()));
    // Whoever wants it no more ends it, bound or not.
    assert_eq!(let_idle(&server, 1000), 1);
    let Event::Session(last) = server.event(&client) else { panic!("another name") };
    assert!(!server.endpoint.disconnect(last, &bob) && server.bind(last, &alice()).is_ok());
    assert_eq!(let_idle(&server, 2000), 1);
    let Event::Session(last) = server.event(&client) else { panic!("another name") };
    server.endpoint.disconnect(last, &alice());
    assert_eq!(server.event(&client), Event::Gone);
    server.assert_works();
}

#[test]
fn what_waits_to_be_bound_again_is_bounded() {
    // Shows that no more of a principal's memory waits than may be its sessions, that the oldest goes, and that whoever comes has its room.
    let server = Server::new(ShmOptions::default());
    let small = || {
        let client = ShmClient::connect(&server.path, 4096, same_user_or_root).unwrap();
        let Event::Session(id) = server.event(&client) else { panic!("no session") };
        server.bind(id, &alice()).unwrap();
        client
    };
    let many = server.endpoint.limits().principal_sessions_max;
    let clients: Vec<_> = (0..many).map(|_| small()).collect();
    assert_eq!(let_idle(&server, 0), many);
    let last = small();
    assert_eq!(let_idle(&server, 1000), 1);
    assert!(matches!(server.event(&last), Event::Session(_)));
    let gone = clients.iter().filter(|client| {
        assert!(matches!(server.event(client), Event::Session(_)));
        client.poll() == Some(Event::Gone)
    });
    assert_eq!(gone.count(), 1);

    let server = Server::new(ShmOptions { mapped_bytes_max: 2 * BYTES + 4096, ..ShmOptions::default() });
    let first = server.session();
    assert_eq!(let_idle(&server, 0), 1);
    let second = server.session();
    assert_eq!(let_idle(&server, 1000), 1);
    let _third = server.session();
    assert!(matches!(server.event(&first.0), Event::Session(_)));
    assert_eq!(server.event(&first.0), Event::Gone, "the older of two makes room");
    assert!(matches!(server.event(&second.0), Event::Session(_)));
    assert_eq!(second.0.poll(), None);
}

#[test]
fn a_client_that_does_not_listen_is_hung_up_on() {
    // Shows that answers nobody reads do not pile up: they end the session when the socket is full.
    let server = Server::new(ShmOptions::default());
    let (client, session) = server.session();
    let mut ended = false;
    for _ in 0..100_000 {
        let exposed = client.expose(0..1, Access::Write).and_then(|slice| client.withdraw(&slice));
        server.endpoint.poll();
        ended = exposed.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) || !session.is_open();
        if ended {
            break;
        }
    }
    assert!(ended, "the server goes on answering");
    server.assert_works();
}

#[test]
fn what_was_read_is_what_was_checked() {
    // Shows that a client which changes its bytes all the time changes nothing in a lease that was read from them.
    let server = Server::new(ShmOptions::default());
    let (client, session) = server.session();
    let source = client.expose(0..1 << 16, Access::Read).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The client's memory goes to the thread that scribbles; what it exposed stays exposed.
        scope.spawn(|| {
            let client = client;
            let mut round = 0u8;
            while !stop.load(Ordering::Relaxed) {
                round = round.wrapping_add(1);
                client.store(0, &[round; 1 << 16]);
            }
        });
        let sum = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        let (mut rounds, mut torn, mut changed) = (0, 0, 0);
        // Until the client was seen to change its bytes in the middle of a read.
        while rounds < 200 || (torn == 0 && rounds < 20_000) {
            let lease = server.pool.try_acquire(1 << 16).unwrap();
            let slot = session.credits().try_slot().unwrap();
            let (_, lease) = server.finish(session.read(slot, source, lease)).into_lease();
            let bytes = lease.as_slice();
            let checked = sum(bytes);
            torn += usize::from(bytes.iter().any(|byte| bytes.first() != Some(byte)));
            std::thread::yield_now();
            changed += usize::from(bytes.len() != 1 << 16 || sum(bytes) != checked);
            rounds += 1;
        }
        // Before anything that may panic: the scope waits for its thread.
        stop.store(true, Ordering::Relaxed);
        assert_eq!(changed, 0, "leases whose bytes changed after they were read");
        assert!(torn > 0, "the client never changed its bytes in the middle of a read");
    });
}

#[test]
fn a_withdrawal_is_told_when_no_device_can_write() {
    // Shows that while a device has a part of an exposure the client is not told that it is withdrawn; that meanwhile nothing new
    // reaches it; and that the memory outlives session and endpoint until the device is done.
    let server = Server::new(ShmOptions::default());
    let (client, session) = server.session();
    let target = client.expose(4096..8192, Access::Write).unwrap();
    let source = client.expose(4096..8192, Access::Read).unwrap();
    let bad = |slice: Option<RemoteSlice>| session.peer_lease(&slice.unwrap()).map(|_| ()).unwrap_err();
    assert_eq!(bad(Some(source)), TransferError::Refused);
    assert_eq!(bad(RemoteSlice::new(target.address(), 4097, RemoteKey(0))), TransferError::Refused);
    assert_eq!(bad(RemoteSlice::new(target.address(), 1, RemoteKey(1))), TransferError::Refused);
    assert_eq!(bad(RemoteSlice::new(u64::MAX - 1, 1, RemoteKey(0))), TransferError::Refused);

    let lease = session.peer_lease(&target).unwrap();
    assert_eq!((lease.len(), lease.misalignment(4096)), (4096, 0));
    let (_front, behind) = lease.split_at(512);
    drop(_front);
    client.withdraw(&target).unwrap();
    assert!(session.peer_lease(&target).is_err(), "the withdrawal was sent first");
    assert_eq!(server.write(&session, target), Err(TransferError::Refused));
    assert!(client.poll().is_none());
    assert!(server.endpoint.begin_wait(), "nothing to do for the core before the device is done");
    drop(behind);
    assert!(!server.endpoint.begin_wait());
    assert_eq!(server.event(&client), Event::Withdrawn(target.address()));

    let target = client.expose(0..4096, Access::Write).unwrap();
    server.endpoint.poll();
    let mut lease = session.peer_lease(&target).unwrap();
    drop((client, session, server));
    assert_eq!(lease.len(), 4096);
    assert!(is_mapped(lease.as_mut_ptr()));
    let address = lease.as_mut_ptr();
    drop(lease);
    assert!(!is_mapped(address));
}

/// Whether a memory file of a client is mapped there.
fn is_mapped(address: *mut u8) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("memfd:crossdock-client")).any(|line| {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(start)..number(end)).contains(&address.addr())
    })
}

#[test]
fn other_sockets_are_not_taken() {
    // Shows that an offered descriptor is a packet socket with a hello in it, or is refused and closed.
    if !in_a_process_of_its_own("shm::hostile::other_sockets_are_not_taken") {
        return;
    }
    let shm = shm();
    let (_arena, endpoint) = open(&shm);
    let before = descriptors();
    let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let (_stream, stream) = pair(SocketType::STREAM);
    let (_silent, silent) = pair(SocketType::SEQPACKET);
    let (gone, left) = pair(SocketType::SEQPACKET);
    let (rude, rude_end) = pair(SocketType::SEQPACKET);
    send(&rude, b"hello 1 0000000000100000", SendFlags::empty()).unwrap();
    drop(gone);
    let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    for descriptor in [stream, silent, left, rude_end, null] {
        let offer = Offer { descriptor: Some(descriptor), ..Offer::default() };
        assert!(matches!(endpoint.connect(&alice(), offer), Err(ConnectError::Malformed(_))));
    }
    assert_eq!(endpoint.session_count(), 0);
    drop((_stream, _silent, rude));
    settles(|| descriptors() == before);
}

#[test]
fn a_path_is_taken_over_only_from_the_dead() {
    // Shows that a socket that nobody listens at is replaced, one that is in use is not, and that no other file is touched.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let first = Shm::listen(&path, ShmOptions::default()).unwrap();
    let taken = Shm::listen(&path, ShmOptions::default()).map(drop).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    drop(first);
    assert!(!path.exists(), "a server cleans up");
    let abandoned = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(abandoned);
    assert!(path.exists());
    drop(Shm::listen(&path, ShmOptions::default()).unwrap());
    std::fs::write(&path, "precious").unwrap();
    assert!(Shm::listen(&path, ShmOptions::default()).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn blocks_behind_the_end_hide_no_holes() {
    // Shows that a file whose blocks all lie behind its end has holes, and is refused.
    let server = Server::new(ShmOptions::default());
    let file = memfd_create("crossdock-test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, BYTES).unwrap();
    fallocate(&file, FallocateFlags::KEEP_SIZE, BYTES, BYTES).unwrap();
    let raw = Raw::connect(&server);
    raw.say(&format!("hello 1 {BYTES:016x}"), &[&file]);
    assert_eq!(raw.until_the_end(&server), ["refused the memory has holes"]);
}

#[test]
fn many_withdrawals_at_once_are_confirmed() {
    // Shows that a client which withdraws all it has before it listens again keeps its session.
    let server = Server::new(ShmOptions::default());
    let (client, session) = server.session();
    let slices: Vec<_> = (0..400)
        .map(|at| {
            server.endpoint.poll();
            client.expose(at..at + 1, Access::Write).unwrap()
        })
        .collect();
    for slice in &slices {
        server.endpoint.poll();
        client.withdraw(slice).unwrap();
    }
    let numbers: Vec<u32> = (0..400)
        .map(|at| {
            server.endpoint.poll();
            let slice = client.expose_once(at..at + 1).unwrap();
            client.abandon(&slice).unwrap();
            slice.key().0
        })
        .collect();
    // Nothing is to be done until it listens.
    server.endpoint.poll();
    assert!(server.endpoint.begin_wait());
    let descriptor = server.endpoint.descriptor().unwrap();
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let readable = || {
        let mut watched = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut watched, Some(&now)).unwrap() > 0
    };
    assert!(!readable());
    for _ in 0..250 {
        assert!(matches!(client.poll(), Some(Event::Withdrawn(_))));
    }
    assert!(readable(), "there is room again");
    for slice in &slices[250..] {
        assert_eq!(server.event(&client), Event::Withdrawn(slice.address()));
    }
    for number in numbers {
        assert_eq!(server.event(&client), Event::Abandoned(number));
    }
    assert!(session.is_open());
    server.endpoint.poll();
    assert!(server.endpoint.begin_wait() && !readable());
}

#[test]
fn all_that_was_said_before_a_request_is_heard() {
    // Shows that a request is judged by all that its client said before it, however much that was.
    let server = Server::new(ShmOptions::default());
    let (client, session) = server.session();
    let slices: Vec<_> = (0..250).map(|at| client.expose(at..at + 1, Access::Write).unwrap()).collect();
    let last = slices.last().unwrap();
    session.begin_request(last, Access::Write).unwrap();
    assert!(session.peer_lease(last).is_ok());
    for slice in &slices {
        client.withdraw(slice).unwrap();
    }
    session.begin_request(last, Access::Write).unwrap();
    assert!(session.peer_lease(last).is_err());
    for slice in &slices {
        assert_eq!(server.event(&client), Event::Withdrawn(slice.address()));
    }
}

#[test]
fn a_lack_of_descriptors_passes() {
    // Shows that a server which had none left takes clients again once there are some.
    if !in_a_process_of_its_own("shm::hostile::a_lack_of_descriptors_passes") {
        return;
    }
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::{Resource, Rlimit, getrlimit, setrlimit},
    };
    let server = Server::new(ShmOptions::default());
    let client = server.client();
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors() as u64 + 8), maximum }).unwrap();
    let mut all = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        all.push(file);
    }
    server.endpoint.poll();
    assert!(server.endpoint.begin_wait(), "there is nothing to be done until then");
    let descriptor = server.endpoint.descriptor().unwrap();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&now)), Ok(0));
    server.endpoint.poll();
    drop(all);
    assert!(matches!(server.event(&client), Event::Session(_)));
    // And it is woken for the next.
    let _next = server.client();
    assert_eq!(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&now)), Ok(1));
}
