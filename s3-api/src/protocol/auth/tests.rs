//! Amazon's published examples, and every way a signed request can be wrong.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::super::http::{Method, RequestHead};
use super::*;

const NOW: u64 = 1_369_353_600; // 20130524T000000Z, the time of all of Amazon's examples.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SIGNER: Signer<'_> =
    Signer { access_key: "AKIAIOSFODNN7EXAMPLE", secret: SECRET, region: "us-east-1", session_token: None };
const HOST: &str = "examplebucket.s3.amazonaws.com";

fn head(method: Method, path: &str, query: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::for_client(method, path, query, HOST);
    for (name, value) in fields {
        head.headers.set(name, value.as_bytes());
    }
    head
}

fn claim(head: &RequestHead) -> Result<Claim, AuthError> {
    match authenticate(head)? {
        Authentication::Signed(claim) => Ok(*claim),
        Authentication::Anonymous { .. } => panic!("anonymous"),
    }
}

fn check(head: &RequestHead, now: u64) -> Result<Verified, AuthError> {
    verify(&claim(head)?, head, SECRET, now)
}

/// Signs `head`, expects Amazon's signature, and verifies it.
fn expect_signature(
    mut head: RequestHead,
    payload: PayloadMode,
    signature: &str,
) -> (RequestHead, ChunkSigner) {
    let chain = SIGNER.sign_header(&mut head, &payload, NOW);
    assert_eq!(chain.previous().to_string(), signature);
    let verified = check(&head, NOW).unwrap();
    assert_eq!(verified.payload, payload);
    assert_eq!(verified.chunk_signer.is_some(), payload.has_signed_chunks());
    (head, chain)
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn body(bytes: &[u8]) -> PayloadMode {
    PayloadMode::Sha256(hash(bytes))
}

#[test]
fn amazons_header_examples_are_reproduced() {
    // The four examples of sig-v4-header-based-auth.html: GET with a range, PUT, GET of a sub-resource, LIST.
    expect_signature(
        head(Method::Get, "/test.txt", "", &[("range", "bytes=0-9")]),
        body(b""),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    let fields = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    expect_signature(
        head(Method::Put, "/test$file.text", "", &fields),
        body(b"Welcome to Amazon S3."),
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    expect_signature(
        head(Method::Get, "/", "lifecycle", &[]),
        body(b""),
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    );
    expect_signature(
        head(Method::Get, "/", "prefix=J&max-keys=2", &[]),
        body(b""),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
}

#[test]
fn amazons_query_example_is_reproduced() {
    // The example of sigv4-query-string-auth.html, made and verified.
    let mut head = head(Method::Get, "/test.txt", "", &[]);
    SIGNER.presign(&mut head, 86_400, NOW);
    let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    assert!(head.query.ends_with(&format!("&X-Amz-Signature={signature}")));
    assert!(check(&head, NOW + 86_400).is_ok());
    assert_eq!(check(&head, NOW + 86_401).unwrap_err(), AuthError::Expired);
    assert_eq!(check(&head, NOW - 901).unwrap_err(), AuthError::NotYetValid);
}

#[test]
fn amazons_chunked_example_is_reproduced() {
    // The example of sigv4-streaming.html: the seed and the signatures of three chunks.
    let fields = [
        ("host", "s3.amazonaws.com"),
        ("content-encoding", "aws-chunked"),
        ("content-length", "66824"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ];
    let (head, mut chain) = expect_signature(
        head(Method::Put, "/examplebucket/chunkObject.txt", "", &fields),
        PayloadMode::SignedChunks,
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    let mut checker = check(&head, NOW).unwrap().chunk_signer.unwrap();
    let a = vec![b'a'; 65_536];
    let chunks: [(&[u8], &str); 3] = [
        (&a, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (&a[..1024], "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (b"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ];
    for (data, signature) in chunks {
        let made = chain.sign_chunk(&hash(data));
        assert_eq!(made.to_string(), signature);
        assert!(!checker.verify_chunk(&hash(b"other"), &made));
        assert!(checker.verify_chunk(&hash(data), &made));
    }
}

#[test]
fn amazons_trailer_example_is_reproduced() {
    // The example of sigv4-streaming-trailers.html: seed, three chunks, and the trailer's signature.
    let fields = [
        ("host", "s3.amazonaws.com"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-trailer", "x-amz-checksum-crc32c"),
    ];
    let (_, mut chain) = expect_signature(
        head(Method::Put, "/examplebucket/chunkObject.txt", "", &fields),
        PayloadMode::SignedChunksTrailer,
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    let a = vec![b'a'; 65_536];
    let signatures = [&a[..], &a[..1024], b""].map(|data| chain.sign_chunk(&hash(data)).to_string());
    assert_eq!(
        signatures,
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ]
    );
    let fields = hash(b"x-amz-checksum-crc32c:sOO8/Q==\n");
    let mut checker = chain.clone();
    let trailer = chain.sign_trailer(&fields);
    assert_eq!(trailer.to_string(), "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435");
    assert!(checker.verify_trailer(&fields, &trailer));
    assert!(!checker.verify_trailer(&hash(b"x"), &trailer));
}

fn signed(fields: &[(&str, &str)]) -> RequestHead {
    let mut head = head(Method::Put, "/b/k", "x-id=PutObject", fields);
    SIGNER.sign_header(&mut head, &PayloadMode::Unsigned, NOW);
    head
}

fn set_authorization(head: &mut RequestHead, from: &str, to: &str) {
    let value = head.headers.text("authorization").unwrap().replace(from, to);
    head.headers.set("authorization", value.as_bytes());
}

#[test]
fn any_change_to_what_was_signed_is_noticed() {
    // Method, path, query, a signed value, a removed header, the secret: each breaks the signature.
    let good = signed(&[("x-amz-meta-a", "1"), ("content-md5", "x")]);
    assert!(check(&good, NOW).is_ok());
    let mismatch = |change: &dyn Fn(&mut RequestHead)| {
        let mut head = good.clone();
        change(&mut head);
        assert_eq!(check(&head, NOW).unwrap_err(), AuthError::SignatureMismatch);
    };
    mismatch(&|head| head.method = Method::Post);
    mismatch(&|head| head.path = "/b/K".into());
    mismatch(&|head| head.query = "x-id=PutObject&acl".into());
    mismatch(&|head| head.query = "".into());
    mismatch(&|head| head.headers.set("x-amz-meta-a", b"2"));
    mismatch(&|head| head.headers.push("x-amz-meta-a", b""));
    mismatch(&|head| head.headers.remove("content-md5"));
    mismatch(&|head| head.headers.set("host", b"other"));
    mismatch(&|head| head.headers.set("x-amz-content-sha256", EMPTY_SHA256_HEX.as_bytes()));
    let error = verify(&claim(&good).unwrap(), &good, "other", NOW).unwrap_err();
    assert_eq!(error, AuthError::SignatureMismatch);
}

#[test]
fn what_must_be_signed_is_enforced() {
    // Headers that change what is done must be signed; those that do not may be added on the way.
    for (name, refused) in [
        ("x-amz-acl", true),
        ("x-amz-rdma-token", true),
        ("content-md5", true),
        ("via", false),
        ("content-type", false),
    ] {
        let mut head = signed(&[]);
        head.headers.push(name, b"v");
        assert_eq!(check(&head, NOW).err(), refused.then_some(AuthError::UnsignedHeader), "{name}");
    }
    let mut head = signed(&[]);
    set_authorization(&mut head, "SignedHeaders=host;", "SignedHeaders=");
    assert_eq!(check(&head, NOW).unwrap_err(), AuthError::UnsignedHeader);

    let mut head = head_presigned("");
    head.headers.push("content-md5", b"v");
    head.headers.push("x-amz-content-sha256", EMPTY_SHA256_HEX.as_bytes());
    assert_eq!(check(&head, NOW).unwrap().payload, body(b""));
    head.headers.push("x-amz-acl", b"public-read");
    assert_eq!(check(&head, NOW).unwrap_err(), AuthError::UnsignedHeader);
}

fn head_presigned(query: &str) -> RequestHead {
    let mut head = head(Method::Put, "/b/k", query, &[]);
    SIGNER.presign(&mut head, 60, NOW);
    head
}

#[test]
fn clocks_may_differ_by_fifteen_minutes() {
    // The bound is inclusive, on both sides.
    let head = signed(&[]);
    for (now, expected) in [
        (NOW - 900, None),
        (NOW + 900, None),
        (NOW - 901, Some(AuthError::Skew)),
        (NOW + 901, Some(AuthError::Skew)),
    ] {
        assert_eq!(check(&head, now).err(), expected, "{now}");
    }
}

#[test]
fn the_signed_body_hash_wins_over_an_unsigned_one() {
    // With a hash in the signed query, an unsigned header cannot loosen it.
    let hash = format!("X-Amz-Content-Sha256={EMPTY_SHA256_HEX}");
    let mut head = head(Method::Put, "/b/k", &hash, &[("x-amz-content-sha256", EMPTY_SHA256_HEX)]);
    SIGNER.presign(&mut head, 60, NOW);
    assert_eq!(check(&head, NOW).unwrap().payload, body(b""));
    head.headers.set("x-amz-content-sha256", b"UNSIGNED-PAYLOAD");
    assert_eq!(check(&head, NOW).unwrap_err(), AuthError::SignatureMismatch);
    let mut head = head_presigned("");
    head.query = format!("{hash}&{}", head.query).into();
    assert_eq!(claim(&head).unwrap().payload, body(b""));
}

#[test]
fn other_mechanisms_are_told_apart() {
    // Anonymous is only what does not try to authenticate; each foreign mechanism has its own error.
    let anonymous = head(Method::Get, "/b/k", "versionId=1&Signature=x", &[]);
    let payload = match authenticate(&anonymous).unwrap() {
        Authentication::Anonymous { payload } => payload,
        Authentication::Signed(_) => panic!(),
    };
    assert_eq!(payload, PayloadMode::Unsigned);
    let with =
        |value: &str| authenticate(&head(Method::Get, "/", "", &[("authorization", value)])).unwrap_err();
    assert_eq!(with("AWS AKIA:sig="), AuthError::SignatureV2);
    assert_eq!(with("AWS4-ECDSA-P256-SHA256 Credential=x"), AuthError::SignatureV4a);
    assert_eq!(with("Bearer x"), AuthError::UnsupportedAlgorithm);
    assert_eq!(with(""), AuthError::UnsupportedAlgorithm);
    let place = SignaturePlace::Header;
    assert_eq!(with("AWS4-HMAC-SHA256"), AuthError::Malformed { place });
    assert_eq!(with("AWS4-HMAC-SHA256 Credential=a,Credential=b"), AuthError::Malformed { place });
    let query = |query: &str| authenticate(&head(Method::Get, "/", query, &[])).unwrap_err();
    assert_eq!(query("AWSAccessKeyId=a&Expires=1&Signature=b"), AuthError::SignatureV2);
    assert_eq!(query("X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256"), AuthError::SignatureV4a);
    assert_eq!(query("X-Amz-Signature=x"), AuthError::QueryIncomplete);
    assert_eq!(query("X-Amz-%53ignature=x"), AuthError::QueryIncomplete);
    let mut both = signed(&[]);
    both.query = head_presigned("").query;
    assert_eq!(authenticate(&both).unwrap_err(), AuthError::MultipleMechanisms);
    let chunks = [("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")];
    let error = authenticate(&head(Method::Put, "/b/k", "", &chunks)).unwrap_err();
    assert_eq!(error, AuthError::InvalidContentSha256);
}

#[test]
fn each_malformed_part_has_its_error() {
    // Scope, date, body hash and expiry are each refused with their own error, in header and query.
    let place = SignaturePlace::Header;
    let scope = |fault| AuthError::Scope { place, fault };
    let change = |from: &str, to: &str| {
        let mut head = signed(&[]);
        set_authorization(&mut head, from, to);
        claim(&head).unwrap_err()
    };
    assert_eq!(change("/20130524/", "/20130525/"), scope(ScopeFault::Date));
    assert_eq!(change("/s3/", "/sts/"), scope(ScopeFault::Service));
    assert_eq!(change("aws4_request", "aws4"), scope(ScopeFault::Terminator));
    assert_eq!(change("AKIAIOSFODNN7EXAMPLE/", ""), scope(ScopeFault::Shape));
    assert_eq!(change("Signature=", "Signature=0"), AuthError::Malformed { place });
    assert_eq!(change("host;", "host;host;"), AuthError::Malformed { place });
    assert_eq!(change("host;", "Host;"), AuthError::Malformed { place });
    let without = |name: &str| {
        let mut head = signed(&[]);
        head.headers.remove(name);
        claim(&head).unwrap_err()
    };
    assert_eq!(without("x-amz-date"), AuthError::MissingDate);
    assert_eq!(without("x-amz-content-sha256"), AuthError::MissingContentSha256);
    let mut head = signed(&[]);
    head.headers.set("x-amz-date", b"yesterday");
    assert_eq!(claim(&head).unwrap_err(), AuthError::MalformedDate { place });

    let place = SignaturePlace::Query;
    let change = |from: &str, to: &str| {
        let mut head = head_presigned("");
        head.query = head.query.replace(from, to).into();
        claim(&head).unwrap_err()
    };
    for bad in ["0", "604801", "-1", "x", ""] {
        assert_eq!(change("Expires=60", &format!("Expires={bad}")), AuthError::BadExpires, "{bad}");
    }
    assert_eq!(change("HMAC-SHA256", "HMAC-SHA1"), AuthError::Malformed { place });
    assert_eq!(change("%2Fs3%2F", "%2Fsts%2F"), AuthError::Scope { place, fault: ScopeFault::Service });
    assert_eq!(
        change("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=61"),
        AuthError::Malformed { place }
    );
}

#[test]
fn a_path_signed_as_sent_is_accepted() {
    // A client that signs its raw path, escaped otherwise than the rule says, is served; its key is the same.
    let mut canonical = head(Method::Get, "/b/a+b%2fc", "", &[]);
    SIGNER.sign_header(&mut canonical, &body(b""), NOW);
    assert!(check(&canonical, NOW).is_ok());
    let raw = {
        let names = "host;x-amz-content-sha256;x-amz-date";
        let request = canonical::build(&canonical, canonical::PathForm::Raw, names, EMPTY_SHA256_HEX);
        let claim = claim(&canonical).unwrap();
        let text = string_to_sign(&request, claim.timestamp, &claim.scope);
        (claim.signature, SigningKey::derive(SECRET, &claim.scope).sign(&text))
    };
    set_authorization(&mut canonical, &raw.0.to_string(), &raw.1.to_string());
    assert_ne!(raw.0, raw.1);
    assert!(check(&canonical, NOW).is_ok());
    canonical.path = "/b/a+b/c".into();
    assert_eq!(check(&canonical, NOW).unwrap_err(), AuthError::SignatureMismatch);
}

#[test]
fn values_are_canonicalised_as_clients_sign_them() {
    // Spaces collapse, repeated headers join with commas, Latin-1 stands for the UTF-8 that was signed.
    let mut head = signed(&[]);
    head.headers.push("x-amz-meta-a", b"  one   two ");
    head.headers.push("x-amz-meta-a", b"caf\xe9");
    let request = canonical::build(&head, canonical::PathForm::Encoded, "x-amz-meta-a", "P");
    let text = String::from_utf8(request).unwrap();
    assert_eq!(text, "PUT\n/b/k\nx-id=PutObject\nx-amz-meta-a:one two,caf\u{e9}\n\nx-amz-meta-a\nP");
}

#[test]
fn any_region_and_a_session_token_pass() {
    // The region is the client's word; the token is handed to the caller, from header or query.
    for region in ["US", "auto", "", "\u{e9}"] {
        let signer = Signer { region, session_token: Some("to/ken+="), ..SIGNER };
        let mut signed = head(Method::Get, "/b", "", &[]);
        let mut presigned = signed.clone();
        signer.sign_header(&mut signed, &body(b""), NOW);
        signer.presign(&mut presigned, 60, NOW);
        for head in [signed, presigned] {
            let claim = claim(&head).unwrap();
            assert_eq!((&*claim.scope.region, claim.session_token.as_deref()), (region, Some("to/ken+=")));
            assert!(verify(&claim, &head, SECRET, NOW).is_ok());
        }
    }
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        path in "(/[ -~]{0,6}){1,4}",
        query in "([a-zA-Z-]{1,5}(=[a-z0-9%/+ ]{0,6})?&?){0,4}",
        meta in proptest::collection::vec(any::<u8>(), 0..12),
        now in 0u64..250_000_000_000,
    ) {
        // Any head the signer signs, either way, the verifier accepts, and no other time's.
        let mut signed = head(Method::Put, &path.replace(['?', '#'], ""), &query, &[]);
        signed.headers.push("x-amz-meta-m", &meta);
        let mut presigned = signed.clone();
        SIGNER.sign_header(&mut signed, &PayloadMode::UnsignedTrailer, now);
        prop_assert!(check(&signed, now).is_ok());
        prop_assert_eq!(check(&signed, now + 901).unwrap_err(), AuthError::Skew);
        SIGNER.presign(&mut presigned, 1, now);
        prop_assert!(check(&presigned, now).is_ok());
        prop_assert_eq!(check(&presigned, now + 2).unwrap_err(), AuthError::Expired);
    }

    #[test]
    fn no_credentials_panic(value in proptest::collection::vec(any::<u8>(), 0..60), query in ".{0,60}", cut in 0usize..400) {
        // Any bytes in place of credentials, and any cut of good ones, give an answer.
        let mut head = signed(&[]);
        let good = head.headers.first("authorization").unwrap().to_vec();
        head.headers.set("authorization", &value);
        let _ = authenticate(&head);
        head.headers.set("authorization", &[b"AWS4-HMAC-SHA256 ", &value[..]].concat());
        let _ = authenticate(&head);
        head.headers.set("authorization", &good[..cut.min(good.len())]);
        let _ = authenticate(&head);
        head.headers.remove("authorization");
        head.query = format!("X-Amz-Signature=1&X-Amz-Credential={query}&{query}").into();
        let _ = authenticate(&head);
    }
}
