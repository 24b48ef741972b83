//! HTTP/1.1 byte by byte: requests in a row, cut anywhere, slow, endless, and half closed.

use crate::bench::{ALICE, Bench, connect, pause};
use crossdock_s3::{
    protocol::http::Method::{Get, Head, Post, Put},
    server::{ServerLimits, render},
};
use std::{
    collections::HashSet,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

/// Longer than any wait that is expected to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// A limit that a test waits for.
const SOON: Duration = Duration::from_millis(700);

fn socket(bench: &Bench) -> TcpStream {
    let socket = connect(bench.address());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What comes until the end of the connection.
fn rest(socket: &mut TcpStream) -> String {
    let mut read = Vec::new();
    match socket.read_to_end(&mut read) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection lives on: {error}"),
    }
    String::from_utf8_lossy(&read).into_owned()
}

fn open_connections(bench: &Bench) -> u64 {
    let text = render(bench.server.metrics(), &[], &[]);
    let line = text.lines().find(|line| line.starts_with("crossdock_connections_open ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn requests_in_a_row_are_answered_in_order_wherever_they_are_cut() {
    // A body, a reply with a body, a HEAD that brings one, and the last: cut in two at every byte, on one connection each.
    let bench = Bench::new();
    let mut client = bench.client(ALICE);
    client.call(Put, "/photos", &[], b"");
    let requests = [
        client.request(Put, "/photos/k", &[], b"first"),
        client.request(Get, "/photos/k", &[], b""),
        client.request(Head, "/photos/k", &[], b"abc"),
        client.request(Get, "/photos/k", &[("connection", "close")], b""),
    ];
    let whole = requests.concat();
    for cut in 0..=whole.len() {
        let mut client = bench.client(ALICE);
        client.write(&whole[..cut]);
        let mut end = 0;
        let mut read = 0;
        // Replies to what is whole come without the rest: the server has read up to the cut, or is about to.
        while end + requests[read].len() <= cut {
            end += requests[read].len();
            expect(&mut client, read);
            read += 1;
            if read == requests.len() {
                break;
            }
        }
        client.write(&whole[cut..]);
        (read..requests.len()).for_each(|number| expect(&mut client, number));
    }

    fn expect(client: &mut crate::bench::Client, number: usize) {
        let reply = client.read(number == 2);
        let body: &[u8] = if number % 2 == 1 { b"first" } else { b"" };
        assert_eq!((reply.status, &*reply.body), (200, body), "{number}");
        assert_eq!(reply.header("connection"), (number == 3).then_some("close"));
        assert_eq!(reply.header("content-length"), Some(if number == 0 { "0" } else { "5" }));
    }
}

#[test]
fn every_reply_names_its_request() {
    // In both headers, in the document of an error, of a request or of what is none; no two alike.
    let bench = Bench::new();
    let mut client = bench.client(ALICE);
    let mut seen = HashSet::new();
    let mut check = |reply: &crate::bench::Reply| {
        let request = reply.header("x-amz-request-id").unwrap().to_owned();
        let host = reply.header("x-amz-id-2").unwrap();
        if !reply.body.is_empty() {
            let text = String::from_utf8_lossy(&reply.body);
            assert!(
                text.contains(&format!("<RequestId>{request}</RequestId><HostId>{host}</HostId>")),
                "{text}"
            );
        }
        assert!(seen.insert(request));
    };
    check(&client.call(Put, "/photos", &[], b""));
    check(&client.call(Put, "/photos/k", &[], b""));
    check(&client.call(Head, "/photos/absent", &[], b""));
    check(&client.call(Get, "/photos/absent", &[], b""));
    check(&client.call(Get, "/photos/k", &[], b""));
    check(&client.call(Post, "/.crossdock-shm/bind", &[], b""));
    check(&client.send(b"OPTIONS /photos HTTP/1.1\r\nHost: x\r\n\r\n"));
    check(&client.send(b"PATCH /photos HTTP/1.1\r\nHost: x\r\n\r\n"));
    check(&client.send(b"no request\r\n\r\n"));
}

#[test]
fn a_connection_that_does_not_end_its_head_is_told_and_closed() {
    // A head that stops is answered as S3 does; one that never began is closed without a word, when its time is over.
    let mut limits = ServerLimits::default();
    (limits.head, limits.idle) = (SOON, SOON);
    let bench = Bench::limited(limits, None);
    let (mut stopped, mut silent) = (socket(&bench), socket(&bench));
    stopped.write_all(b"GET /photos HTTP/1.1\r\nHost: x\r\nX-").unwrap();
    let answer = rest(&mut stopped);
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("<Code>RequestTimeout</Code>"),
        "{answer}"
    );
    assert_eq!(rest(&mut silent), "");
}

#[test]
fn a_body_that_stops_or_drips_is_cut_off() {
    // Both are told, and nothing is stored; a body that keeps coming is taken however long it takes.
    let mut limits = ServerLimits::default();
    (limits.body_idle, limits.body_bytes_per_second) = (SOON, 1 << 20);
    let bench = Bench::limited(limits, None);
    let mut client = bench.client(ALICE);
    client.call(Put, "/photos", &[], b"");
    let request = client.request(Put, "/photos/k", &[], &[b'x'; 1000]);
    let head = request.len() - 1000;
    let mut stopped = socket(&bench);
    stopped.write_all(&request[..head + 10]).unwrap();
    let answer = rest(&mut stopped);
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("<Code>RequestTimeout</Code>"),
        "{answer}"
    );
    let mut dripping = socket(&bench);
    dripping.write_all(&request[..head]).unwrap();
    let mut sent = 0;
    while sent < 1000 && dripping.write_all(&request[head + sent..head + sent + 1]).is_ok() {
        sent += 1;
        pause(20);
    }
    assert!(sent < 1000, "a byte now and then was waited for to the end");
    assert_eq!(client.call(Get, "/photos/k", &[], b"").code(), "NoSuchKey");
}

#[test]
fn a_reply_that_nobody_takes_is_given_up() {
    // The connection is closed, and what it held is free again.
    let mut limits = ServerLimits::default();
    // Who is told to slow down, because the others hold all there is, is let go of as one that rests. Who takes his reply to the end, last, has to
    // be faster on a machine that does other things, too.
    (limits.send, limits.idle) = (3 * SOON, SOON);
    let bench = Bench::limited(limits, None);
    let mut client = bench.client(ALICE);
    client.call(Put, "/photos", &[], b"");
    client.call(Put, "/photos/k", &[], &vec![7; 24 << 20]);
    let get = client.request(Get, "/photos/k", &[], b"");
    let mut stuck: Vec<TcpStream> = (0..8).map(|_| socket(&bench)).collect();
    for socket in &mut stuck {
        socket.write_all(&get).unwrap();
    }
    let mut looks = 0;
    while open_connections(&bench) > 0 {
        pause(50);
        looks += 1;
        assert!(looks < 600, "connections that take nothing are held on to");
    }
    assert!(bench.client(ALICE).call(Get, "/photos/k", &[], b"").body.len() == 24 << 20);
}

#[test]
fn what_does_not_end_is_refused_in_bounded_memory() {
    // A head of megabytes, a document in chunks without end, and chunks that are none: an error of S3, and the end.
    let mut limits = ServerLimits::default();
    limits.head_bytes = 8 << 10;
    let bench = Bench::limited(limits, None);
    let mut client = bench.client(ALICE);
    client.call(Put, "/photos", &[], b"");
    let mut long = socket(&bench);
    let mut head = b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec();
    head.extend(b"X-Long: 0123456789\r\n".repeat(1000));
    // It may be refused before all of it is sent.
    let _ = long.write_all(&head);
    let answer = rest(&mut long);
    assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("<Code>"), "{answer}");
    for chunk in [format!("10000\r\n{}\r\n", "<".repeat(65536)), "zz\r\n".into()] {
        let request = client.request(Put, "/photos?policy", &[("transfer-encoding", "chunked")], b"");
        let mut endless = socket(&bench);
        endless.write_all(&request).unwrap();
        for _ in 0..200 {
            if endless.write_all(chunk.as_bytes()).is_err() {
                break;
            }
        }
        let _ = endless.shutdown(Shutdown::Write);
        let answer = rest(&mut endless);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(client.call(Get, "/photos?policy", &[], b"").code(), "NoSuchBucketPolicy");
}

#[test]
fn a_half_closed_connection_is_answered() {
    // Who says that nothing more will come still gets what was asked for, as often as it was.
    let bench = Bench::new();
    let mut client = bench.client(ALICE);
    client.call(Put, "/photos", &[], b"");
    let mut socket = socket(&bench);
    let get = client.request(Get, "/photos/absent", &[], b"");
    socket.write_all(&[&get[..], &get, &get].concat()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut socket).matches("HTTP/1.1 404 ").count(), 3);
}
