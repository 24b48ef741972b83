//! What is decided holds for what is done: with bodies that are held back, and with objects that are replaced in between.
//!
//! | the hole | the test that it is none here |
//! |---|---|
//! | a delete is judged when its head comes, by a bucket that had no locks then | `a_delete_is_judged_when_it_is_whole` |
//! | a list is given to another object than the one that was looked at | `a_list_is_given_to_what_was_looked_at` |
//! | a right lasts as long as a body can be held back | `a_right_is_asked_for_when_the_body_is_there` |
//! | a body is held back until its bucket keeps for good what it stores | `a_slow_write_is_kept_as_its_bucket_says` |
//! | the object that is decided about is not the one that is read, copied or changed | `what_is_done_is_done_to_what_was_decided_about` |
//! | who may know that nothing is there is given what comes there | `what_comes_later_was_not_decided_about` |
//! | a GET into memory that is decided anew is taken for its own replay | `what_is_decided_anew_is_no_replay` |

use crate::bench::{ALICE, BOB, Bench, Client, Strangers, checked, crc32, hear, pause};
use bytes::Bytes;
use crossdock::{CommitOptions, Engine, PutOptions};
use crossdock_s3::{
    protocol::{http::Method, metadata::ObjectHeaders, remote::format_session, tagging::TagSet},
    service::{Access, Authorizer, Decision, ObjectAccess, Policies},
};
use crossdock_transport::{
    remote::{Access as MemoryAccess, SessionId},
    shm::Event,
    token::ShmToken,
};
use futures_lite::future::block_on;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use Method::{Get, Head, Post, Put};

const LOCKS: &str =
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
const KEPT_FOR_A_DAY: &str = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
    <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
const VERSIONED: &[u8] = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";

/// Sends a request but for the last bytes of its body, has `meanwhile` done once the server has had time to read it, and sends
/// the rest.
pub(crate) fn held_back(
    client: &mut Client,
    request: &[u8],
    meanwhile: impl FnOnce(),
) -> crate::bench::Reply {
    let (most, rest) = request.split_at(request.len() - 10);
    client.write(most);
    pause(300);
    meanwhile();
    client.write(rest);
    client.read(false)
}

#[test]
fn a_delete_is_judged_when_it_is_whole() {
    // A bucket without locks gets some, and the version a period, while the last bytes of a DeleteObjects are held back.
    let bench = Bench::new();
    let (mut alice, mut other) = (bench.client(ALICE), bench.client(ALICE));
    assert_eq!(alice.call(Put, "/bin1", &[], b"").status, 200);
    assert_eq!(alice.call(Put, "/bin1?versioning", &[], VERSIONED).status, 200);
    let put = alice.call(Put, "/bin1/k", &[], b"kept");
    let version = put.header("x-amz-version-id").unwrap().to_owned();
    let document = format!("<Delete><Object><Key>k</Key><VersionId>{version}</VersionId></Object></Delete>")
        .into_bytes();
    let sum = crc32(&document);
    let request = other.request(Post, "/bin1?delete", &[("x-amz-checksum-crc32", &*sum)], &document);
    let reply = held_back(&mut other, &request, || {
        assert_eq!(checked(&mut alice, Put, "/bin1?object-lock", LOCKS.as_bytes()).status, 200);
        let kept = b"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2999-01-01T00:00:00Z</RetainUntilDate></Retention>";
        assert_eq!(checked(&mut alice, Put, "/bin1/k?retention", kept).status, 200);
    });
    let text = String::from_utf8_lossy(&reply.body);
    assert!(text.contains("<Code>AccessDenied</Code>") && !text.contains("<Deleted>"), "{text}");
    assert_eq!(alice.call(Get, &format!("/bin1/k?versionId={version}"), &[], b"").body, b"kept");
}

#[test]
fn a_list_is_given_to_what_was_looked_at() {
    // Bob owns an object and begins to give it a list. Alice deletes it and writes her own in its place. Then Bob's list comes to
    // its end, and gives him what is hers.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/shared", &[("x-amz-acl", "public-read-write")], b"").status, 200);
    assert_eq!(bob.call(Put, "/shared/k", &[], b"bob's").status, 200);
    let grants = "<AccessControlPolicy><Owner><ID>account-a</ID></Owner><AccessControlList><Grant>\
        <Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>account-b</ID></Grantee>\
        <Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>";
    let request = bob.request(Put, "/shared/k?acl", &[], grants.as_bytes());
    let reply = held_back(&mut bob, &request, || {
        assert_eq!(alice.call(Method::Delete, "/shared/k", &[], b"").status, 204);
        assert_eq!(alice.call(Put, "/shared/k", &[], b"private").status, 200);
    });
    assert_eq!((reply.status, reply.code()), (403, "AccessDenied".into()));
    assert_eq!(bob.call(Get, "/shared/k", &[], b"").code(), "AccessDenied");
}

