//! What a server holds of its clients when they go, and how it lets go: descriptors, paths, room in sockets.

#![allow(
    clippy::disallowed_methods,
    reason = "it looks at how long a close takes, and waits for other threads"
)]

use super::hostile::{BYTES, Raw, Server, alice, memory};
use crossdock_transport::{
    exposure::Link,
    remote::{Access, Transport},
    shm::{Admission, Event, PeerCredentials, Shm, ShmClient, ShmLink, ShmOptions, same_user_or_root},
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::{
    io::ErrorKind,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A connected socket whose close takes two seconds if it is the last: it has something to send that nobody takes, and is told to
/// wait for that.
fn slow_to_close() -> (OwnedFd, std::net::TcpListener) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nonblocking(true).unwrap();
    while std::io::Write::write(&mut &stream, &[0; 65536]).is_ok() {}
    let linger = Some(Duration::from_secs(2));
    rustix::net::sockopt::set_socket_linger(&stream, linger).unwrap();
    (OwnedFd::from(stream), listener)
}

#[test]
fn what_is_slow_to_close_stops_no_core() {
    // Shows that a descriptor which takes long to close keeps the endpoint from nothing, wherever a client puts it: instead of memory,
    // as a second one, behind the hello, unread in its socket, and unread in that of a client who is refused.
    let lasts = || {
        let (slow, _listener) = slow_to_close();
        let begin = std::time::Instant::now();
        drop(slow);
        begin.elapsed()
    };
    assert!(lasts() > Duration::from_secs(1), "the close is slow, or this test shows nothing");
    let hello = format!("hello 1 {BYTES:016x}");
    let refuse = Arc::new(AtomicBool::new(false));
    let refused = Arc::clone(&refuse);
    let admit = Arc::new(move |_: &PeerCredentials| match refused.load(Ordering::Relaxed) {
        true => Admission::Refuse,
        false => Admission::Wait,
    });
    let server = Server::new(ShmOptions { admit, ..ShmOptions::default() });
    type Say<'a> = &'a dyn Fn(&Raw, &OwnedFd);
    let places: [(&str, Say<'_>); 5] = [
        ("instead of memory", &|raw, slow| raw.say(&hello, &[slow])),
        ("as a second one", &|raw, slow| raw.say(&hello, &[&memory(BYTES), slow])),
        ("behind the hello", &|raw, slow| {
            raw.say(&hello, &[&memory(BYTES)]);
            raw.say(&hello, &[slow]);
        }),
        ("unread", &|raw, slow| {
            raw.say("no line", &[]);
            raw.say(&hello, &[slow]);
        }),
        ("refused", &|raw, slow| {
            raw.say(&hello, &[slow]);
            refuse.store(true, Ordering::Relaxed);
        }),
    ];
    for (place, say) in places {
        let (slow, _listener) = slow_to_close();
        let raw = Raw::connect(&server);
        say(&raw, &slow);
        // From here on the server has the only one.
        drop(slow);
        let begin = std::time::Instant::now();
        raw.until_the_end(&server);
        drop(raw);
        server.endpoint.poll();
        assert!(begin.elapsed() < Duration::from_millis(800), "{place}: {:?}", begin.elapsed());
    }
    refuse.store(false, Ordering::Relaxed);
    server.assert_works();
}

#[test]
fn a_limit_of_none_lets_nobody_in() {
    // Shows that a bound of zero is a bound, for one user and for all.
    for (user_handovers_max, handovers_max) in [(0, 8), (8, 0)] {
        let server = Server::new(ShmOptions { user_handovers_max, handovers_max, ..ShmOptions::default() });
        let client = server.client();
        assert_eq!(server.event(&client), Event::Refused("too many clients".into()));
    }
}

#[test]
fn sessions_without_credits_are_refused_when_the_endpoint_is_opened() {
    // Shows that a configuration which no client could use is told to who made it, and not by a panic at the first client.
    let transport = Shm::new(ShmOptions::default());
    let arena = super::arena();
    transport.register(&arena).unwrap();
    let mut options = super::options();
    options.limits.credits = 0;
    assert_eq!(transport.open(options).map(|_| ()).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_path_is_let_go_only_by_who_has_it() {
    // Shows that a server which replaced an abandoned socket is reached there, and that the end of one whose socket somebody removed
    // takes nothing from the server that came after it.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let leave = || {
        let left =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&left, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    };
    leave();
    let first = Shm::listen(&path, ShmOptions::default()).unwrap();
    assert_eq!(Shm::listen(&path, ShmOptions::default()).unwrap_err().kind(), ErrorKind::AddrInUse);
    ShmClient::connect(&path, BYTES, same_user_or_root).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = Shm::listen(&path, ShmOptions::default()).unwrap();
    drop(first);
    ShmClient::connect(&path, BYTES, same_user_or_root).unwrap();
    drop(second);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_withdrawal_without_room_is_sent_when_there_is() {
    // Shows that a link whose withdrawal met a full socket is woken by the room, though the server has nothing to say: else its buffer
    // would be waited for in vain.
    let server = Server::new(ShmOptions::default());
    // More buffers than lines fit in a socket.
    let client = ShmClient::connect(&server.path, 16 << 20, same_user_or_root).unwrap();
    let Event::Session(id) = server.event(&client) else { panic!("no session") };
    server.bind(id, &alice()).unwrap();
    let link = ShmLink::new(client);
    let mut exposed = Vec::new();
    // Until the socket is full.
    while let Ok(slice) = link.expose(link.allocate(64).unwrap(), Access::Write) {
        exposed.push(slice);
    }
    link.withdraw(&exposed[0]);
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let readable = || {
        let descriptor = link.descriptor().unwrap();
        let mut watched = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut watched, Some(&now)).unwrap() > 0
    };
    // What the server told it before.
    while link.poll().is_some() {}
    assert!(!readable());
    // The kernel tells of room when most of it is free.
    let hears = |_| {
        server.endpoint.poll();
        readable()
    };
    assert!((0..20).any(hears), "there is room");
    let ended = (0..100).find_map(|_| {
        let ended = link.poll();
        server.endpoint.poll();
        ended
    });
    assert_eq!(ended.map(|(slice, _)| slice), Some(exposed[0]));
    assert!(!readable(), "it is not woken for nothing");
}
