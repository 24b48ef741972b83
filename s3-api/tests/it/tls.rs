//! HTTPS: the same server behind a layer of encryption, and peers that have no business there.

use crate::bench::{ALICE, Bench, Client, connect, pause};
use crossdock_s3::{
    protocol::{
        http::Method::{Get, Head, Post, Put},
        remote::format_session,
    },
    server::{ServerLimits, TlsSettings, render},
};
use crossdock_transport::{
    memory::{CopyReason, copied_bytes},
    remote::{Access, SessionId},
    token::ShmToken,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::Duration,
};

pub(crate) const NAME: &str = "server.test";
/// Longer than any wait that is expected to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate that vouches for itself, and what a server shows of it.
pub(crate) fn certificate() -> (CertificateDer<'static>, ServerConfig) {
    let made = rcgen::generate_simple_self_signed(vec![NAME.into(), "127.0.0.1".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (certificate, config)
}

/// A client's side that trusts `certificate`, before its first byte.
pub(crate) fn session(
    certificate: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap()
}

/// A server that speaks HTTPS, and the certificate to know it by.
pub(crate) struct Secure {
    pub(crate) bench: Bench,
    settings: Arc<TlsSettings>,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Secure {
    pub(crate) fn new(limits: ServerLimits) -> Secure {
        let (certificate, config) = certificate();
        let settings = Arc::new(TlsSettings::new(config));
        Secure { bench: Bench::limited(limits, Some(settings.clone())), settings, certificate }
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Client {
        let (address, certificate) = (self.bench.address(), self.certificate.clone());
        self.bench.client_over(ALICE, move || {
            Box::new(StreamOwned::new(session(&certificate, version), connect(address)))
        })
    }

    fn socket(&self) -> TcpStream {
        let socket = connect(self.bench.address());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// An ordinary client is served.
    fn serves(&self) {
        let mut client = self.client(&TLS13);
        assert_eq!(client.call(Get, "/absent", &[], b"").code(), "NoSuchBucket");
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = render(self.bench.server.metrics(), &[], &[]);
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// What comes until the end of the connection.
fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    match socket.read_to_end(&mut read) {
        Ok(_) => read,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => read,
        Err(error) => panic!("the connection lives on: {error}"),
    }
}

#[test]
fn tokens_are_served_over_https() {
    // Shows that a session is bound, and bytes go both ways over it, by requests of encrypted connections; and that such a connection stays
    // where it is, whichever core has the session.
    let secure = Secure::new(ServerLimits::default());
    let mut client = secure.client(&TLS13);
    assert_eq!(client.call(Put, "/photos", &[], b"").status, 200);
    let body = bytes(300_000);
    // One on each core, or two on one: whichever took them.
    for _ in 0..4 {
        let (memory, session) = secure.bench.memory(1 << 20);
        let name = format_session(session);
        let bound = client.call(Post, "/.crossdock-shm/bind", &[("x-amz-rdma-session", &name)], b"");
        assert_eq!(bound.status, 200);
        memory.store(0, &body);
        let token = |access| {
            let slice = memory.expose(0..body.len(), access).unwrap();
            ShmToken::new(SessionId::from_bytes(session), slice.address(), slice.bytes()).unwrap().to_string()
        };
        let put = client.call(Put, "/photos/k", &[("x-amz-rdma-token", &token(Access::Read))], b"");
        assert_eq!((put.status, put.header("x-amz-rdma-reply")), (200, Some("200")));
        memory.store(0, &vec![0; body.len()]);
        let got = client.call(Get, "/photos/k", &[("x-amz-rdma-token", &token(Access::Write))], b"");
        assert_eq!((got.status, got.header("x-amz-rdma-reply"), got.body.len()), (200, Some("200"), 0));
        let mut found = vec![0; body.len()];
        memory.load(0, &mut found);
        assert!(found == body);
    }
    assert!(client.call(Get, "/photos/k", &[], b"").body == body);
    assert_eq!(secure.metric("crossdock_connections_moved_total"), 0);
}

#[test]
fn objects_go_in_and_out_encrypted() {
    // Sizes around a page, a record and a lease, on one connection, by both versions; ranges, HEAD, and a body held back.
    let secure = Secure::new(ServerLimits::default());
    for version in [&TLS13, &TLS12] {
        let mut client = secure.client(version);
        client.call(Put, "/photos", &[], b"");
        for size in [0, 1, 4_000, 16_384, 16_385, 70_000, 1_048_576, 5_000_001] {
            let body = bytes(size);
            let put = client.call(Put, "/photos/k", &[], &body);
            assert_eq!(put.status, 200, "{size}");
            let get = client.call(Get, "/photos/k", &[], b"");
            assert!(get.status == 200 && get.body == body, "{size}");
            assert_eq!(client.call(Head, "/photos/k", &[], b"").status, 200);
        }
        let part = client.call(Get, "/photos/k", &[("range", "bytes=1000000-1999999")], b"");
        assert!(part.status == 206 && part.body == bytes(5_000_001)[1_000_000..2_000_000]);
        let body = bytes(100_000);
        let request = client.request(Put, "/photos/held", &[("expect", "100-continue")], &body);
        client.write(&request[..request.len() - body.len()]);
        assert_eq!(client.read(true).status, 100);
        client.write(&body);
        assert_eq!(client.read(false).status, 200);
    }
    assert!(secure.metric("crossdock_tls_handshakes_total") >= 2);
}

#[test]
fn policies_see_that_a_request_came_encrypted() {
    // The fact that policies ask about, and the address that a finished upload is told, are of the connection.
    let secure = Secure::new(ServerLimits::default());
    let mut client = secure.client(&TLS13);
    assert_eq!(client.call(Put, "/photos", &[], b"").status, 200);
    let deny =
        br#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::photos/*",
        "Condition":{"Bool":{"aws:SecureTransport":"false"}}}}"#;
    assert_eq!(client.call(Put, "/photos?policy", &[], deny).status, 204);
    assert_eq!(client.call(Put, "/photos/k", &[], b"x").status, 200);
    let begun = client.call(crossdock_s3::protocol::http::Method::Post, "/photos/big?uploads", &[], b"");
    let text = String::from_utf8(begun.body).unwrap();
    let upload = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
    let part = client.call(Put, &format!("/photos/big?partNumber=1&uploadId={upload}"), &[], b"part");
    let complete = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").unwrap().replace('"', "&quot;")
    );
    let path = format!("/photos/big?uploadId={upload}");
    let done = client.call(crossdock_s3::protocol::http::Method::Post, &path, &[], complete.as_bytes());
    let text = String::from_utf8(done.body).unwrap();
    assert!(text.contains("<Location>https://"), "{text}");
}

#[test]
fn requests_sent_at_once_are_answered_in_order_encrypted() {
    // Many requests in one record, and one request cut over many, come to the same.
    let secure = Secure::new(ServerLimits::default());
    let mut client = secure.client(&TLS13);
    client.call(Put, "/photos", &[], b"");
    let mut requests = Vec::new();
    for number in 0..20usize {
        requests.extend(client.request(Put, &format!("/photos/{number}"), &[], &bytes(number * 500)));
        requests.extend(client.request(Get, &format!("/photos/{number}"), &[], b""));
    }
    for piece in [usize::MAX, 900, 37] {
        for part in requests.chunks(piece.min(requests.len())) {
            client.write(part);
        }
        for number in 0..20usize {
            assert_eq!(client.read(false).status, 200);
            assert!(client.read(false).body == bytes(number * 500));
        }
    }
}

#[test]
fn http_without_encryption_is_told_so() {
    // In its own language, as an error of S3, and the connection ends.
    let secure = Secure::new(ServerLimits::default());
    let mut socket = secure.socket();
    socket.write_all(b"GET /photos HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let answer = String::from_utf8(rest(&mut socket)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.contains("<Code>InvalidRequest</Code>") && answer.contains("https://"), "{answer}");
    assert!(answer.contains("\r\nx-amz-request-id: ") && answer.contains("\r\nx-amz-id-2: "), "{answer}");
    secure.serves();
}

#[test]
fn noise_ends_its_connection_and_no_other() {
    // Noise, a hello cut short, one that asks for another protocol, a record that is too long: an alert or nothing, then the
    // end.
    let secure = Secure::new(ServerLimits::default());
    let mut hello = Vec::new();
    session(&secure.certificate, &TLS13).write_tls(&mut hello).unwrap();
    let mut changed = hello.clone();
    changed[12] ^= 0xff;
    let noise: [&[u8]; 6] = [
        b"\x00\x01\x02\x03\x04\x05\x06\x07",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff",
        b"\x80\x2e\x01\x03\x01",
        &hello[..hello.len() / 2],
        &bytes(100_000),
    ];
    for noise in noise {
        let mut socket = secure.socket();
        // It may be refused before it has come in whole.
        let _ = socket.write_all(noise);
        let _ = socket.shutdown(Shutdown::Write);
        let answer = rest(&mut socket);
        assert!(answer.first().is_none_or(|first| *first == 0x15), "{noise:?}: {answer:?}");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let other = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(other, secure.socket());
    let refused = stream.write_all(b"x").unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    secure.serves();
    assert!(secure.metric("crossdock_tls_handshakes_failed_total") >= 7);
}

#[test]
fn a_slow_handshake_is_cut_off() {
    // Peers that say nothing, or half of what they should, are let go; meanwhile others are served.
    let mut limits = ServerLimits::default();
    limits.handshake = Duration::from_millis(700);
    let secure = Secure::new(limits);
    let mut hello = Vec::new();
    session(&secure.certificate, &TLS13).write_tls(&mut hello).unwrap();
    let mut slow: Vec<TcpStream> = (0..40).map(|_| secure.socket()).collect();
    for (number, socket) in slow.iter_mut().enumerate() {
        socket.write_all(&hello[..number * hello.len() / 40]).unwrap();
    }
    secure.serves();
    for socket in &mut slow {
        assert!(rest(socket).is_empty());
    }
}

#[test]
fn records_that_do_not_end_hold_a_bounded_part_of_memory() {
    // Two hundred peers that announce a whole record and send half of it, before and after the handshake: an ordinary client
    // is served, uploads included.
    let mut limits = ServerLimits::default();
    limits.head = Duration::from_secs(120);
    limits.handshake = Duration::from_secs(120);
    let secure = Secure::new(limits);
    let mut begun: Vec<TcpStream> = (0..100).map(|_| secure.socket()).collect();
    for socket in &mut begun {
        socket.write_all(&[&[0x16, 3, 1, 0x40, 0][..], &[1; 8000]].concat()).unwrap();
    }
    let mut agreed = Vec::new();
    for _ in 0..100 {
        let (mut socket, mut client) = (secure.socket(), session(&secure.certificate, &TLS13));
        while client.is_handshaking() {
            client.complete_io(&mut socket).unwrap();
        }
        client.writer().write_all(&[b'x'; 16_000]).unwrap();
        let mut record = Vec::new();
        client.write_tls(&mut record).unwrap();
        socket.write_all(&record[..record.len() / 2]).unwrap();
        agreed.push(socket);
    }
    let mut client = secure.client(&TLS13);
    assert_eq!(client.call(Put, "/photos", &[], b"").status, 200);
    assert_eq!(client.call(Put, "/photos/k", &[], &bytes(3_000_000)).status, 200);
    assert!(client.call(Get, "/photos/k", &[], b"").body == bytes(3_000_000));
}

/// Agrees on keys, and gives the socket and the session.
fn agreed(secure: &Secure) -> (TcpStream, ClientConnection) {
    let (mut socket, mut client) = (secure.socket(), session(&secure.certificate, &TLS13));
    while client.is_handshaking() {
        client.complete_io(&mut socket).unwrap();
    }
    (socket, client)
}

fn encrypted(client: &mut ClientConnection, plaintext: &[u8]) -> Vec<u8> {
    client.writer().write_all(plaintext).unwrap();
    let mut records = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut records).unwrap();
    }
    records
}

#[test]
fn users_who_stall_keep_nobody_waiting() {
    // More than there are larger buffers send a body to half a record and stop: whoever comes then is served all the same.
    let mut limits = ServerLimits::default();
    limits.body_idle = Duration::from_secs(120);
    let secure = Secure::new(limits);
    let mut client = secure.client(&TLS13);
    assert_eq!(client.call(Put, "/photos", &[], b"").status, 200);
    let request = client.request(Put, "/photos?policy", &[], &[b' '; 20_000]);
    let head = request.len() - 20_000;
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let (mut socket, mut peer) = agreed(&secure);
        let begun = encrypted(&mut peer, &request[..head]);
        let record = encrypted(&mut peer, &request[head..head + 16_000]);
        socket.write_all(&[&begun[..], &record[..8_000]].concat()).unwrap();
        stalled.push((socket, peer, record));
    }
    let (address, certificate) = (secure.bench.address(), secure.certificate.clone());
    let mut client = secure.bench.client_over(ALICE, move || {
        let socket = connect(address);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Box::new(StreamOwned::new(session(&certificate, &TLS13), socket))
    });
    assert_eq!(client.call(Put, "/photos/k", &[], &bytes(3_000_000)).status, 200);
    assert!(client.call(Get, "/photos/k", &[], b"").body == bytes(3_000_000));
    // And those who go on are taken at their word.
    for (mut socket, mut peer, record) in stalled {
        socket.write_all(&record[8_000..]).unwrap();
        socket.write_all(&encrypted(&mut peer, &request[head + 16_000..])).unwrap();
        let mut answer = [0; 12];
        while peer.process_new_packets().unwrap().plaintext_bytes_to_read() < answer.len() {
            assert!(peer.read_tls(&mut socket).unwrap() > 0);
        }
        peer.reader().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400", "a policy of spaces is none");
    }
}

#[test]
fn what_is_not_encrypted_ends_its_connection() {
    // A request in the clear, a record of another session, one that came before, or one that was changed, on a connection that
    // was agreed upon: an alert and the end, and nothing of it is done.
    let secure = Secure::new(ServerLimits::default());
    let mut client = secure.client(&TLS13);
    assert_eq!(client.call(Put, "/photos", &[], b"").status, 200);
    let delete = client.request(crossdock_s3::protocol::http::Method::Delete, "/photos", &[], b"");
    let of_another = encrypted(&mut agreed(&secure).1, &delete);
    for fault in 0..4 {
        let (mut socket, mut peer) = agreed(&secure);
        let head = client.request(Head, "/photos", &[], b"");
        let good = encrypted(&mut peer, &head);
        socket.write_all(&good).unwrap();
        while peer.process_new_packets().unwrap().plaintext_bytes_to_read() == 0 {
            assert!(peer.read_tls(&mut socket).unwrap() > 0);
        }
        let mut changed = encrypted(&mut peer, &delete);
        changed[30] ^= 1;
        let bad = [&delete, &of_another, &good, &changed][fault];
        // It may be refused before it has come in whole.
        let _ = socket.write_all(bad);
        let _ = socket.shutdown(Shutdown::Write);
        let answer = rest(&mut socket);
        assert!(answer.first().is_none_or(|first| *first == 0x17 || *first == 0x15), "{fault}: {answer:?}");
        assert!(answer.len() < 100, "{fault}: more than an alert: {answer:?}");
        assert_eq!(client.call(Head, "/photos", &[], b"").status, 200, "{fault}");
    }
}

#[test]
fn a_peer_need_not_say_whom_it_looks_for_or_what_it_speaks() {
    // By address, which has no name to send, and without a word of protocols: HTTP/1.1, as everywhere.
    let secure = Secure::new(ServerLimits::default());
    let mut roots = RootCertStore::empty();
    roots.add(secure.certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for name in ["127.0.0.1", NAME] {
        let peer = ClientConnection::new(Arc::new(config.clone()), name.try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(peer, secure.socket());
        stream.write_all(b"GET /absent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // The end is told, not just found: who cuts the connection can not pass for the server.
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 404 "), "{answer:?}");
        assert_eq!(stream.conn.alpn_protocol(), None);
    }
}

#[test]
fn empty_records_are_no_sign_of_life() {
    // A peer that sends records with nothing in them, and asks for new keys again and again, runs out of time as if it were silent.
    let mut limits = ServerLimits::default();
    limits.idle = Duration::from_millis(1500);
    let secure = Secure::new(limits);
    let (mut socket, mut peer) = agreed(&secure);
    let mut sent = 0;
    loop {
        peer.refresh_traffic_keys().unwrap();
        if socket.write_all(&encrypted(&mut peer, b"")).is_err() {
            break;
        }
        sent += 1;
        assert!(sent < 1000, "it was kept for asking for keys");
        pause(20);
    }
    secure.serves();
}

#[test]
fn an_end_of_sending_is_answered() {
    // Who says that nothing more will come still gets the reply, and the connection's end.
    let secure = Secure::new(ServerLimits::default());
    let (mut socket, mut client) = (secure.socket(), session(&secure.certificate, &TLS13));
    client.writer().write_all(b"GET /absent HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut socket).unwrap();
    }
    client.send_close_notify();
    while client.wants_write() {
        client.write_tls(&mut socket).unwrap();
    }
    let mut answer = Vec::new();
    loop {
        client.process_new_packets().unwrap();
        match client.reader().read_to_end(&mut answer) {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(client.read_tls(&mut socket).unwrap() > 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{answer:?}");
}

#[test]
fn a_new_certificate_is_shown_to_those_who_come() {
    // Connections that live go on with the old one.
    let secure = Secure::new(ServerLimits::default());
    let mut before = secure.client(&TLS13);
    assert_eq!(before.call(Get, "/absent", &[], b"").status, 404);
    let (renewed, config) = certificate();
    secure.settings.replace(config);
    assert_eq!(before.call(Get, "/absent", &[], b"").status, 404);
    let address = secure.bench.address();
    let mut after = secure
        .bench
        .client_over(ALICE, move || Box::new(StreamOwned::new(session(&renewed, &TLS13), connect(address))));
    assert_eq!(after.call(Get, "/absent", &[], b"").status, 404);
    let mut stranger = StreamOwned::new(session(&secure.certificate, &TLS13), secure.socket());
    assert!(stranger.write_all(b"x").unwrap_err().to_string().contains("certificate"));
}

#[test]
fn encryption_copies_are_counted() {
    // Two for each byte, each way: the library below keeps records of its own.
    let secure = Secure::new(ServerLimits::default());
    let mut client = secure.client(&TLS13);
    client.call(Put, "/photos", &[], b"");
    let before = copied_bytes(CopyReason::Record);
    client.call(Put, "/photos/k", &[], &bytes(1_000_000));
    assert!(client.call(Get, "/photos/k", &[], b"").body.len() == 1_000_000);
    assert!(copied_bytes(CopyReason::Record) - before >= 4_000_000);
}