/// A policy of a bucket that allows everybody `action` on its objects.
fn allow(alice: &mut Client, bucket: &str, actions: &str, condition: &str) {
    let policy = format!(
        "{{\"Statement\":{{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":[{actions}],\
         \"Resource\":\"arn:aws:s3:::{bucket}/*\",\"Condition\":{{{condition}}}}}}}"
    );
    let reply = alice.call(Put, &format!("/{bucket}?policy"), &[], policy.as_bytes());
    assert_eq!(reply.status, 204, "{}", String::from_utf8_lossy(&reply.body));
}

#[test]
fn a_right_is_asked_for_when_the_body_is_there() {
    // The policy that allowed it is gone by the time the body is whole: of a document, an object, a part and a form.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    assert_eq!(alice.call(Put, "/photos/k", &[], b"private").status, 200);
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let form = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nposted\r\n--b\r\nContent-Disposition: form-data; \
                name=\"file\"\r\n\r\ncontent\r\n--b--\r\n";
    let form_headers = [("content-type", "multipart/form-data; boundary=b")];
    for what in ["document", "object", "part", "form"] {
        allow(&mut alice, "photos", "\"s3:PutObject\",\"s3:PutObjectTagging\"", "");
        let begun = bob.call(Post, "/photos/up?uploads", &[], b"");
        let text = String::from_utf8(begun.body).unwrap();
        let upload = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
        let part = format!("/photos/up?partNumber=1&uploadId={upload}");
        let request = match what {
            "document" => bob.request(Put, "/photos/k?tagging", &[], tags),
            "object" => bob.request(Put, "/photos/new", &[], b"0123456789abcdef"),
            "part" => bob.request(Put, &part, &[], b"0123456789abcdef"),
            _ => bob.unsigned(Post, "/photos", &form_headers, form.as_bytes()),
        };
        let reply = held_back(&mut bob, &request, || {
            assert_eq!(alice.call(Method::Delete, "/photos?policy", &[], b"").status, 204);
        });
        assert_eq!((reply.status, reply.code()), (403, "AccessDenied".into()), "{what}");
    }
    let kept = alice.call(Get, "/photos/k?tagging", &[], b"").body;
    assert!(!String::from_utf8_lossy(&kept).contains("<Tag>"));
    let listed = alice.call(Get, "/photos", &[], b"").body;
    assert_eq!(String::from_utf8_lossy(&listed).matches("<Key>").count(), 1);
}

#[test]
fn a_slow_write_is_kept_as_its_bucket_says() {
    // A bucket comes to keep everything for a day while the last bytes of an object, and of the list of an upload's parts, are
    // held back.
    let bench = Bench::new();
    let (mut alice, mut other) = (bench.client(ALICE), bench.client(ALICE));
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    for (bucket, what) in [("vault1", "object"), ("vault2", "form"), ("vault3", "upload")] {
        assert_eq!(alice.call(Put, &format!("/{bucket}"), &lock, b"").status, 200);
        let path = format!("/{bucket}/k");
        let request = match what {
            "object" => other.request(Put, &path, &[], b"0123456789abcdef"),
            "form" => {
                // {"expiration":"2999-01-01T00:00:00Z","conditions":[{"bucket":"vault2"},["starts-with","$key","k"]]}
                let form = signed_form(
                    ALICE,
                    "eyJleHBpcmF0aW9uIjoiMjk5OS0wMS0wMVQwMDowMDowMFoiLCJjb25kaXRpb25zIjpbeyJidWNrZXQiOiJ2YXVsdDIifSxbInN0YXJ0cy13aXRoIiwiJGtleSIsImsiXV19",
                );
                let headers = [("content-type", "multipart/form-data; boundary=b")];
                other.unsigned(Post, &format!("/{bucket}"), &headers, form.as_bytes())
            }
            _ => {
                let begun = alice.call(Post, &format!("{path}?uploads"), &[], b"");
                let text = String::from_utf8(begun.body).unwrap();
                let upload = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
                let part = alice.call(Put, &format!("{path}?partNumber=1&uploadId={upload}"), &[], b"part");
                let list = format!(
                    "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
                    part.header("etag").unwrap()
                );
                other.request(Post, &format!("{path}?uploadId={upload}"), &[], list.as_bytes())
            }
        };
        let reply = held_back(&mut other, &request, || {
            let set = checked(&mut alice, Put, &format!("/{bucket}?object-lock"), KEPT_FOR_A_DAY.as_bytes());
            assert_eq!(set.status, 200);
        });
        assert!(reply.status < 300, "{what}: {} {}", reply.status, reply.code());
        let kept = alice.call(Get, &format!("{path}?retention"), &[], b"");
        let text = String::from_utf8_lossy(&kept.body);
        assert!(text.contains("<Mode>COMPLIANCE</Mode>"), "{what}: {text}");
    }
}

