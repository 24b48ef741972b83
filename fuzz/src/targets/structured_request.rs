//! Requests that are put together from what S3 has, signed as a client signs: they get past the first checks far more often than
//! bytes that were changed.
//!
//! * What our client signs our server accepts, whatever stands in path, query and fields.
//! * What [`whole_request`] demands of any request.

use arbitrary::{Arbitrary, Unstructured};
use crossdock_s3::protocol::auth::{
    Authentication, PayloadMode, Signer, authenticate, encode_path, encode_query, verify,
};
use crossdock_s3::protocol::checksum::{Algorithm, Hasher};
use crossdock_s3::protocol::http::{Method, RequestHead, is_field_name, is_field_value};

use super::request_head::parse;
use super::signature::{NOW_SECONDS, wire};
use super::whole_request;
use crate::vocabulary::{HEADERS, PARAMETERS, SUBRESOURCES, VALUES};

const SIGNER: Signer<'static> = Signer {
    access_key: "AKIAIOSFODNN7EXAMPLE",
    secret: whole_request::SECRET,
    region: "us-east-1",
    session_token: None,
};

#[derive(Arbitrary, Debug)]
enum Verb {
    Get,
    Head,
    Put,
    Post,
    Delete,
}

/// A word of S3's, or one of the fuzzer's own.
#[derive(Arbitrary, Debug)]
enum Word {
    Known(u8),
    Own(String),
    Number(i64),
}

impl Word {
    fn of(&self, known: &[&str]) -> String {
        match self {
            Word::Known(index) => {
                known.get(usize::from(*index) % known.len()).copied().unwrap_or_default().to_owned()
            }
            Word::Own(text) => text.clone(),
            Word::Number(number) => number.to_string(),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Signed {
    Header,
    Presigned { seconds: u32 },
    Not,
}

#[derive(Arbitrary, Debug)]
enum Body {
    Own(Vec<u8>),
    /// A document that some operation takes.
    Document(u8),
}

/// A request, before it is put into text.
#[derive(Arbitrary, Debug)]
struct Plan {
    verb: Verb,
    bucket: Option<Word>,
    key: Option<Word>,
    /// What of the bucket or object is meant.
    subresource: u8,
    /// By their places in the vocabulary.
    parameters: Vec<(u8, Option<Word>)>,
    headers: Vec<(u8, Word)>,
    /// One of each that S3 does not know.
    stranger: Option<(String, String)>,
    signed: Signed,
    hashed: bool,
    body: Body,
}

/// Tries one input: bytes that a request is planned by.
pub fn run(bytes: &[u8]) {
    if let Some(request) = planned(bytes) {
        whole_request::run(&request);
    }
}

/// The request that these bytes plan; none if a client would not send it. For tests of how far inputs get.
pub fn planned(bytes: &[u8]) -> Option<Vec<u8>> {
    request(&Plan::arbitrary_take_rest(Unstructured::new(bytes)).ok()?)
}

/// The request that was planned; none if it can not be told from another in text, so that a client does not send it.
fn request(plan: &Plan) -> Option<Vec<u8>> {
    let method = match plan.verb {
        Verb::Get => Method::Get,
        Verb::Head => Method::Head,
        Verb::Put => Method::Put,
        Verb::Post => Method::Post,
        Verb::Delete => Method::Delete,
    };
    let mut path = String::from("/");
    if let Some(bucket) = &plan.bucket {
        path += &encode_path(&bucket.of(&["bucket", "other-bucket", "192.168.0.1", "xn--b", "Bucket"]));
        if let Some(key) = &plan.key {
            path += "/";
            path += &encode_path(&key.of(&["key", "a/../b", "//", "a b+c%2F", "é", ".", "folder/"]));
        }
    }
    let known = |words: &[&'static str], place: u8| {
        words.get(usize::from(place) % words.len()).copied().unwrap_or_default()
    };
    let mut query = known(SUBRESOURCES, plan.subresource).to_owned();
    let mut add = |name: &str, value: Option<&str>| {
        query += if query.is_empty() { "" } else { "&" };
        query += &encode_query(name);
        if let Some(value) = value {
            query += "=";
            query += &encode_query(value);
        }
    };
    for (name, value) in &plan.parameters {
        add(known(PARAMETERS, *name), value.as_ref().map(|value| value.of(VALUES)).as_deref());
    }
    if let Some((name, value)) = &plan.stranger {
        add(name, Some(value));
    }
    let mut head = RequestHead::for_client(method, &path, &query, "s3.example:9000");
    let body = match &plan.body {
        Body::Own(bytes) => bytes.clone(),
        Body::Document(place) => {
            let documents = super::request_documents::seeds();
            documents.get(usize::from(*place) % documents.len()).cloned().unwrap_or_default()
        }
    };
    let headers =
        plan.headers.iter().map(|(name, value)| (known(HEADERS, *name).to_owned(), value.of(VALUES)));
    for (name, value) in headers.chain(plan.stranger.clone()) {
        let name = name.to_ascii_lowercase();
        // A second claim is another request than the one that is signed here.
        let is_claim =
            ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "host"]
                .contains(&name.as_str());
        if is_field_name(name.as_bytes()) && is_field_value(value.as_bytes()) && !is_claim {
            head.headers.push(&name, value.as_bytes());
        }
    }
    if !body.is_empty() && !head.headers.contains("content-length") {
        head.headers.push("content-length", body.len().to_string().as_bytes());
    }
    let claims_in_query = query.to_ascii_lowercase().contains("x-amz-") || query.contains("Signature");
    let payload = match plan.hashed {
        true => {
            let hash = Hasher::checksum(Algorithm::Sha256, &body);
            PayloadMode::Sha256(hash.bytes().try_into().expect("SHA-256 has 32 bytes"))
        }
        false => PayloadMode::Unsigned,
    };
    match plan.signed {
        Signed::Not => {}
        _ if claims_in_query => return None,
        Signed::Header => {
            SIGNER.sign_header(&mut head, &payload, NOW_SECONDS);
        }
        Signed::Presigned { seconds } => {
            SIGNER.presign(&mut head, u64::from(seconds) % 604_800 + 1, NOW_SECONDS);
        }
    }
    let text = [wire(&head).as_slice(), body.as_slice()].concat();
    if !matches!(plan.signed, Signed::Not) {
        // What a server reads is what was signed, or no request at all.
        if let Some(parsed) = parse(&text) {
            match authenticate(&parsed.head) {
                Ok(Authentication::Signed(claim)) => {
                    let verdict = verify(&claim, &parsed.head, whole_request::SECRET, NOW_SECONDS);
                    assert!(
                        verdict.is_ok(),
                        "what a client signed is refused, {verdict:?}: {}",
                        text.escape_ascii()
                    );
                }
                other => panic!("what a client signed is no claim, {other:?}: {}", text.escape_ascii()),
            }
        }
    }
    Some(text)
}

/// Bytes of all kinds: each plans some request.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..64).map(|index| (0..64 + index * 8).map(|_| rng.u8(..)).collect()).collect()
}
