//! Bodies that are received at the same time, and so digested together.

use crate::bench::{ALICE, Bench, Client, Reply};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crossdock_s3::protocol::{
    http::Method::{self, Get, Put},
    md5::Md5,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Barrier,
};

/// Bodies in flight at once; the sizes below are spread over them.
const CLIENTS: usize = 12;
/// Nothing, less than a block, a small object, whole leases and a few bytes more, several leases.
const SIZES: [usize; 6] = [0, 63, 4096, 1 << 20, (1 << 20) + 17, (3 << 20) + 1];

fn body(client: usize, round: usize) -> Vec<u8> {
    let size = SIZES[(client + round) % SIZES.len()];
    (0..size).map(|index| (index * 31 + client * 7 + round) as u8 ^ (index >> 9) as u8).collect()
}

fn hex(digest: [u8; 16]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks again while the server has no memory to spare: it is given little, and there are many.
fn patient(client: &mut Client, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    for _ in 0..1000 {
        let reply = client.call(method, path, headers, body);
        if reply.status != 503 {
            return reply;
        }
    }
    panic!("{path} is refused again and again");
}

#[test]
fn each_body_has_its_own_digest() {
    // Many uploads at once, a third of them with a digest of their own to be compared, and some of those wrong: each gets
    // the tag of its bytes, or the error of its own. Beside them uploads break off and stand still, and keep nobody.
    let bench = Bench::new();
    assert_eq!(bench.client(ALICE).call(Put, "/together", &[], b"").status, 200);
    let begin = Barrier::new(CLIENTS + 1);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (bench, begin) = (&bench, &begin);
            scope.spawn(move || {
                let mut client = bench.client(ALICE);
                begin.wait();
                for round in 0..4 {
                    let (body, path) = (body(number, round), format!("/together/{number}-{round}"));
                    let digest = Md5::digest(&body);
                    let right = STANDARD.encode(digest);
                    let wrong = STANDARD.encode(Md5::digest(b"another"));
                    if number % 3 == 0 && round == 1 {
                        let reply = patient(&mut client, Put, &path, &[("content-md5", &wrong)], &body);
                        assert_eq!(reply.code(), "BadDigest");
                        assert_eq!(patient(&mut client, Get, &path, &[], b"").status, 404);
                    }
                    let headers = [("content-md5", right.as_str())];
                    let headers = if number % 3 == 0 { headers.as_slice() } else { &[] };
                    let reply = patient(&mut client, Put, &path, headers, &body);
                    assert_eq!(reply.status, 200);
                    assert_eq!(reply.header("etag"), Some(format!("\"{}\"", hex(digest)).as_str()), "{path}");
                    assert!(patient(&mut client, Get, &path, &[], b"").body == body, "{path}");
                }
            });
        }
        // Half of a body, and then the connection is gone, or nothing more comes until the others are done.
        let half = |path: &str| {
            let request = bench.client(ALICE).request(Put, path, &[], &vec![1; 1 << 20]);
            let mut stream = TcpStream::connect(bench.host()).unwrap();
            stream.write_all(&request[..request.len() / 2]).unwrap();
            (stream, request)
        };
        let (mut still, request) = half("/together/still");
        begin.wait();
        (0..8).for_each(|number| drop(half(&format!("/together/gone-{number}"))));
        scope.spawn(move || {
            // In the midst of the others' work.
            still.write_all(&request[request.len() / 2..]).unwrap();
            let mut reply = [0; 12];
            still.read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"HTTP/1.1 200");
        });
    });
}
