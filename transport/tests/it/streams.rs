//! Byte streams, over the loopback device; the other end is the standard library's.

use crate::{
    drive::{Bench, fill, poll_once},
    on_both_drivers,
};
use crossdock_transport::{
    memory::ScatterList,
    operation::OsError,
    ring::{Ring, RingOptions},
    tcp::{TcpListener, TcpStream},
};
use std::{
    io::{Read, Write},
    net::{self, Shutdown, SocketAddr},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

on_both_drivers!(
    received_bytes_go_behind_what_the_lease_holds,
    a_large_send_arrives_whole,
    a_sent_lease_comes_back,
    no_room_is_an_error_that_keeps_the_lease,
    a_refused_connection_is_an_error,
    a_reset_is_an_error,
    a_dropped_receive_gives_its_lease_back,
    a_dropped_send_gives_its_pieces_back,
    a_dropped_accept_loses_no_connection,
    cores_share_an_address,
    a_socket_closes_with_its_last_owner,
    a_ring_that_closes_lets_go_of_sockets,
    a_ring_that_closes_lets_go_of_what_nobody_reads,
    many_connections_at_once,
);

const ANY: SocketAddr = SocketAddr::new(net::IpAddr::V4(net::Ipv4Addr::LOCALHOST), 0);

#[expect(clippy::disallowed_methods, reason = "the other end is another thread")]
fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(work)
}

/// One connection: ours and the standard library's.
fn pair(bench: &Bench) -> (TcpStream, net::TcpStream) {
    pair_on(&bench.ring)
}

fn pair_on(ring: &Ring) -> (TcpStream, net::TcpStream) {
    let listener = TcpListener::bind(ring, ANY, false).unwrap();
    let theirs = net::TcpStream::connect(listener.local_addr()).unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (ours, peer) = crate::drive::run(ring, listener.accept()).unwrap();
    assert_eq!(peer, theirs.local_addr().unwrap());
    assert_eq!(ours.peer_addr(), peer);
    (ours, theirs)
}

/// Each receive appends to the lease, takes no more than its limit, and gives 0 at the end.
fn received_bytes_go_behind_what_the_lease_holds(bench: &Bench) {
    let (ours, mut theirs) = pair(bench);
    theirs.write_all(b"hello, world").unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    let mut lease = bench.filled(3, 0);
    lease.as_mut_slice().copy_from_slice(b"123");
    let (lease, count) = bench.run(ours.receive(lease, 5));
    assert_eq!((lease.as_slice(), count), (&b"123hello"[..], Ok(5)));
    let (lease, count) = bench.run(ours.receive(lease, usize::MAX));
    assert_eq!((lease.as_slice(), count), (&b"123hello, world"[..], Ok(7)));
    let (lease, count) = bench.run(ours.receive(lease, 5));
    assert_eq!((lease.len(), count), (15, Ok(0)));
    // The other direction is still open.
    bench.run(ours.send_all(lease.freeze().into())).unwrap();
    ours.shutdown_write();
    let mut got = String::new();
    theirs.read_to_string(&mut got).unwrap();
    assert_eq!(got, "123hello, world");
}

/// A head and megabytes of body, in odd pieces, to a peer slower than the sender: every byte arrives once, in order.
fn a_large_send_arrives_whole(bench: &Bench) {
    let _ = bench.ring.register(&bench.arena);
    let (ours, mut theirs) = pair(bench);
    let mut source = ScatterList::new();
    let mut expected = Vec::new();
    for n in 0..6u8 {
        let bytes = [300, 2 << 20, 7, 4096, 3 << 20, 100_001][n as usize];
        source.push(bench.filled(bytes, n).freeze());
        let start = expected.len();
        expected.resize(start + bytes, 0);
        fill(&mut expected[start..], n);
    }
    let whole = expected.len();
    let reader = spawn(move || {
        let mut got = vec![0; whole];
        for part in got.chunks_mut(77_777) {
            theirs.read_exact(part).unwrap();
        }
        (got, theirs)
    });
    bench.run(ours.send_all(source)).unwrap();
    let (got, mut theirs) = reader.join().unwrap();
    assert!(got == expected);
    // One piece alone, small and large.
    for bytes in [1, 1 << 20] {
        let reader = spawn(move || {
            let mut got = vec![0; bytes];
            theirs.read_exact(&mut got).unwrap();
            (got, theirs)
        });
        bench.run(ours.send_all(bench.filled(bytes, 9).freeze().into())).unwrap();
        let mut expected = vec![0; bytes];
        fill(&mut expected, 9);
        let (got, again) = reader.join().unwrap();
        assert!(got == expected);
        theirs = again;
    }
    bench.run(ours.send_all(ScatterList::new())).unwrap();
}

