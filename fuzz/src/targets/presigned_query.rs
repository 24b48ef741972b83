//! Requests signed in their query: what was signed is what is done, until it ends.

use crossdock_s3::protocol::auth::{
    AuthError, Authentication, Claim, SignaturePlace, adopt_parameters, authenticate, verify,
};
use crossdock_s3::protocol::http::{Method, RequestHead};

use super::request_head::parse;
use super::signature::{NOW_SECONDS, SECRET, SIGNER, wire};

/// A week, which is as long as a request may be good.
const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// Tries one input: a request head.
pub fn run(bytes: &[u8]) {
    let Some(parsed) = parse(bytes) else { return };
    if let Ok(Authentication::Signed(claim)) = authenticate(&parsed.head) {
        if claim.place == SignaturePlace::Query {
            holds(&claim, &parsed.head);
        }
    } else {
        presign(parsed.head);
    }
}

/// A claim out of a query that may be true.
fn holds(claim: &Claim, head: &RequestHead) {
    let seconds = claim.expires_seconds.expect("a presigned request has an end");
    assert!((1..=EXPIRES_SECONDS_MAX).contains(&seconds), "it is good for a week at most");
    if verify(claim, head, SECRET, NOW_SECONDS).is_err() {
        return;
    }
    let end = claim.timestamp.seconds() + seconds;
    assert!(NOW_SECONDS <= end);
    assert!(
        matches!(verify(claim, head, SECRET, end + 1), Err(AuthError::Expired)),
        "and not a second longer"
    );
    let mut other = head.clone();
    other.headers.push("x-amz-acl", b"public-read");
    let is_known = head.headers.contains("x-amz-acl");
    assert!(
        is_known || verify(claim, &other, SECRET, NOW_SECONDS).is_err(),
        "a header that nobody signed changes it"
    );
    other = head.clone();
    other.query = format!("{}&x-amz-acl=public-read", head.query).into();
    assert!(verify(claim, &other, SECRET, NOW_SECONDS).is_err(), "a parameter that nobody signed changes it");
    let mut adopted = head.clone();
    if adopt_parameters(claim, &mut adopted).is_ok() {
        let kept = |(name, value): (&str, &[u8])| head.headers.first(name).is_none_or(|first| first == value);
        assert!(
            adopted.headers.iter().filter(|(name, _)| head.headers.count(name) == 1).all(kept),
            "a header that was sent stays"
        );
        assert!(
            !adopted.headers.contains("x-amz-signature"),
            "what is about the signature does not become a header"
        );
    }
}

/// Whatever our client presigns our server accepts.
fn presign(mut head: RequestHead) {
    let is_taken = head.query.to_ascii_lowercase().contains("amz-")
        || head.query.contains('%')
        || head.query.contains("ignature");
    if is_taken
        || head.headers.count("host") != 1
        || head.headers.iter().any(|(name, _)| name.starts_with("x-amz-") || name == "authorization")
    {
        return;
    }
    SIGNER.presign(&mut head, 3600, NOW_SECONDS);
    match authenticate(&head) {
        Ok(Authentication::Signed(claim)) => {
            let verdict = verify(&claim, &head, SECRET, NOW_SECONDS);
            assert!(verdict.is_ok(), "what our client presigned is refused: {verdict:?}");
            holds(&claim, &head);
        }
        other => panic!("what our client presigned is no claim: {other:?}"),
    }
}

/// Presigned requests: plain, with parameters that become headers, with odd names; and some to presign.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (method, path, query) in [
        (Method::Get, "/b/k", ""),
        (Method::Get, "/b/a%20b%2F//", "response-content-type=text%2Fplain&versionId=null"),
        (Method::Put, "/b/k", "x-amz-acl=public-read&x-amz-meta-colour=blue&x-id=PutObject"),
        (Method::Put, "/b/k", "partNumber=1&uploadId=u"),
    ] {
        let mut head = RequestHead::for_client(method, path, query, "s3.example:9000");
        seeds.push(wire(&head));
        SIGNER.presign(&mut head, 3600, NOW_SECONDS);
        seeds.push(wire(&head));
    }
    seeds
}