/// A form under this policy, signed with this key.
pub(crate) fn signed_form((key, secret): (&str, &str), policy: &str) -> String {
    use base64::Engine as _;
    use hmac::{Hmac, KeyInit, Mac};
    let mac = Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).unwrap().chain_update(policy).finalize();
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.into_bytes());
    let mut text = String::new();
    for (name, value) in [
        ("AWSAccessKeyId", key),
        ("policy", policy),
        ("signature", &signature),
        ("key", "k"),
        ("file", "0123456789abcdef"),
    ] {
        text += &format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    text + "--b--\r\n"
}

/// Decides as [`Policies`] do, and has something done right behind the first decision that was made by an object.
struct Meanwhile {
    policies: Policies,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Where it is told that it was done, when that was not waited for.
    late: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Meanwhile {
    /// Waits until what was to be done is done.
    fn settle(&self) {
        if let Some(late) = self.late.lock().unwrap().take() {
            late.recv_timeout(Duration::from_secs(30)).unwrap();
        }
    }
}

impl Authorizer for Meanwhile {
    #[allow(clippy::disallowed_methods, reason = "what is done meanwhile is done by somebody else")]
    fn decide(&self, access: &Access<'_>) -> Decision {
        let decision = self.policies.decide(access);
        let looked = !matches!(access.object, ObjectAccess::Unknown);
        if let Some(act) = self.act.lock().unwrap().take_if(|_| looked) {
            let (done, wait) = mpsc::channel();
            std::thread::spawn(move || {
                act();
                done.send(()).ok();
            });
            // What needs this very core is done behind the decision, soon enough or not: the keys of a test are on both.
            if wait.recv_timeout(Duration::from_millis(300)).is_err() {
                *self.late.lock().unwrap() = Some(wait);
            }
        }
        decision
    }
}

/// Bob may do this to Alice's objects that are tagged `open=yes`.
struct Swapped {
    bench: Bench,
    meanwhile: Arc<Meanwhile>,
    /// One on each core.
    keys: [String; 2],
}

impl Swapped {
    fn new(actions: &str) -> Swapped {
        let (policies, act, late) = (Policies::default(), Mutex::new(None), Mutex::new(None));
        let meanwhile = Arc::new(Meanwhile { policies, act, late });
        let bench = Bench::decided_by(Arc::new(Strangers), meanwhile.clone());
        let mut alice = bench.client(ALICE);
        let owned = [("x-amz-object-ownership", "BucketOwnerEnforced")];
        assert_eq!(alice.call(Put, "/photos", &owned, b"").status, 200);
        allow(&mut alice, "photos", actions, "\"StringEquals\":{\"s3:ExistingObjectTag/open\":\"yes\"}");
        assert_eq!(bench.client(BOB).call(Put, "/mine", &owned, b"").status, 200);
        let engine = bench.engine();
        let on = |core| {
            let mut names = (0..).map(|number| format!("k{number}"));
            names.find(|key| engine.core_of(engine.shard_of("photos", key.as_bytes())) == core).unwrap()
        };
        let keys = [on(0), on(1)];
        Swapped { bench, meanwhile, keys }
    }

    /// Has Alice's open object replaced by one that is not, once it was decided by the first.
    fn swap(&self, key: &str) {
        self.swap_for(key, b"secret", "no");
    }

