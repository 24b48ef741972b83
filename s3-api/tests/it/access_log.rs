//! The access log says which way the bytes of every request went, and gives nobody away.

use crate::{
    bench::{ALICE, Bench, Client, Reply},
    log::{Line, access_line, keep, lines},
};
use crossdock_s3::protocol::{http::Method, remote::format_session};
use crossdock_transport::{
    remote::{Access, SessionId},
    shm::ShmClient,
    token::ShmToken,
};

const TOKEN: &str = "x-amz-rdma-token";

/// The way that the line says, as one text: over, rail, moved, fallback.
fn way(line: &Line) -> String {
    ["over", "rail", "moved", "fallback"].map(|name| line.get(name)).join(" ")
}

fn line_of(reply: &Reply) -> Line {
    let request = reply.header("x-amz-request-id").unwrap();
    access_line(request, |line| line.get("request") == request)
}

/// The way that a request went, and its reply.
fn call(http: &mut Client, method: Method, path: &str, token: Option<&str>, body: &[u8]) -> (String, Reply) {
    let headers: Vec<(&str, &str)> = token.map(|token| (TOKEN, token)).into_iter().collect();
    let reply = http.call(method, path, &headers, body);
    (way(&line_of(&reply)), reply)
}

struct Peer {
    memory: ShmClient,
    session: SessionId,
    tokens: Vec<String>,
}

impl Peer {
    fn token(&mut self, bytes: usize, access: Access) -> String {
        let slice = self.memory.expose(0..bytes, access).unwrap();
        let token = ShmToken::new(self.session, slice.address(), slice.bytes()).unwrap().to_string();
        self.tokens.push(token.clone());
        token
    }
}

#[test]
fn every_line_says_which_way_the_bytes_went() {
    // Shows each outcome of a proposal in the log as it was: moved, and over what; in a body, and why; and neither, and why. And that no
    // line of any level has a token in it, nor the name of a session in full.
    keep();
    let bench = Bench::new();
    let mut http = bench.client(ALICE);
    let (memory, session) = bench.memory(1 << 20);
    let name = format_session(session);
    let mut peer = Peer { memory, session: SessionId::from_bytes(session), tokens: Vec::new() };
    let bound = http.call(Method::Post, "/.crossdock-shm/bind", &[("x-amz-rdma-session", &name)], b"");
    assert_eq!(bound.status, 200);
    assert!(line_of(&bound).get("requester").starts_with("arn:aws:iam::"));

    assert_eq!(call(&mut http, Method::Put, "/bucket", None, b"").0, "http - 0 -");
    assert_eq!(call(&mut http, Method::Put, "/bucket/key", None, &[7; 5000]).0, "http - 0 -");
    assert_eq!(call(&mut http, Method::Get, "/bucket/key", None, b"").0, "http - 0 -");
    let token = peer.token(5000, Access::Write);
    assert_eq!(call(&mut http, Method::Get, "/bucket/key", Some(&token), b"").0, "shm - 5000 -");
    let token = peer.token(1234, Access::Read);
    assert_eq!(call(&mut http, Method::Put, "/bucket/put", Some(&token), b"").0, "shm - 1234 -");

    let small = peer.token(4999, Access::Write);
    let (way, reply) = call(&mut http, Method::Get, "/bucket/key", Some(&small), b"");
    assert_eq!((&*way, reply.body.len()), ("http - 0 too_small", 5000));
    peer.tokens.push("a token of somebody else's".to_owned());
    let unknown = peer.tokens.last().cloned().unwrap();
    let (way, reply) = call(&mut http, Method::Get, "/bucket/key", Some(&unknown), b"");
    assert_eq!((&*way, reply.body.len()), ("http - 0 unknown_token", 5000));
    let (way, reply) = call(&mut http, Method::Put, "/bucket/new", Some(&unknown), b"");
    assert_eq!((&*way, &*reply.code()), ("- - 0 unknown_token", "RDMANotSupported"));
    // For the other direction.
    let (way, reply) = call(&mut http, Method::Put, "/bucket/new", Some(&small), b"");
    assert_eq!((&*way, &*reply.code()), ("- - 0 failed", "RDMATransferFailed"));
    let line = line_of(&reply);
    assert_eq!((line.get("status"), line.get("code")), ("500", "RDMATransferFailed"));
    // What is refused for another reason proposed nothing that came to anything.
    let (way, reply) = call(&mut http, Method::Get, "/bucket/absent", Some(&small), b"");
    assert_eq!((&*way, &*reply.code()), ("http - 0 -", "NoSuchKey"));
    let ended = http.call(Method::Post, "/.s3rdma-rc/disconnect", &[("x-amz-rdma-session", &name)], b"");
    assert_eq!(ended.status, 204);
    assert_eq!(call(&mut http, Method::Get, "/bucket/key", Some(&small), b"").1.status, 404);

    for line in lines() {
        for secret in peer.tokens.iter().chain([&name]) {
            assert!(!line.text.contains(&**secret), "{}", line.text);
        }
    }
}
