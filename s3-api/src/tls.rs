//! One TLS session without I/O, of a server or a client: records in, plaintext out, and the other way.
//!
//! ```text
//!   records, in the caller's buffer ─► advance ─► plaintext, in the caller's buffer
//!                                        └──────► outgoing: handshake, alerts, updates of keys
//!   plaintext ─► encrypt ─► records, in the caller's buffer
//! ```
//!
//! Records are decrypted where they were received. The library below hands plaintext out in vectors of its own, of one
//! record each, and makes records in such: two copies each way, one of them ours, and both are counted.
//!
//! Invariants:
//! * Of what was decrypted at most one record is kept ([`Session::leftover`]): what the caller had no room for.
//! * After an error nothing is decrypted any more; the alert that says so is in `outgoing`.

use crossdock_transport::memory::{CopyReason, copy_payload, count_copied};
#[cfg(feature = "client")]
use rustls::{
    ClientConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::ServerName,
};
use rustls::{
    CommonState,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
        WriteTraffic,
    },
};
#[cfg(feature = "server")]
use rustls::{
    ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
};
use std::sync::Arc;

/// The one protocol that is spoken inside. (<https://www.iana.org/assignments/tls-extensiontype-values>, "TLS
/// Application-Layer Protocol Negotiation (ALPN) Protocol IDs".)
pub(crate) const PROTOCOL: &[u8] = b"http/1.1";

/// Payload of a record at most. (RFC 8446 §5.1.)
pub(crate) const RECORD_PAYLOAD_BYTES: usize = 1 << 14;
/// What a record may take besides: header, nonce, type and tag of any suite that we speak.
const RECORD_OVERHEAD_BYTES: usize = 32;
/// A record's header: type, version, length. (RFC 8446 §5.1.)
const HEADER_BYTES: usize = 5;

/// What is written to the peer besides payload, in one turn: a flight of the handshake with its chain of certificates is
/// the largest. More than this is nothing that we would say.
const OUTGOING_BYTES_MAX: usize = 256 << 10;

/// How far [`Session::advance`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    /// Bytes at the front of the input that are not needed any more.
    pub(crate) consumed_bytes: usize,
    /// Bytes of plaintext, now at the front of the target.
    pub(crate) plaintext_bytes: usize,
    /// What the session waits for.
    pub(crate) state: State,
}

/// What a session waits for, when it has taken what there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// More records of the handshake.
    Handshake,
    /// Records, or plaintext to encrypt.
    Established,
    /// Nothing: the peer has said that nothing more will come.
    PeerClosed,
}

/// A side of a connection, as the library has it: the same states on each, of data that is its own.
pub(crate) trait Side {
    type Data;

    /// See [`UnbufferedStatus`].
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What both sides have.
    fn common(&self) -> &CommonState;
}

#[cfg(feature = "server")]
impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

#[cfg(feature = "client")]
impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

/// One side of one TLS connection.
pub(crate) struct Session<C: Side> {
    connection: C,
    /// The end of a decrypted record, which the target had no room for.
    leftover: Vec<u8>,
    leftover_start: usize,
    state: State,
    /// Bytes at the front of the caller's input that the library has been through and still needs: the beginning of a message
    /// of the handshake that goes on in the next record.
    seen_bytes: usize,
    /// What ended the session: the library must not be asked again.
    failed: Option<rustls::Error>,
}

#[cfg(feature = "server")]
impl Session<UnbufferedServerConnection> {
    /// A session that waits for the peer's hello.
    ///
    /// # Errors
    /// The configuration can not be used.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        UnbufferedServerConnection::new(config).map(Session::new)
    }

    /// The version that was agreed on: `1.2`, `1.3`, or `unknown` before there is any.
    pub(crate) fn version(&self) -> &'static str {
        match self.connection.common().protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => crate::service::UNKNOWN,
        }
    }
}

#[cfg(feature = "client")]
impl Session<UnbufferedClientConnection> {
    /// A session with a server of that name, to which it has to say hello: that is in `outgoing` after the first
    /// [`advance`](Session::advance).
    ///
    /// # Errors
    /// The configuration can not be used.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        UnbufferedClientConnection::new(config, name).map(Session::new)
    }
}

