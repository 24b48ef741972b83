//! What is said over the socket by which shared memory is handed over: one line of the input is one packet, to a server and to a client.

use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy, Pool},
    remote::{
        Endpoint, EndpointOptions, Offer, Principal, RemoteKey, RemoteMemory, RemoteSlice, SessionLimits,
        Transport,
    },
    shm::{Event, Shm, ShmClient, ShmOptions},
};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use std::{
    cell::Cell,
    future::Future,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Bytes of a client's memory.
const BYTES: usize = 16 << 10;
/// Packets of one conversation.
const PACKETS_MAX: usize = 32;
/// Of which no other byte of the client's memory is one.
const MARK: u8 = 7;

struct Server {
    endpoint: Rc<dyn Endpoint>,
    pool: Pool,
    _arena: Arena,
}

thread_local! {
    /// One for all inputs: each has a session of its own, and leaves none.
    static SERVER: Server = Server::new();
}

impl Server {
    fn new() -> Server {
        let options = ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
        let arena = Arena::map(&options).expect("there are four mebibytes");
        let shm = Shm::new(ShmOptions::default());
        shm.register(&arena).expect("the first arena");
        let number = Cell::new(0u64);
        let entropy = Box::new(move |bytes: &mut [u8]| {
            number.set(number.get() + 1);
            bytes.iter_mut().zip(number.get().to_le_bytes()).for_each(|(byte, entropy)| *byte = entropy);
        });
        let options = EndpointOptions { core: 0, limits: SessionLimits::default(), entropy };
        let endpoint = shm.open(options).expect("it has its arena");
        Server { endpoint, pool: arena.pool(0), _arena: arena }
    }

    /// Writes marks to where a line says that memory is. How many the session says were moved.
    fn write(&self, session: &Rc<dyn RemoteMemory>, target: RemoteSlice) -> usize {
        self.pool.drain_returns();
        let mut lease = self.pool.try_acquire(4096).expect("one lease is out at a time");
        lease.set_len(usize::try_from(target.bytes()).unwrap_or(0).min(4096));
        lease.as_mut_slice().fill(MARK);
        let slot = session.credits().try_slot().expect("nothing else is under way");
        let Some(target) = target.slice(0..lease.len() as u64) else { return 0 };
        let mut pending = pin!(session.write(slot, lease.freeze().into(), target));
        for _ in 0..1000 {
            self.endpoint.poll();
            if let Poll::Ready(completion) = pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return completion.result.map_or(0, |bytes| bytes as usize);
            }
        }
        panic!("every operation completes, whatever the client said");
    }
}

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let packets: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').take(PACKETS_MAX).collect();
    SERVER.with(|server| to_server(server, &packets));
    to_client(&packets);
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
        .expect("there are descriptors")
}

fn say(socket: &OwnedFd, packet: &[u8]) {
    // Whoever does not listen any more is not told.
    let _ = send(socket.as_fd(), packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

/// The slice that a line names, if it names one: address and size, where [`ShmClient`] has them.
fn named(packet: &[u8]) -> Option<RemoteSlice> {
    let mut words = std::str::from_utf8(packet).ok()?.split(' ').skip(1);
    let mut number = || u64::from_str_radix(words.next()?, 16).ok();
    RemoteSlice::new(number()?, number()?, RemoteKey(0))
}

fn to_server(server: &Server, packets: &[&[u8]]) {
    let (ours, theirs) = pair();
    let copy = ours.try_clone().expect("there are descriptors");
    let client = ShmClient::over(copy, BYTES as u64).expect("a client has 16 KiB");
    let principal = Principal::new("fuzz");
    let offer = Offer { descriptor: Some(theirs), ..Offer::default() };
    let answer = server.endpoint.connect(&principal, offer).expect("its hello is good");
    for packet in packets {
        say(&ours, packet);
        server.endpoint.poll();
    }
    let mut moved = 0;
    if let Some(session) = server.endpoint.session(answer.session, &principal) {
        let targets = packets.iter().filter_map(|packet| named(packet)).filter(|slice| slice.bytes() > 0);
        moved = targets.map(|target| server.write(&session, target)).sum();
    }
    let mut memory = vec![0; BYTES];
    client.load(0, &mut memory);
    let marks = memory.iter().filter(|byte| **byte == MARK).count();
    assert!(marks <= moved, "{marks} bytes changed, and {moved} were moved");
    while !matches!(client.poll(), None | Some(Event::Gone)) {}
    drop((client, ours));
    server.endpoint.poll();
    assert_eq!(server.endpoint.session_count(), 0, "a session ends with its client");
}

fn to_client(packets: &[&[u8]]) {
    let (ours, theirs) = pair();
    let client = ShmClient::over(theirs, BYTES as u64).expect("a client has 16 KiB");
    let mut is_gone = false;
    for packet in packets {
        say(&ours, packet);
        while let Some(event) = client.poll() {
            assert!(!is_gone || event == Event::Gone, "nothing more is believed");
            is_gone |= event == Event::Gone;
            if is_gone {
                break;
            }
        }
    }
}

/// Conversations: whole ones, and each line there is.
pub fn seeds() -> Vec<Vec<u8>> {
    let (address, size) = ("0000000000100000", "0000000000001000");
    let expose = |access: &str| format!("expose {address} {size} 0000000000000800 {access}");
    let session = format!("session {}", "0123456789abcdef".repeat(2));
    [
        expose("write"),
        expose("read"),
        format!("{}\nwithdraw {address}", expose("write")),
        format!("{}\nexpose 0000000000200000 {size} 0000000000000000 write", expose("read")),
        "abandon 00000001\nabandon 00000002".to_owned(),
        format!("hello 1 {size}"),
        format!("{session}\nwithdrawn {address}\nabandoned 00000001"),
        format!("{session}\n{session}\nrefused too many clients"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Whether a seed gets as far as it is to: the server goes on with its client, or the client with its server.
pub fn is_accepted(seed: &[u8]) -> bool {
    let packets = || seed.split(|byte| *byte == b'\n');
    let (ours, theirs) = pair();
    let client = ShmClient::over(theirs, BYTES as u64).expect("a client has 16 KiB");
    packets().for_each(|packet| say(&ours, packet));
    let goes_on = !std::iter::from_fn(|| client.poll()).take(PACKETS_MAX).any(|event| event == Event::Gone);
    let served = SERVER.with(|server| {
        let (ours, theirs) = pair();
        let copy = ours.try_clone().expect("there are descriptors");
        let _client = ShmClient::over(copy, BYTES as u64).expect("a client has 16 KiB");
        let offer = Offer { descriptor: Some(theirs), ..Offer::default() };
        server.endpoint.connect(&Principal::new("fuzz"), offer).expect("its hello is good");
        packets().for_each(|packet| say(&ours, packet));
        server.endpoint.poll();
        let served = server.endpoint.session_count() == 1;
        drop((ours, _client));
        server.endpoint.poll();
        served
    });
    goes_on || served
}