/// When the peer has everything, all that was sent is back in the pool: zero-copy sends end too.
fn a_sent_lease_comes_back(bench: &Bench) {
    let _ = bench.ring.register(&bench.arena);
    let (ours, mut theirs) = pair(bench);
    for bytes in [100, 1 << 20] {
        let reader = spawn(move || {
            theirs.read_exact(&mut vec![0; bytes]).unwrap();
            theirs
        });
        bench.run(ours.send_all(bench.filled(bytes, 1).freeze().into())).unwrap();
        theirs = reader.join().unwrap();
        for _ in 0..100 {
            bench.pool.drain_returns();
            if bench.pool.leases() == 0 {
                break;
            }
            bench.ring.park(Some(Duration::from_millis(20)));
        }
        assert_eq!(bench.pool.leases(), 0, "after {bytes} bytes");
    }
}

/// A lease that is full, or a limit of nothing, is no end of the stream.
fn no_room_is_an_error_that_keeps_the_lease(bench: &Bench) {
    let (ours, _theirs) = pair(bench);
    let (lease, result) = bench.run(ours.receive(bench.filled(4096, 1), 100));
    assert_eq!((lease.len(), result), (4096, Err(OsError(libc::ENOBUFS))));
    let (_, result) = bench.run(ours.receive(bench.lease(4096), 0));
    assert_eq!(result, Err(OsError(libc::ENOBUFS)));
}

/// Nobody listens there. And somebody does, afterwards.
fn a_refused_connection_is_an_error(bench: &Bench) {
    let gone = net::TcpListener::bind(ANY).unwrap().local_addr().unwrap();
    assert_eq!(bench.run(TcpStream::connect(&bench.ring, gone)).unwrap_err(), OsError(libc::ECONNREFUSED));
    let listener = net::TcpListener::bind(ANY).unwrap();
    let ours = bench.run(TcpStream::connect(&bench.ring, listener.local_addr().unwrap())).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    bench.run(ours.send_all(bench.filled(5, 0).freeze().into())).unwrap();
    theirs.read_exact(&mut [0; 5]).unwrap();
}

/// A peer that resets the connection is an error with its name, for both directions.
fn a_reset_is_an_error(bench: &Bench) {
    let (ours, theirs) = pair(bench);
    rustix::net::sockopt::set_socket_linger(&theirs, Some(Duration::ZERO)).unwrap();
    drop(theirs);
    let (_, result) = bench.run(ours.receive(bench.lease(4096), 4096));
    assert_eq!(result, Err(OsError(libc::ECONNRESET)));
    let result = bench.run(ours.send_all(bench.filled(4096, 0).freeze().into()));
    assert_eq!(result, Err(OsError(libc::EPIPE)));
}

