//! Who sends a request, and that it is decided about alike whichever way its bytes go.

use crate::bench::{ALICE, BOB, Bench, CAROL};
use crossdock_s3::protocol::http::Method::{Get, Post, Put};
use crossdock_transport::{
    remote::{Access, SessionId},
    token::ShmToken,
};

#[test]
fn temporary_credentials_are_refused_and_said_to_be() {
    // A token in a header, in a presigned address, in a form; and the service that would give them out, asked as its clients
    // do. None is waved through, and none is told something that leads nowhere.
    let bench = Bench::of_strangers();
    let mut alice = bench.client(ALICE);
    let token = [("x-amz-security-token", "FwoGZXIvYXdzE")];
    let refused = alice.call(Get, "/photos/k", &token, b"");
    assert_eq!((refused.status, refused.code()), (400, "InvalidToken".into()));
    assert!(String::from_utf8_lossy(&refused.body).contains("temporary credentials"));
    let request = String::from_utf8(alice.presigned(Get, "/photos/k", 1)).unwrap();
    let request = request.replacen("X-Amz-Signature=", "X-Amz-Security-Token=abc&X-Amz-Signature=", 1);
    assert_eq!(alice.send(request.as_bytes()).code(), "InvalidToken");
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let ask = b"Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::1:role/r&RoleSessionName=s";
    for request in [
        alice.unsigned(Post, "/", &form, ask),
        alice.request(Post, "/", &form, ask),
        alice.unsigned(Get, "/?Action=GetCallerIdentity&Version=2011-06-15", &[], b""),
    ] {
        let reply = alice.send(&request);
        assert_eq!((reply.status, reply.code()), (501, "NotImplemented".into()));
        assert!(String::from_utf8_lossy(&reply.body).contains("Security Token Service"));
    }
}

#[test]
fn any_region_is_taken_where_none_is_set() {
    // As clients have one in their environment: they sign for it and ask for buckets in it. A signature for one holds for no other.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    for (index, region) in ["us-east-1", "eu-west-1", "US", "auto", "garage"].into_iter().enumerate() {
        alice.region = region;
        let bucket = format!("/photos-{index}");
        let wanted = format!(
            "<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        );
        assert_eq!(alice.call(Put, &bucket, &[], wanted.as_bytes()).status, 200, "{region}");
        assert_eq!(alice.call(Put, &format!("{bucket}/k"), &[], region.as_bytes()).status, 200, "{region}");
        let read = alice.presigned(Get, &format!("{bucket}/k"), 1);
        assert_eq!(alice.send(&read).body, region.as_bytes());
        let location = alice.call(Get, &format!("{bucket}?location"), &[], b"");
        assert!(!String::from_utf8_lossy(&location.body).contains(region), "{region}");
        let request = String::from_utf8(alice.request(Get, &format!("{bucket}/k"), &[], b"")).unwrap();
        let moved = request.replacen(&format!("/{region}/s3/"), "/eu-west-3/s3/", 1);
        assert_eq!(alice.send(moved.as_bytes()).code(), "SignatureDoesNotMatch", "{region}");
    }
}

#[test]
fn the_region_that_is_set_is_the_only_one() {
    // Another is refused, with the one that is right, as clients that ask again want it told; in a header, and where a bucket is wanted.
    let bench = Bench::set(|service| service.region = Some("eu-west-1".into()));
    let mut alice = bench.client(ALICE);
    let refused = alice.call(Get, "/", &[], b"");
    assert_eq!((refused.status, refused.code()), (400, "AuthorizationHeaderMalformed".into()));
    assert!(String::from_utf8_lossy(&refused.body).contains("<Region>eu-west-1</Region>"));
    let presigned = alice.presigned(Get, "/photos/k", 1);
    assert_eq!(alice.send(&presigned).status, 400);
    alice.region = "eu-west-1";
    let wanted = |region: &str| {
        format!(
            "<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
    };
    let elsewhere = alice.call(Put, "/photos", &[], wanted("eu-west-3").as_bytes());
    assert_eq!(elsewhere.code(), "IllegalLocationConstraintException");
    assert_eq!(alice.call(Put, "/photos", &[], wanted("EU").as_bytes()).status, 200);
    let location = alice.call(Get, "/photos?location", &[], b"");
    assert!(String::from_utf8_lossy(&location.body).contains("eu-west-1"));
}

#[test]
fn who_may_not_is_refused_alike_whichever_way_the_bytes_go() {
    // With a body, with a token of a client's memory, without a signature, by policy: the same status and the same code, and
    // the memory stays as it was. Nobody is asked for a session first.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let mut carol = bench.client(CAROL);
    assert_eq!(alice.call(Put, "/photos/k", &[], b"secret").status, 200);
    let (memory, session) = bench.memory(1 << 20);
    let slice = memory.expose(0..4096, Access::Write).unwrap();
    let session = SessionId::from_bytes(session);
    let token = ShmToken::new(session, slice.address(), slice.bytes()).unwrap().to_string();
    let token = [("x-amz-rdma-token", token.as_str())];
    memory.store(0, &[0xa5; 4096]);
    for path in ["/photos/k", "/photos/absent", "/nowhere/k"] {
        for client in [&mut bob, &mut carol] {
            for method in [Get, Put] {
                let plain = client.call(method, path, &[], b"");
                let moved = client.call(method, path, &token, b"");
                if plain.status < 300 {
                    continue;
                }
                assert_eq!((moved.status, moved.code()), (plain.status, plain.code()), "{method:?} {path}");
            }
        }
        let request = alice.unsigned(Get, path, &token, b"");
        let unsigned = alice.send(&request);
        let request = alice.unsigned(Get, path, &[], b"");
        let plain = alice.send(&request);
        assert_eq!((unsigned.status, unsigned.code()), (plain.status, plain.code()), "{path}");
    }
    let mut found = vec![0; 4096];
    memory.load(0, &mut found);
    assert!(found.iter().all(|byte| *byte == 0xa5));
}
