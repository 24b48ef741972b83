//! The vectors of `docs/protocol`, which outsiders test their own code with: what they say is what this code does.

use crossdock_s3::{
    client::{ReplyHead, contract},
    protocol::{
        auth::{AuthError, Authentication, authenticate, verify},
        http::{HeadLimits, HeadParser, HeadStatus, RequestHead},
        remote::{TOKEN, format_session},
    },
};
use crossdock_transport::token::{Codecs, TokenError};
use serde_json::Value;

fn read(text: &str, list: &str) -> (Value, Vec<Value>) {
    let document: Value = serde_json::from_str(text).unwrap();
    let entries = document[list].as_array().unwrap().clone();
    assert!(!entries.is_empty());
    (document, entries)
}

#[test]
fn tokens_are_read_as_written() {
    // Shows for each text which codec knows it and what it names, or whether it is malformed or unknown.
    let (_, tokens) = read(include_str!("../../../docs/protocol/tokens.json"), "tokens");
    for entry in tokens {
        let text = entry["token"].as_str().unwrap();
        let parsed = Codecs::standard().parse(text);
        match entry["error"].as_str() {
            Some("malformed") => assert!(matches!(parsed, Err(TokenError::Malformed)), "{text}"),
            Some("unknown") => assert!(matches!(parsed, Err(TokenError::Unknown)), "{text}"),
            Some(other) => panic!("{other}"),
            None => {
                let named = parsed.unwrap_or_else(|error| panic!("{text}: {error:?}"));
                assert_eq!(named.codec, entry["codec"], "{text}");
                let session = named.session.map(|session| format_session(session.to_bytes()));
                assert_eq!(session.as_deref(), entry["session"].as_str(), "{text}");
                assert_eq!(format!("{:016x}", named.slice.address()), entry["address"], "{text}");
                assert_eq!(named.slice.bytes(), entry["bytes"].as_u64().unwrap(), "{text}");
                assert_eq!(u64::from(named.slice.key().0), entry["key"].as_u64().unwrap(), "{text}");
            }
        }
    }
}

fn head_of(text: &str) -> RequestHead {
    match HeadParser::new(HeadLimits::default()).parse(text.as_bytes()) {
        Ok(HeadStatus::Complete(parsed)) => parsed.head,
        other => panic!("{text}: {:?}", other.err()),
    }
}

#[test]
fn requests_are_accepted_as_signed() {
    // Shows that each request's signature holds, and that it holds with no other token or session.
    let (document, requests) = read(include_str!("../../../docs/protocol/requests.json"), "requests");
    let (secret, now) = (document["secret"].as_str().unwrap(), document["now_seconds"].as_u64().unwrap());
    let check = |text: &str, now| {
        let head = head_of(text);
        let Ok(Authentication::Signed(claim)) = authenticate(&head) else { panic!("{text}") };
        verify(&claim, &head, secret, now).map(|verified| verified.signed.unwrap())
    };
    for entry in requests {
        let text = entry["head"].as_str().unwrap();
        let signed = check(text, now).unwrap_or_else(|error| panic!("{}: {error:?}", entry["name"]));
        assert_eq!(signed.signature.to_string(), entry["signature"]);
        assert_eq!(signed.at_seconds, now);
        assert!(check(text, now + 901).is_err(), "too late");
        let head = head_of(text);
        for name in [TOKEN, "x-amz-rdma-session"] {
            let Some(value) = head.headers.text(name) else { continue };
            let other = text.replace(value, &value.replace('1', "2"));
            assert!(matches!(check(&other, now), Err(AuthError::SignatureMismatch)), "{other}");
            let without = text.replace(&format!("{name}: {value}\r\n"), "");
            assert!(check(&without, now).is_err(), "{without}");
        }
    }
}

#[test]
fn replies_prove_what_they_prove() {
    // Shows for each reply what a client may believe.
    use contract::{GetVerdict, PutVerdict, judge_get, judge_put};
    let (_, replies) = read(include_str!("../../../docs/protocol/replies.json"), "replies");
    for entry in replies {
        let headers = entry["headers"].as_object().unwrap();
        let headers =
            headers.iter().map(|(name, value)| (name.as_str().into(), value.as_str().unwrap().into()));
        let head = ReplyHead::new(entry["status"].as_u64().unwrap() as u16, headers.collect());
        let verdict = if entry["method"] == "GET" {
            let wanted = entry["range"].as_array();
            let wanted = wanted.map(|range| range[0].as_u64().unwrap()..range[1].as_u64().unwrap());
            match judge_get(&head, entry["room"].as_u64().unwrap(), wanted.as_ref()) {
                GetVerdict::Moved { .. } => "moved",
                GetVerdict::Unsized { .. } => "unsized",
                GetVerdict::Body => "body",
                GetVerdict::Again => "again",
                GetVerdict::Ignored => "ignored",
                GetVerdict::Refused => "refused",
                GetVerdict::Unproven(_) => "unproven",
            }
        } else {
            match judge_put(&head, entry["bytes"].as_u64().unwrap(), entry["checksum"].as_str()) {
                PutVerdict::Stored => "stored",
                PutVerdict::Declined => "declined",
                PutVerdict::Ignored => "ignored",
                PutVerdict::Refused => "refused",
                PutVerdict::Unproven(_) => "unproven",
            }
        };
        assert_eq!(verdict, entry["verdict"], "{}", entry["why"]);
    }
}