/// A receive that nobody waits for any more is cancelled; its lease stays with the kernel until then.
fn a_dropped_receive_gives_its_lease_back(bench: &Bench) {
    let (ours, theirs) = pair(bench);
    {
        let mut receive = pin!(ours.receive(bench.lease(4096), 4096));
        assert!(receive.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        bench.ring.turn();
    }
    bench.pool.drain_returns();
    assert_eq!((bench.pool.leases(), bench.ring.socket_queue().in_flight()), (1, 1));
    bench.settle();
    bench.pool.drain_returns();
    assert_eq!(bench.pool.leases(), 0);
    drop(theirs);
}

/// A send to a peer that reads nothing is cancelled, and all its pieces come back once the connection is closed.
fn a_dropped_send_gives_its_pieces_back(bench: &Bench) {
    let (ours, theirs) = pair(bench);
    let mut source = ScatterList::new();
    for n in 0..8 {
        source.push(bench.filled(4 << 20, n).freeze());
    }
    {
        let mut send = pin!(ours.send_all(source));
        assert!(send.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        for _ in 0..20 {
            bench.ring.park(Some(Duration::from_millis(5)));
        }
        assert_eq!(bench.ring.socket_queue().in_flight(), 1, "the peer can not have taken 32 MiB");
    }
    bench.settle();
    drop((ours, theirs));
    for _ in 0..100 {
        bench.pool.drain_returns();
        if bench.pool.leases() == 0 {
            return;
        }
        bench.ring.park(Some(Duration::from_millis(20)));
    }
    panic!("{} leases did not come back", bench.pool.leases());
}

/// Accepts that are begun and dropped, before and after a connection came, leave it to the next.
fn a_dropped_accept_loses_no_connection(bench: &Bench) {
    let listener = TcpListener::bind(&bench.ring, ANY, false).unwrap();
    for _ in 0..10 {
        {
            let mut accept = Box::pin(listener.accept());
            assert!(poll_once(&mut accept).is_pending());
            bench.ring.turn();
        }
        let theirs = net::TcpStream::connect(listener.local_addr()).unwrap();
        bench.ring.turn();
        {
            let mut accept = Box::pin(listener.accept());
            if let Poll::Ready(accepted) = poll_once(&mut accept) {
                assert_eq!(accepted.unwrap().1, theirs.local_addr().unwrap());
                continue;
            }
        }
        let (_ours, peer) = bench.run(listener.accept()).unwrap();
        assert_eq!(peer, theirs.local_addr().unwrap());
    }
}

/// Two listeners on one address; not without asking for it.
fn cores_share_an_address(bench: &Bench) {
    let first = TcpListener::bind(&bench.ring, ANY, true).unwrap();
    let second = TcpListener::bind(&bench.ring, first.local_addr(), true).unwrap();
    assert_eq!(first.local_addr(), second.local_addr());
    assert!(TcpListener::bind(&bench.ring, first.local_addr(), false).is_err());
}

/// The peer sees the end when the last clone and the last operation are gone, and not before.
fn a_socket_closes_with_its_last_owner(bench: &Bench) {
    let (ours, mut theirs) = pair(bench);
    {
        let clone = ours.clone();
        let mut receive = pin!(clone.receive(bench.lease(4096), 4096));
        assert!(receive.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        bench.ring.turn();
        drop(ours);
        theirs.set_nonblocking(true).unwrap();
        let early = theirs.read(&mut [0; 1]).unwrap_err();
        assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    }
    bench.settle();
    theirs.set_nonblocking(false).unwrap();
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
}

/// A ring that is dropped with an accept, receives and connects waiting gives everything back, at once.
fn a_ring_that_closes_lets_go_of_sockets(bench: &Bench) {
    let ring = Ring::new(&RingOptions { driver: bench.driver, depth: 4 }).unwrap();
    let listener = TcpListener::bind(&ring, ANY, false).unwrap();
    let (ours, mut theirs) = pair_on(&ring);
    let mut accept = Box::pin(async move { listener.accept().await.map(drop) });
    assert!(poll_once(&mut accept).is_pending());
    let stream = ours.clone();
    let lease = bench.lease(4096);
    let mut receive = Box::pin(async move { stream.receive(lease, 4096).await });
    assert!(poll_once(&mut receive).is_pending());
    ring.turn();
    let queue = ring.socket_queue().clone();
    assert_eq!(queue.in_flight(), 2);
    drop((accept, receive, ours, ring));
    assert_eq!(queue.in_flight(), 0);
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "closed");
    bench.pool.drain_returns();
    assert_eq!(bench.pool.leases(), 0);
}

/// A ring that is dropped while a peer has not read what was sent gives the memory back all the same.
fn a_ring_that_closes_lets_go_of_what_nobody_reads(bench: &Bench) {
    let ring = Ring::new(&RingOptions { driver: bench.driver, depth: 4 }).unwrap();
    let (ours, theirs) = pair_on(&ring);
    let source = bench.filled(4 << 20, 1).freeze();
    let stream = ours.clone();
    let mut send = Box::pin(async move { stream.send_all(source.into()).await });
    assert!(poll_once(&mut send).is_pending());
    for _ in 0..5 {
        ring.park(Some(Duration::from_millis(5)));
    }
    drop((send, ours, ring));
    bench.pool.drain_returns();
    assert_eq!(bench.pool.leases(), 0);
    drop(theirs);
}

/// Hundreds of connections on one ring, each with its own bytes, all waiting at once.
fn many_connections_at_once(bench: &Bench) {
    const COUNT: usize = 300;
    let listener = TcpListener::bind(&bench.ring, ANY, false).unwrap();
    let address = listener.local_addr();
    let clients = spawn(move || {
        let mut clients: Vec<_> = (0..COUNT).map(|_| net::TcpStream::connect(address).unwrap()).collect();
        for client in &mut clients {
            let port = client.local_addr().unwrap().port();
            client.write_all(&port.to_be_bytes()).unwrap();
        }
        for client in &mut clients {
            let mut echo = [0; 2];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(u16::from_be_bytes(echo), client.local_addr().unwrap().port());
        }
    });
    let streams: Vec<_> = (0..COUNT).map(|_| bench.run(listener.accept()).unwrap()).collect();
    let mut receives: Vec<_> =
        streams.iter().map(|(stream, _)| Box::pin(stream.receive(bench.lease(4096), 2))).collect();
    for receive in &mut receives {
        // Nothing is answered while posting, whatever has come already.
        assert!(poll_once(receive).is_pending());
    }
    for (receive, (stream, peer)) in receives.into_iter().zip(&streams) {
        let (lease, count) = bench.run(receive);
        assert_eq!((count, lease.as_slice()), (Ok(2), &peer.port().to_be_bytes()[..]));
        bench.run(stream.send_all(lease.freeze().into())).unwrap();
    }
    clients.join().unwrap();
}