impl<C: Side> Session<C> {
    fn new(connection: C) -> Session<C> {
        Session {
            connection,
            leftover: Vec::new(),
            leftover_start: 0,
            state: State::Handshake,
            seen_bytes: 0,
            failed: None,
        }
    }

    /// Takes records off `input` until there is plaintext in `target`, or no whole record is left. What must be sent to the
    /// peer before anything else is appended to `outgoing`.
    ///
    /// The caller drops [`Advance::consumed_bytes`] from the front of its input before it calls again, and keeps the rest
    /// where it was in relation to that.
    ///
    /// # Errors
    /// The peer does not speak TLS, or breaks its rules.
    pub(crate) fn advance(
        &mut self,
        input: &mut [u8],
        target: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<Advance, rustls::Error> {
        let plaintext_bytes = self.take_leftover(target);
        let mut advance = Advance { plaintext_bytes, consumed_bytes: 0, state: self.state };
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        loop {
            advance.state = self.state;
            if advance.plaintext_bytes > 0 || !self.leftover.is_empty() {
                return Ok(advance);
            }
            let input = input.get_mut(advance.consumed_bytes..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process(input);
            let mut waits = false;
            match state {
                Err(error) => {
                    self.failed = Some(error.clone());
                    self.collect_alert(outgoing);
                    return Err(error);
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    self.state = State::Established;
                    // Payload never comes in the midst of a message of the handshake.
                    self.seen_bytes = 0;
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        count_copied(record.payload.len(), CopyReason::Record);
                        let room = target.len() - advance.plaintext_bytes;
                        let (now, later) = record.payload.split_at(record.payload.len().min(room));
                        let at = advance.plaintext_bytes;
                        if let Some(target) = target.get_mut(at..at + now.len()) {
                            copy_payload(target, now, CopyReason::Record);
                        }
                        advance.plaintext_bytes += now.len();
                        count_copied(later.len(), CopyReason::Record);
                        self.leftover.extend_from_slice(later);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, outgoing)?,
                // What was encoded is in `outgoing`, which the caller sends before anything else.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake) => waits = true,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.state = State::Established;
                    waits = true;
                }
                Ok(ConnectionState::PeerClosed) => self.state = State::PeerClosed,
                Ok(ConnectionState::Closed) => {
                    self.state = State::PeerClosed;
                    waits = true;
                }
                // Data before the end of the handshake can be replayed: it is never offered.
                Ok(_) => return Err(rustls::Error::General("a state that was not offered".into())),
            }
            advance.consumed_bytes += discard;
            waits |= self.state == State::PeerClosed;
            if waits {
                advance.state = self.state;
                self.seen_bytes = whole_records_bytes(input.get(discard..).unwrap_or_default());
                return Ok(advance);
            }
        }
    }

    /// Whether there is plaintext that the caller had no room for.
    #[cfg(feature = "client")]
    pub(crate) fn has_plaintext(&self) -> bool {
        !self.leftover.is_empty()
    }

    fn take_leftover(&mut self, target: &mut [u8]) -> usize {
        let left = self.leftover.get(self.leftover_start..).unwrap_or_default();
        let bytes = left.len().min(target.len());
        if let (Some(source), Some(target)) = (left.get(..bytes), target.get_mut(..bytes)) {
            copy_payload(target, source, CopyReason::Record);
        }
        self.leftover_start += bytes;
        if self.leftover_start == self.leftover.len() {
            (self.leftover, self.leftover_start) = (Vec::new(), 0);
        }
        bytes
    }

    /// The alert that tells the peer what it did wrong, if there is one.
    fn collect_alert(&mut self, outgoing: &mut Vec<u8>) {
        // What is to be sent comes before any look at records: none are shown, which must not be looked at again.
        while self.connection.common().wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process(&mut []).state else {
                return;
            };
            if encode(&mut data, outgoing).is_err() {
                return;
            }
        }
    }

