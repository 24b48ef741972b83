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
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// Derives the key of `scope` from a secret access key (*Task 3: Calculate Signature*).
    pub fn derive(secret: &str, scope: &Scope) -> Self {
        let seed = [b"AWS4", secret.as_bytes()].concat();
        let day = hmac(&seed, scope.day.as_bytes());
        let region = hmac(&day, scope.region.as_bytes());
        let service = hmac(&region, b"s3");
        SigningKey(hmac(&service, b"aws4_request"))
    }

    /// Signs a string to sign (for a browser's POST form: the policy in base64).
    pub fn sign(&self, string_to_sign: &[u8]) -> Signature {
        Signature(hmac(&self.0, string_to_sign))
    }

    /// Whether `signature` is this key's over `string_to_sign`, in constant time.
    #[must_use]
    pub fn verify(&self, string_to_sign: &[u8], signature: &Signature) -> bool {
        mac(&self.0, string_to_sign).verify_slice(&signature.0).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length").chain_update(message)
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    mac(key, message).finalize().into_bytes().into()
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
        format!("{algorithm}\n{}\n{}\n{}\n", self.timestamp, self.scope, self.previous).into_bytes()
    }
}
