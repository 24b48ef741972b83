//! Signature Version 4: claims out of any head, and that signing and verifying agree on whatever can be signed.

use crossdock_s3::protocol::auth::{Authentication, PayloadMode, Signer, authenticate, verify};
use crossdock_s3::protocol::http::{Method, RequestHead};

use super::request_head::parse;

pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2013-05-24, the day of the specification's examples.
pub(super) const NOW_SECONDS: u64 = 1_369_353_600;

pub(super) const SIGNER: Signer<'static> =
    Signer { access_key: "AKIAIOSFODNN7EXAMPLE", secret: SECRET, region: "us-east-1", session_token: None };

/// Tries one input: a request head.
pub fn run(bytes: &[u8]) {
    let Some(parsed) = parse(bytes) else { return };
    let mut head = parsed.head;
    if let Ok(Authentication::Signed(claim)) = authenticate(&head) {
        // The verdict may be either; whatever it is, another secret must not give it.
        let _ = verify(&claim, &head, SECRET, NOW_SECONDS);
        let other = verify(&claim, &head, "another secret", NOW_SECONDS);
        assert!(other.is_err(), "a signature was accepted under a secret that nobody signed with");
    }
    sign_again(&mut head);
}

/// Signs the head afresh: what our client signs our server accepts, however odd the fields between.
fn sign_again(head: &mut RequestHead) {
    // A request carries one claim: those of the query would make it two.
    if head.query.to_ascii_lowercase().contains("x-amz-") || head.query.contains("Signature") {
        return;
    }
    // Signed headers that occur twice are one value by the rules of HTTP, and two ways to read it.
    let single = ["host", "x-amz-security-token"].iter().all(|name| head.headers.count(name) <= 1);
    if !single || head.headers.contains("x-amz-security-token") || !head.headers.contains("host") {
        return;
    }
    SIGNER.sign_header(head, &PayloadMode::Unsigned, NOW_SECONDS);
    let claim = match authenticate(head) {
        Ok(Authentication::Signed(claim)) => claim,
        other => panic!("a head signed by our client is no claim: {other:?}"),
    };
    let verdict = verify(&claim, head, SECRET, NOW_SECONDS);
    assert!(verdict.is_ok(), "a head signed by our client is refused: {verdict:?}");
}

/// Heads signed in their headers and in their query.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (path, query) in [("/b/k", ""), ("/b/a%20b%2F//", "list-type=2&prefix=%C3%A9&delimiter=/")] {
        for payload in [
            PayloadMode::Unsigned,
            PayloadMode::parse(b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD").expect("a mode"),
        ] {
            let mut head = RequestHead::for_client(Method::Put, path, query, "s3.example:9000");
            head.headers.push("x-amz-meta-colour", b"  deep   blue ");
            SIGNER.sign_header(&mut head, &payload, NOW_SECONDS);
            seeds.push(wire(&head));
        }
        let mut head = RequestHead::for_client(Method::Get, path, query, "s3.example:9000");
        SIGNER.presign(&mut head, 3600, NOW_SECONDS);
        seeds.push(wire(&head));
    }
    seeds
}

/// A head as it is sent.
pub(super) fn wire(head: &RequestHead) -> Vec<u8> {
    let question = if head.query.is_empty() { "" } else { "?" };
    let mut text =
        format!("{} {}{question}{} HTTP/1.1\r\n", head.method.as_str(), head.path, head.query).into_bytes();
    for (name, value) in head.headers.iter() {
        text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    text.extend(b"\r\n");
    text
}