    /// Encrypts all of `plaintext` into the front of `target`, and gives how many bytes that took. There must be room for
    /// what [`fitting_bytes`] says. `input` is what the caller has of the peer's records.
    ///
    /// # Errors
    /// The session can not be written to, now or ever.
    pub(crate) fn encrypt(
        &mut self,
        input: &mut [u8],
        plaintext: &[u8],
        target: &mut [u8],
    ) -> Result<usize, NotWritable> {
        let written = self.write(input, target, |traffic, target| traffic.encrypt(plaintext, target))?;
        count_copied(2 * plaintext.len(), CopyReason::Record);
        Ok(written)
    }

    /// Writes into `target` that nothing more will be sent, and gives how many bytes that took.
    ///
    /// # Errors
    /// As [`Session::encrypt`].
    #[cfg(feature = "server")]
    pub(crate) fn close(&mut self, input: &mut [u8], target: &mut [u8]) -> Result<usize, NotWritable> {
        self.write(input, target, |traffic, target| traffic.queue_close_notify(target))
    }

    fn write(
        &mut self,
        input: &mut [u8],
        target: &mut [u8],
        with: impl Fn(&mut WriteTraffic<'_, C::Data>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<usize, NotWritable> {
        if self.failed.is_some() {
            return Err(NotWritable);
        }
        // Records that were not decrypted yet must not be now: there is no room for what is in them.
        let seen = input.get_mut(..self.seen_bytes).ok_or(NotWritable)?;
        let mut written = 0;
        loop {
            let target = target.get_mut(written..).unwrap_or_default();
            match self.connection.process(seen).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return with(&mut traffic, target).map(|bytes| written + bytes).map_err(|_| NotWritable);
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    written += data.encode(target).map_err(|_| NotWritable)?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.state = State::PeerClosed,
                _ => return Err(NotWritable),
            }
        }
    }
}

/// Nothing was encrypted: the session is over, or not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotWritable;

/// Room that [`Session::encrypt`] needs besides records of payload: for updates of keys and the like that go first.
const RESERVE_BYTES: usize = 1024;

/// How much plaintext fits into `room` bytes as records.
pub(crate) fn fitting_bytes(room: usize) -> usize {
    let room = room.saturating_sub(RESERVE_BYTES);
    let whole = room / (RECORD_PAYLOAD_BYTES + RECORD_OVERHEAD_BYTES);
    let rest = room % (RECORD_PAYLOAD_BYTES + RECORD_OVERHEAD_BYTES);
    whole * RECORD_PAYLOAD_BYTES + rest.saturating_sub(RECORD_OVERHEAD_BYTES)
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), rustls::Error> {
    let at = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(at + room, 0);
        match data.encode(outgoing.get_mut(at..).unwrap_or_default()) {
            Ok(bytes) => {
                outgoing.truncate(at + bytes);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room && at + required_size <= OUTGOING_BYTES_MAX =>
            {
                room = required_size;
            }
            Err(error) => {
                outgoing.truncate(at);
                return Err(rustls::Error::General(error.to_string()));
            }
        }
    }
}

/// How many bytes a record takes, header and all, if its header is there.
fn record_bytes(input: &[u8]) -> Option<usize> {
    let length = input.get(3..HEADER_BYTES)?;
    Some(HEADER_BYTES + length.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)))
}

/// How many bytes are missing of the record that is begun in `input`, behind whole ones; none if nothing tells.
#[cfg(feature = "server")]
pub(crate) fn missing_bytes(input: &[u8]) -> Option<usize> {
    let begun = input.get(whole_records_bytes(input)..)?;
    record_bytes(begun).map(|bytes| bytes - begun.len())
}

