//! The client over HTTPS: the same as over HTTP, with a server that is who it says, and with nobody else.

use crate::{
    bench::{ALICE, now},
    client::client,
    faults::replies::shm_session,
    many_at_once::Asking,
    tls::{NAME, Secure, certificate},
};
use crossdock_s3::{
    client::{AsyncClient, Client, ClientError, Credentials, Fallback, Parallel, Policy, TlsSettings, Way},
    protocol::http::Method,
    server::ServerLimits,
};
use futures_lite::future::{block_on, zip};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    crypto::ring::default_provider,
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

/// What a client knows of a server that shows `certificate`.
fn settings(
    certificate: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    name: &str,
) -> TlsSettings {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsSettings::new(config, name).unwrap()
}

fn fill(buffer: &mut [u8]) {
    buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at.wrapping_mul(2_654_435_761) >> 11) as u8);
}

#[test]
fn what_was_put_is_got_over_https() {
    // Shows sessions, tokens and bodies of every size around a record and a buffer by both versions of TLS, on one connection each.
    let secure = Secure::new(ServerLimits::default());
    for version in [&TLS13, &TLS12] {
        let with =
            |policy| client(&secure.bench.host(), policy).tls(settings(&secure.certificate, version, NAME));
        let (mut over, mut plain) = (with(Policy::Require), with(Policy::Off));
        let handshakes = secure.metric("crossdock_tls_handshakes_total");
        let session = shm_session(secure.bench.socket(), &mut over);
        over.exchange(Method::Put, "/bucket", &[], b"").unwrap();
        for bytes in [0, 1, 16_384, 16_385, 65_000, (3 << 20) + 1] {
            let mut buffer = session.buffer(4 << 20).unwrap();
            fill(&mut buffer);
            let expected = buffer[..bytes].to_vec();
            let stored = over.put_from("bucket", "key", &[], buffer, bytes).unwrap();
            assert_eq!(stored.way, Way::Transport);
            let mut buffer = stored.buffer;
            buffer.fill(0);
            let got = over.get_into("bucket", "key", None, buffer).unwrap();
            assert_eq!((got.way, got.bytes), (Way::Transport, bytes));
            assert!(got.buffer[..bytes] == expected);
            let stored = plain.put_from("bucket", "plain", &[], got.buffer, bytes).unwrap();
            let mut buffer = stored.buffer;
            buffer.fill(0);
            let got = plain.get_into("bucket", "plain", None, buffer).unwrap();
            assert_eq!((got.way, got.bytes), (Way::Http(Fallback::Off), bytes));
            assert!(got.buffer[..bytes] == expected);
        }
        assert_eq!(secure.metric("crossdock_tls_handshakes_total"), handshakes + 2, "one for each client");
    }
}

#[test]
fn many_requests_at_a_time_go_over_https() {
    // Shows the client of runtimes, whose sockets take and give what they like: parts and ranges side by side, over the transport and in bodies.
    let secure = Secure::new(ServerLimits::default());
    let host = secure.bench.host();
    let tls = settings(&secure.certificate, &TLS13, NAME);
    let mut blocking = client(&host, Policy::Require).tls(tls.clone());
    blocking.exchange(Method::Put, "/bucket", &[], b"").unwrap();
    let session = shm_session(secure.bench.socket(), &mut blocking);
    let parallel = Parallel { part_bytes: 5 << 20, in_flight: 3 };
    let bytes = (11 << 20) + 17;
    let mut buffer = session.buffer(bytes).unwrap();
    fill(&mut buffer);
    let expected = buffer.to_vec();
    for (policy, parts) in [(Policy::Require, (3, 0)), (Policy::Off, (0, 3))] {
        let (key, secret) = ALICE;
        let who = Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
        let many = AsyncClient::new(Asking::default(), &host, who, now).policy(policy).tls(tls.clone());
        let uploaded = block_on(many.upload_from(("bucket", "key"), &[], buffer, bytes, parallel)).unwrap();
        assert_eq!((uploaded.ways.over_transport, uploaded.ways.over_http), parts);
        buffer = uploaded.buffer;
        buffer.fill(0);
        let gathered = block_on(many.gather_into("bucket", "key", buffer, parallel)).unwrap();
        assert_eq!((gathered.ways.over_transport, gathered.ways.over_http), parts);
        buffer = gathered.buffer;
        assert!(buffer[..] == expected[..]);
        let head = || async { many.exchange(Method::Head, "/bucket/key", &[], b"").await.unwrap().0.status };
        assert_eq!(block_on(zip(head(), head())), (200, 200));
    }
}

#[test]
fn a_server_that_is_somebody_else_hears_nothing() {
    // Shows that neither a certificate that nobody vouches for, nor one of another name, nor a server without TLS gets a request; and that the
    // buffer comes back.
    let secure = Secure::new(ServerLimits::default());
    let plain = crate::bench::Bench::new();
    let (stranger, _) = certificate();
    let mut bound =
        client(&secure.bench.host(), Policy::Off).tls(settings(&secure.certificate, &TLS13, NAME));
    let session = shm_session(secure.bench.socket(), &mut bound);
    let cases = [
        (secure.bench.host(), settings(&stranger, &TLS13, NAME), "certificate"),
        (secure.bench.host(), settings(&secure.certificate, &TLS13, "other.test"), "certificate"),
        (plain.host(), settings(&secure.certificate, &TLS13, NAME), ""),
    ];
    for (host, settings, why) in cases {
        let mut client = client(&host, Policy::Prefer).tls(settings);
        let failed = client.put_from("bucket", "key", &[], session.buffer(10).unwrap(), 10).unwrap_err();
        let ClientError::Connection(error) = &failed.error else { panic!("{failed:?}") };
        assert!(error.to_string().contains(why), "{error}");
        assert!(failed.buffer.is_some());
    }
    let address = secure.bench.address();
    let mut by_address = client(&address.to_string(), Policy::Off);
    by_address = by_address.tls(settings(&secure.certificate, &TLS13, &address.ip().to_string()));
    let (head, _) = by_address.exchange(Method::Get, "/absent", &[], b"").unwrap();
    assert_eq!(head.status, 404, "an address that the certificate names is as good");
}

/// A server that answers one request with `reply`, and says that it has said all, or is cut off. Its address.
#[allow(clippy::disallowed_methods, reason = "a server of one request has a thread of its own")]
fn answering(config: ServerConfig, reply: &'static str, says_so: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, listener.accept().unwrap().0);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..read]);
        }
        stream.write_all(reply.as_bytes()).unwrap();
        if says_so {
            stream.conn.send_close_notify();
        }
        stream.flush().unwrap();
    });
    address.to_string()
}

#[test]
fn a_body_that_is_cut_off_is_not_taken_for_whole() {
    // Shows a body without a length, which ends where the server says that it has said all: whoever cuts the connection off can not say so.
    for says_so in [true, false] {
        let (certificate, config) = certificate();
        let host = answering(config, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it", says_so);
        let mut client: Client = client(&host, Policy::Off).tls(settings(&certificate, &TLS13, NAME));
        match client.exchange(Method::Get, "/bucket/key", &[], b"") {
            Ok((_, document)) => assert!(says_so && document == b"half of it"),
            Err(error) => assert!(!says_so && error.to_string().contains("cut off"), "{error}"),
        }
    }
}