    /// The same with an object that is open, or is not.
    fn swap_for(&self, key: &str, bytes: &'static [u8], open: &'static str) {
        let engine = self.bench.engine().clone();
        write(&engine, key, b"open", "yes");
        let key = key.to_owned();
        let act = move || write(&engine, &key, bytes, open);
        *self.meanwhile.act.lock().unwrap() = Some(Box::new(act));
    }
}

/// Puts an object in the place of whatever is there.
fn write(engine: &Engine, key: &str, bytes: &'static [u8], open: &str) {
    let tags = TagSet { tags: vec![("open".into(), open.into())] };
    let attributes = Bytes::from(ObjectHeaders { tags, ..ObjectHeaders::default() }.encode());
    let options = CommitOptions { attributes, ..CommitOptions::default() };
    block_on(async {
        let size = Some(bytes.len() as u64);
        let mut put = engine.put("photos", key.as_bytes(), PutOptions { size }).await.unwrap();
        put.write(Bytes::from_static(bytes)).await.unwrap();
        put.finish(options).await.unwrap();
    });
}

#[test]
fn what_is_done_is_done_to_what_was_decided_about() {
    // An object that may be read is replaced by one that may not right behind the decision: nobody reads, copies or tags the second.
    let actions = "\"s3:GetObject\",\"s3:GetObjectAttributes\",\"s3:GetObjectTagging\",\"s3:PutObjectTagging\",\"s3:PutObject\"";
    let swapped = Swapped::new(actions);
    let mut bob = swapped.bench.client(BOB);
    for key in &swapped.keys {
        let path = format!("/photos/{key}");
        let source = [("x-amz-copy-source", &*path), ("x-amz-tagging-directive", "REPLACE")];
        let tags = b"<Tagging><TagSet><Tag><Key>open</Key><Value>yes</Value></Tag></TagSet></Tagging>";
        let attributes = [("x-amz-object-attributes", "ObjectSize")];
        for (method, of, headers, body) in [
            (Get, path.clone(), &[][..], &b""[..]),
            (Head, path.clone(), &[], b""),
            (Get, format!("{path}?attributes"), &attributes, b""),
            (Get, format!("{path}?tagging"), &[], b""),
            (Put, "/mine/copy".to_owned(), &source, b""),
            (Put, format!("{path}?tagging"), &[], tags),
        ] {
            swapped.swap(key);
            let request = bob.request(method, &of, headers, body);
            let reply = bob.send(&request);
            let text = String::from_utf8_lossy(&reply.body);
            assert!(!text.contains("secret") && !text.contains("<Value>no</Value>"), "{of}: {text}");
            assert!(!text.contains("<ObjectSize>6<"), "{of}: {text}");
            assert_ne!((reply.status, reply.header("content-length")), (200, Some("6")), "{of}");
            // Whatever it was, what is there now is still Alice's own, and as she wrote it.
            swapped.meanwhile.settle();
            assert_eq!(bob.call(Get, &path, &[], b"").code(), "AccessDenied", "{of}");
        }
        let copy = bob.call(Get, "/mine/copy", &[], b"");
        assert_ne!(copy.body, b"secret");
    }
}

#[test]
fn what_comes_later_was_not_decided_about() {
    // Bob may list, and so may know that nothing is there. What comes right behind that is not his to read.
    let swapped = Swapped::new("\"s3:GetObject\",\"s3:GetObjectTagging\"");
    let (mut alice, mut bob) = (swapped.bench.client(ALICE), swapped.bench.client(BOB));
    let policy = "{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"s3:ListBucket\",\"Resource\":\"arn:aws:s3:::photos\"}}";
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
    for key in &swapped.keys {
        let path = format!("/photos/{key}");
        for of in [path.clone(), format!("{path}?tagging")] {
            assert_eq!(alice.call(Method::Delete, &path, &[], b"").status, 204);
            let (engine, name) = (swapped.bench.engine().clone(), key.clone());
            let act = move || write(&engine, &name, b"secret", "no");
            *swapped.meanwhile.act.lock().unwrap() = Some(Box::new(act));
            let reply = bob.call(Get, &of, &[], b"");
            assert_eq!((reply.status, reply.code()), (404, "NoSuchKey".into()), "{of}");
            swapped.meanwhile.settle();
        }
    }
}

#[test]
fn what_is_decided_anew_is_no_replay() {
    // The object is replaced by another that may be read right behind the decision. Of a GET into memory nothing had moved by then: it
    // is decided anew, and goes there.
    let swapped = Swapped::new("\"s3:GetObject\"");
    let (memory, session) = swapped.bench.memory(4096);
    let mut bob = swapped.bench.client(BOB);
    let name = [("x-amz-rdma-session", &*format_session(session))];
    assert_eq!(bob.call(Post, "/.crossdock-shm/bind", &name, b"").status, 200);
    // Which core does what is chance: in some of these the second is there in time.
    let mut is_anew = false;
    for round in 0..20 {
        let key = &swapped.keys[round % 2];
        let slice = memory.expose(0..4096, MemoryAccess::Write).unwrap();
        let id = SessionId::from_bytes(session);
        let token = ShmToken::new(id, slice.address(), slice.bytes()).unwrap().to_string();
        swapped.swap_for(key, b"opened", "yes");
        let reply = bob.call(Get, &format!("/photos/{key}"), &[("x-amz-rdma-token", &token)], b"");
        assert_eq!((reply.status, reply.header("x-amz-rdma-reply")), (200, Some("200")), "{key}");
        is_anew |= reply.header("x-amz-rdma-bytes-transferred") == Some("6");
        swapped.meanwhile.settle();
        memory.withdraw(&slice).unwrap();
        assert!(matches!(hear(&memory), Event::Withdrawn(_)));
        if is_anew && round > 1 {
            return;
        }
    }
    panic!("none was replaced in time");
}
