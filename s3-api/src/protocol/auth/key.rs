//! Signing keys, credential scopes, and the chain of signatures over a chunked body.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::encoding::{hex32, parse_hex32};
use super::timestamp::Timestamp;

/// What a signing key is good for: one day, one region, the service `s3`.
///
/// Displays as it is signed: `20130524/us-east-1/s3/aws4_request`. The region is any token the client chose: S3
/// compatible stores are reached with `us-east-1`, `US`, `auto`, `garage` and others, and it only has to be the
/// same in the scope and in the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The day, `yyyymmdd`.
    pub day: Box<str>,
    /// The region's name.
    pub region: Box<str>,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/s3/aws4_request", self.day, self.region)
    }
}

/// A signature: 32 bytes, displayed as 64 hexadecimal digits.
///
/// `==` is not constant in time; to check a signature use [`SigningKey::verify`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        parse_hex32(text).map(Signature)
    }

    /// Its first eight bytes. As random as all of it: who has not the key can not choose them.
    pub fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The signature as 64 hexadecimal digits in lower case, ASCII.
    pub fn hex(&self) -> [u8; 64] {
        hex32(&self.0)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hex().iter().try_for_each(|&digit| fmt::Write::write_char(f, char::from(digit)))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key that signs for one [`Scope`]. Worth caching: deriving it costs four HMACs, half of a verification.
///
/// Holds HMAC's state with the key already taken in, which spares two blocks of SHA-256 at each use.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Derives the key of `scope` from a secret access key (*Task 3: Calculate Signature*).
    pub fn derive(secret: &str, scope: &Scope) -> Self {
        let seed = [b"AWS4", secret.as_bytes()].concat();
        let day = hmac(&seed, scope.day.as_bytes());
        let region = hmac(&day, scope.region.as_bytes());
        let service = hmac(&region, b"s3");
        SigningKey(keyed(&hmac(&service, b"aws4_request")))
    }

    /// Signs a string to sign (for a browser's POST form: the policy in base64).
    pub fn sign(&self, string_to_sign: &[u8]) -> Signature {
        Signature(self.0.clone().chain_update(string_to_sign).finalize().into_bytes().into())
    }

    /// Whether `signature` is this key's over `string_to_sign`, in constant time.
    #[must_use]
    pub fn verify(&self, string_to_sign: &[u8], signature: &Signature) -> bool {
        self.0.clone().chain_update(string_to_sign).verify_slice(&signature.0).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// Appends the two lines that every string to sign has: time and scope.
pub(super) fn push_context(text: &mut Vec<u8>, timestamp: Timestamp, scope: &Scope) {
    text.extend_from_slice(&timestamp.text());
    text.push(b'\n');
    text.extend_from_slice(scope.day.as_bytes());
    text.push(b'/');
    text.extend_from_slice(scope.region.as_bytes());
    text.extend_from_slice(b"/s3/aws4_request\n");
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    keyed(key).chain_update(message).finalize().into_bytes().into()
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The chain of signatures over the chunks of a body: each covers the one before it, the request's own is the seed.
///
/// *Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks*,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>, and *Including Trailing Headers*,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>.
#[derive(Clone, Debug)]
pub struct ChunkSigner {
    key: SigningKey,
    timestamp: Timestamp,
    scope: Scope,
    previous: Signature,
}

impl ChunkSigner {
    /// Starts the chain at a request's signature.
    pub fn new(key: SigningKey, timestamp: Timestamp, scope: Scope, seed: Signature) -> Self {
        ChunkSigner { key, timestamp, scope, previous: seed }
    }

    /// The last link so far: the seed before the first chunk.
    pub fn previous(&self) -> &Signature {
        &self.previous
    }

    /// Signs the next chunk, given the SHA-256 of its data, and moves the chain on.
    pub fn sign_chunk(&mut self, data_sha256: &[u8; 32]) -> Signature {
        self.previous = self.key.sign(&self.chunk_string(data_sha256));
        self.previous
    }

    /// Checks the next chunk's signature and moves the chain on if it holds.
    #[must_use]
    pub fn verify_chunk(&mut self, data_sha256: &[u8; 32], signature: &Signature) -> bool {
        let holds = self.key.verify(&self.chunk_string(data_sha256), signature);
        if holds {
            self.previous = *signature;
        }
        holds
    }

    /// Signs the trailer, given the SHA-256 of its fields, each as `name:value LF`, name in lower case.
    pub fn sign_trailer(&mut self, fields_sha256: &[u8; 32]) -> Signature {
        self.previous = self.key.sign(&self.trailer_string(fields_sha256));
        self.previous
    }

    /// Checks the trailer's signature.
    #[must_use]
    pub fn verify_trailer(&mut self, fields_sha256: &[u8; 32], signature: &Signature) -> bool {
        self.key.verify(&self.trailer_string(fields_sha256), signature)
    }

    fn chunk_string(&self, data_sha256: &[u8; 32]) -> Vec<u8> {
        let mut text = self.start_string("AWS4-HMAC-SHA256-PAYLOAD");
        text.extend_from_slice(super::EMPTY_SHA256_HEX.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(&hex32(data_sha256));
        text
    }

    fn trailer_string(&self, fields_sha256: &[u8; 32]) -> Vec<u8> {
        let mut text = self.start_string("AWS4-HMAC-SHA256-TRAILER");
        text.extend_from_slice(&hex32(fields_sha256));
        text
    }

    fn start_string(&self, algorithm: &str) -> Vec<u8> {
        let mut text = Vec::with_capacity(320);
        text.extend_from_slice(algorithm.as_bytes());
        text.push(b'\n');
        push_context(&mut text, self.timestamp, &self.scope);
        text.extend_from_slice(&self.previous.hex());
        text.push(b'\n');
        text
    }
}