/// How many bytes the whole records at the front of `input` take.
fn whole_records_bytes(input: &[u8]) -> usize {
    let mut at = 0;
    while let Some(bytes) = input.get(at..).and_then(record_bytes).filter(|bytes| at + bytes <= input.len()) {
        at += bytes;
    }
    at
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use super::*;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        version::{TLS12, TLS13},
    };
    use std::io::{Read, Write};

    /// Both ends of a connection: the server's configuration, and a client of `version` that trusts it.
    fn ends(
        version: &'static rustls::SupportedProtocolVersion,
    ) -> (Session<UnbufferedServerConnection>, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(vec!["server.test".into()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(client), "server.test".try_into().unwrap()).unwrap();
        (Session::server(Arc::new(server)).unwrap(), client)
    }

    fn sent(client: &mut ClientConnection) -> Vec<u8> {
        let mut records = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut records).unwrap();
        }
        records
    }

    /// Gives a client records, and what is in them.
    fn take(client: &mut ClientConnection, mut records: &[u8]) -> Vec<u8> {
        let mut plaintext = Vec::new();
        while !records.is_empty() {
            client.read_tls(&mut records).unwrap();
            let there = client.process_new_packets().unwrap().plaintext_bytes_to_read();
            let at = plaintext.len();
            plaintext.resize(at + there, 0);
            client.reader().read_exact(&mut plaintext[at..]).unwrap();
        }
        plaintext
    }

    /// What a server has received and not used, and what it makes of it.
    struct Server {
        session: Session<UnbufferedServerConnection>,
        input: Vec<u8>,
        plaintext: Vec<u8>,
        outgoing: Vec<u8>,
    }

    impl Server {
        fn new(session: Session<UnbufferedServerConnection>) -> Server {
            Server { session, input: Vec::new(), plaintext: Vec::new(), outgoing: Vec::new() }
        }

        /// Takes all that can be taken, with room for `room` bytes at a time.
        fn advance(&mut self, records: &[u8], room: usize) -> Result<State, rustls::Error> {
            self.input.extend_from_slice(records);
            loop {
                let mut target = vec![0; room];
                let advance = self.session.advance(&mut self.input, &mut target, &mut self.outgoing)?;
                self.input.drain(..advance.consumed_bytes);
                self.plaintext.extend_from_slice(&target[..advance.plaintext_bytes]);
                if advance.plaintext_bytes == 0 {
                    return Ok(advance.state);
                }
            }
        }

        fn agree(&mut self, client: &mut ClientConnection) {
            for _ in 0..4 {
                self.advance(&sent(client), 100).unwrap();
                take(client, &std::mem::take(&mut self.outgoing));
            }
            assert_eq!(self.session.state, State::Established);
            assert!(!client.is_handshaking());
        }

        fn encrypt(&mut self, plaintext: &[u8]) -> Vec<u8> {
            let mut target = vec![0; 64 << 10];
            assert!(plaintext.len() <= fitting_bytes(target.len()));
            let bytes = self.session.encrypt(&mut self.input, plaintext, &mut target).unwrap();
            target.truncate(bytes);
            target
        }
    }

    #[test]
    fn bytes_go_both_ways_however_they_are_cut() {
        // Handshake and requests, a byte at a time and in pieces of every kind, read with little and much room; both versions.
        for (version, piece, room) in
            [(&TLS13, 1, 7), (&TLS12, 1, 100_000), (&TLS13, 777, 1), (&TLS12, 5, 16384)]
        {
            let (session, mut client) = ends(version);
            let mut server = Server::new(session);
            let request = vec![b'r'; 20_000];
            for _ in 0..4 {
                for part in sent(&mut client).chunks(piece) {
                    server.advance(part, room).unwrap();
                }
                take(&mut client, &std::mem::take(&mut server.outgoing));
            }
            client.writer().write_all(&request).unwrap();
            for part in sent(&mut client).chunks(piece) {
                server.advance(part, room).unwrap();
            }
            assert!(server.plaintext == request, "{piece} {room}");
            let reply: Vec<u8> = (0..fitting_bytes(64 << 10)).map(|at| at as u8).collect();
            let records = server.encrypt(&reply);
            assert!(take(&mut client, &records) == reply);
        }
    }

    #[test]
    fn a_reply_can_go_out_while_a_record_is_half_received() {
        // What is not whole, or whole and not looked at yet, stays for later and is not lost.
        let (session, mut client) = ends(&TLS13);
        let mut server = Server::new(session);
        server.agree(&mut client);
        client.writer().write_all(b"first").unwrap();
        let first = sent(&mut client);
        client.writer().write_all(b"second").unwrap();
        let second = sent(&mut client);
        client.writer().write_all(b"third").unwrap();
        let third = sent(&mut client);
        server.input = [&first[..], &second, &third[..9]].concat();
        let mut target = [0; 64];
        let advance = server.session.advance(&mut server.input, &mut target, &mut server.outgoing).unwrap();
        assert_eq!((&target[..5], advance.consumed_bytes), (&b"first"[..], first.len()));
        server.input.drain(..advance.consumed_bytes);
        let reply = server.encrypt(b"reply");
        assert_eq!(take(&mut client, &reply), b"reply");
        server.advance(&third[9..], 64).unwrap();
        assert_eq!(server.plaintext, b"secondthird");
    }

    #[test]
    fn keys_are_renewed_in_the_midst() {
        // A client that asks for new keys gets them with the next record, and is understood afterwards.
        let (session, mut client) = ends(&TLS13);
        let mut server = Server::new(session);
        server.agree(&mut client);
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"after").unwrap();
        server.advance(&sent(&mut client), 64).unwrap();
        assert_eq!(server.plaintext, b"after");
        let (outgoing, reply) = (std::mem::take(&mut server.outgoing), server.encrypt(b"reply"));
        assert_eq!(take(&mut client, &[outgoing, reply].concat()), b"reply");
    }

    #[test]
    fn an_end_is_told_each_way() {
        // A peer that closes is seen to, and may still be answered; what we close is closed for it.
        let (session, mut client) = ends(&TLS13);
        let mut server = Server::new(session);
        server.agree(&mut client);
        client.writer().write_all(b"last").unwrap();
        client.send_close_notify();
        assert_eq!(server.advance(&sent(&mut client), 64), Ok(State::PeerClosed));
        assert_eq!(server.plaintext, b"last");
        let mut records = server.encrypt(b"reply");
        let mut target = [0; 256];
        let bytes = server.session.close(&mut server.input, &mut target).unwrap();
        records.extend_from_slice(&target[..bytes]);
        assert_eq!(take(&mut client, &records), b"reply");
        assert_eq!(client.reader().read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn what_is_no_tls_is_refused_with_an_alert() {
        // Noise, a changed record, and noise after the handshake: an error, and the peer is told.
        for noise in
            [&b"\x16\x03\x01\x00\x05hello"[..], b"\x16\x03\x01\x00\x04\x0e\0\0\0", b"\xff\x03\x01\0\0"]
        {
            let mut server = Server::new(ends(&TLS13).0);
            assert!(server.advance(noise, 64).is_err());
            let told = server.outgoing.first().copied();
            assert_eq!(told.unwrap_or(0x15), 0x15, "an alert, or nothing");
            assert!(told.is_some() || noise.len() != 9, "a message out of turn is answered");
        }
        for version in [&TLS12, &TLS13] {
            let (session, mut client) = ends(version);
            let mut server = Server::new(session);
            server.agree(&mut client);
            client.writer().write_all(b"GET / HTTP/1.1").unwrap();
            let mut records = sent(&mut client);
            *records.last_mut().unwrap() ^= 1;
            assert!(server.advance(&records, 64).is_err());
            assert!(server.plaintext.is_empty() && !server.outgoing.is_empty());
            assert!(server.advance(b"more", 64).is_err());
        }
    }

    #[test]
    fn a_hello_may_be_cut_into_records_of_any_size() {
        // The library is shown a message that goes over several records; each byte has its own here.
        let (session, mut client) = ends(&TLS13);
        let mut server = Server::new(session);
        let hello = sent(&mut client);
        let records: Vec<u8> =
            hello[HEADER_BYTES..].iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect();
        for part in records.chunks(100) {
            server.advance(part, 64).unwrap();
        }
        take(&mut client, &std::mem::take(&mut server.outgoing));
        server.advance(&sent(&mut client), 64).unwrap();
        assert_eq!(server.session.state, State::Established);
    }
}
