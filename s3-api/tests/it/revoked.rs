//! Who may send a request may still when it is done: a key, a right, the time for it and what was looked at may be gone by the time that a
//! body is whole.

use crate::{
    bench::{ALICE, BOB, Bench, Client, crc32, now, pause},
    remote::Peer,
    withheld::{held_back, signed_form},
};
use base64::Engine as _;
use bytes::Bytes;
use crossdock::{CommitOptions, PutOptions};
use crossdock_s3::{
    protocol::{
        http::Method::{Delete, Get, Post, Put},
        metadata::ObjectHeaders,
        policy::{Policy, PolicyPlace},
        tagging::TagSet,
    },
    service::{
        Access, Account, Authorizer, BucketAccess, Credential, Credentials, Decision, Identity, ObjectAccess,
        Policies, Principal, Secret,
    },
};
use futures_lite::future::block_on;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

const ALL: &str = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
const READ: &str = r#"{"Statement":{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"*"}}"#;

/// The keys of one account, which come and go.
struct Keys(Mutex<HashMap<String, Credential>>);

impl Keys {
    /// Alice, the account itself, and Bob, a user of it.
    fn new(bobs: &str) -> Arc<Keys> {
        let keys = Arc::new(Keys(Mutex::default()));
        let secret = Secret::new(ALICE.1);
        let identity = Arc::new(Identity::root(ALICE.0, Account::default_account()));
        keys.all().insert(ALICE.0.into(), Credential { secret, identity });
        keys.set_bob(BOB.1, bobs);
        keys
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Credential>> {
        self.0.lock().unwrap()
    }

    fn set_bob(&self, secret: &str, policy: &str) {
        let policy = Policy::parse(policy.as_bytes(), PolicyPlace::User).unwrap();
        let identity = Identity::user(BOB.0, Account::default_account(), "bob", vec![policy]);
        let credential = Credential { secret: Secret::new(secret), identity: Arc::new(identity) };
        self.all().insert(BOB.0.into(), credential);
    }
}

impl Credentials for Keys {
    fn lookup(&self, access_key: &str) -> Option<Credential> {
        self.all().get(access_key).cloned()
    }
}

/// A request of each kind that has a body, by Bob, to a bucket where `kept` is.
fn requests(alice: &mut Client, bob: &Client) -> Vec<(&'static str, Vec<u8>)> {
    let begun = String::from_utf8(alice.call(Post, "/photos/up?uploads", &[], b"").body).unwrap();
    let upload = begun.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
    let part = alice.call(Put, &format!("/photos/up?partNumber=1&uploadId={upload}"), &[], b"part");
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").unwrap()
    );
    let (whole, second) =
        (format!("/photos/up?uploadId={upload}"), format!("/photos/up?partNumber=2&uploadId={upload}"));
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let many = b"<Delete><Object><Key>kept</Key></Object></Delete>";
    let policy = r#"{"expiration":"2999-01-01T00:00:00Z","conditions":[{"bucket":"photos"},{"key":"k"}]}"#;
    let form = signed_form(BOB, &base64::engine::general_purpose::STANDARD.encode(policy));
    let form_headers = [("content-type", "multipart/form-data; boundary=b")];
    vec![
        ("object", bob.request(Put, "/photos/k", &[], b"0123456789abcdef")),
        ("part", bob.request(Put, &second, &[], b"0123456789abcdef")),
        ("form", bob.unsigned(Post, "/photos", &form_headers, form.as_bytes())),
        ("document", bob.request(Put, "/photos/kept?tagging", &[], tags)),
        ("list of parts", bob.request(Post, &whole, &[], list.as_bytes())),
        (
            "list of keys",
            bob.request(Post, "/photos?delete", &[("x-amz-checksum-crc32", &*crc32(many))], many),
        ),
    ]
}

#[test]
fn a_key_that_is_gone_ends_nothing() {
    // It is taken away, gets another secret, or fewer rights, while the last bytes of a body are held back: nothing is stored, changed or
    // deleted. One that is the same again harms nobody.
    let keys = Keys::new(ALL);
    let bench = Bench::decided_by(keys.clone(), Arc::new(Policies::default()));
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let change = |how: &str| match how {
        "InvalidAccessKeyId" => drop(keys.all().remove(BOB.0)),
        "SignatureDoesNotMatch" => keys.set_bob("another secret", ALL),
        "AccessDenied" => keys.set_bob(BOB.1, READ),
        _ => keys.set_bob(BOB.1, ALL),
    };
    for (index, code) in
        ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", ""].iter().enumerate()
    {
        assert_eq!(alice.call(Put, "/photos/kept", &[], b"kept").status, 200);
        for (number, (what, request)) in requests(&mut alice, &bob).into_iter().enumerate() {
            // Each way of a key by one kind of body at least, and each kind of body by the first.
            if index > 0 && number % 3 != index % 3 {
                continue;
            }
            let reply = held_back(&mut bob, &request, || change(code));
            keys.set_bob(BOB.1, ALL);
            let text = String::from_utf8_lossy(&reply.body);
            // Each key of a list of keys is refused by itself, where the sender is somebody.
            let is_refused = reply.code() == **code || (what == "list of keys" && text.contains(code));
            assert!(is_refused, "{what}: {text} instead of {code}");
            if code.is_empty() {
                assert!(reply.status < 300, "{what}: {text}");
                continue;
            }
            assert!(!text.contains("<Deleted>"), "{what}: {text}");
            assert_eq!(alice.call(Get, "/photos/kept", &[], b"").body, b"kept", "{what}: {code}");
            for path in ["/photos/k", "/photos/up"] {
                assert_eq!(alice.call(Get, path, &[], b"").status, 404, "{what}: {code}");
            }
            let tags = alice.call(Get, "/photos/kept?tagging", &[], b"").body;
            assert!(!String::from_utf8_lossy(&tags).contains("<Tag>"), "{what}: {code}");
        }
    }
}

#[test]
fn the_time_for_it_is_when_it_is_done() {
    // A body that is held back until its sender's time is over is one that comes too late.
    let until = now() + 2;
    let limited = ALL.replace(
        "\"Resource\"",
        &format!("\"Condition\":{{\"DateLessThan\":{{\"aws:CurrentTime\":\"{until}\"}}}},\"Resource\""),
    );
    let keys = Keys::new(&limited);
    let bench = Bench::decided_by(keys, Arc::new(Policies::default()));
    let (mut alice, mut bob, mut other) = (bench.client(ALICE), bench.client(BOB), bench.client(ALICE));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let policy = format!(
        r#"{{"Statement":{{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::photos/*",
           "Condition":{{"NumericGreaterThanEquals":{{"aws:EpochTime":"{until}"}}}}}}}}"#
    );
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
    let (head, theirs) = (other.request(Put, "/photos/b", &[], b"0123456789"), b"6789");
    let request = bob.request(Put, "/photos/a", &[], b"0123456789abcdef");
    other.write(&head[..head.len() - theirs.len()]);
    let reply = held_back(&mut bob, &request, || {
        while now() < until {
            pause(100);
        }
    });
    assert_eq!((reply.status, reply.code()), (403, "AccessDenied".into()));
    other.write(theirs);
    let reply = other.read(false);
    assert_eq!((reply.status, reply.code()), (403, "AccessDenied".into()));
}

/// Decides as [`Policies`] do, but that nobody writes over what is tagged: a rule that no policy can say.
struct Final;

impl Authorizer for Final {
    fn decide(&self, access: &Access<'_>) -> Decision {
        match access.object {
            ObjectAccess::Unknown if access.action == "s3:PutObject" => Decision::LookAtObject,
            ObjectAccess::Present { tags, .. } if access.action == "s3:PutObject" && !tags.is_empty() => {
                Decision::Deny
            }
            _ => Policies::default().decide(access),
        }
    }

    fn depends_on_time(&self, _: &Principal, _: Option<&BucketAccess>) -> bool {
        false
    }
}

#[test]
fn what_is_written_over_was_looked_at() {
    // What a decision was made by is replaced while the last bytes of a body are held back.
    let bench = Bench::decided_by(Keys::new(ALL), Arc::new(Final));
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let request = bob.request(Put, "/photos/k", &[], b"0123456789abcdef");
    let reply = held_back(&mut bob, &request, || {
        assert_eq!(alice.call(Put, "/photos/k", &[("x-amz-tagging", "state=final")], b"final").status, 200);
    });
    assert_eq!((reply.status, reply.code()), (403, "AccessDenied".into()));
    assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"final");
}

/// Something to be done, and how many decisions are made before.
type Act = (usize, Box<dyn FnOnce() + Send>);

/// Decides as [`Policies`] do, has something done right behind a decision, and closes for good.
#[derive(Default)]
pub(crate) struct Behind {
    act: Mutex<Option<Act>>,
    is_closed: AtomicBool,
    /// Whether nobody deletes what is tagged: a rule that no policy can say.
    looks: AtomicBool,
}

impl Behind {
    /// Has it done behind the next decision but so many.
    pub(crate) fn act(&self, but: usize, act: impl FnOnce() + Send + 'static) {
        *self.act.lock().unwrap() = Some((but, Box::new(act)));
    }
}

impl Authorizer for Behind {
    fn decide(&self, access: &Access<'_>) -> Decision {
        if self.is_closed.load(Ordering::SeqCst) {
            return Decision::Deny;
        }
        let looks = access.action == "s3:DeleteObject" && self.looks.load(Ordering::SeqCst);
        let decision = match access.object {
            ObjectAccess::Unknown if looks => Decision::LookAtObject,
            ObjectAccess::Present { tags, .. } if looks && !tags.is_empty() => Decision::Deny,
            _ => Policies::default().decide(access),
        };
        let due = match &mut *self.act.lock().unwrap() {
            Some((but @ 1.., _)) => {
                *but -= 1;
                None
            }
            act => act.take(),
        };
        if let Some((_, act)) = due {
            act();
        }
        decision
    }
}

#[test]
fn a_transfer_is_decided_about_when_its_bytes_are_there() {
    // Over a transport bytes are not held back, but fetched. A key that is gone by then, that belongs to another, or that may not any more
    // stores none of them either.
    let keys = Keys::new(ALL);
    let behind = Arc::new(Behind::default());
    let bench = Bench::decided_by(keys.clone(), behind.clone());
    let (mut peer, mut bob) = (Peer::new(&bench), bench.client(BOB));
    assert_eq!(bob.call(Put, "/photos", &[], b"").status, 200);
    let begun = String::from_utf8(bob.call(Post, "/photos/up?uploads", &[], b"").body).unwrap();
    let upload = begun.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
    let part = format!("/photos/up?partNumber=1&uploadId={upload}");
    let alice = keys.all().get(ALICE.0).unwrap().clone();
    let policy = Policy::parse(ALL.as_bytes(), PolicyPlace::User).unwrap();
    let user = Identity::user(ALICE.0, Account::default_account(), "alice", vec![policy]);
    let user = Credential { identity: Arc::new(user), ..alice.clone() };
    for path in ["/photos/k", &*part] {
        for (now, status, code) in [
            (None, 403, "InvalidAccessKeyId"),
            (Some(&user), 409, "OperationAborted"),
            (Some(&alice), 200, ""),
        ] {
            let (theirs, now) = (keys.clone(), now.cloned());
            let act = move || match now {
                Some(now) => drop(theirs.all().insert(ALICE.0.into(), now)),
                None => drop(theirs.all().remove(ALICE.0)),
            };
            behind.act(0, act);
            let reply = peer.put(path, &[7; 100_000], &[]);
            assert_eq!((reply.status, reply.code()), (status, code.into()), "{path}");
            keys.all().insert(ALICE.0.into(), alice.clone());
        }
        let theirs = behind.clone();
        let act = move || theirs.is_closed.store(true, Ordering::SeqCst);
        behind.act(0, act);
        let reply = peer.put(path, &[8; 100_000], &[]);
        assert_eq!((reply.status, reply.code()), (403, "AccessDenied".into()), "{path}");
        behind.is_closed.store(false, Ordering::SeqCst);
    }
    assert_eq!(bob.call(Get, "/photos/k", &[], b"").body, [7; 100_000]);
}

#[test]
fn what_is_deleted_is_what_was_looked_at() {
    // Right behind the decision about an object, or about none, one takes its place that may not be deleted.
    let behind = Arc::new(Behind::default());
    let bench = Bench::decided_by(Keys::new(ALL), behind.clone());
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    behind.looks.store(true, Ordering::SeqCst);
    // It comes from the core that the connection is not on.
    let (told, core) = mpsc::channel();
    behind.act(0, move || told.send(std::thread::current().id()).unwrap());
    assert_eq!(alice.call(Get, "/photos", &[], b"").status, 200);
    let (engine, ours) = (bench.engine().clone(), core.recv().unwrap());
    let thread_of = |core| block_on(engine.on_core(core, |_| async { std::thread::current().id() })).unwrap();
    let is_beside =
        |key: &String| thread_of(engine.core_of(engine.shard_of("photos", key.as_bytes()))) != ours;
    let keys: Vec<String> = (0..).map(|number| format!("k{number}")).filter(is_beside).take(2).collect();
    for (key, is_there) in keys.into_iter().zip([true, false]) {
        let path = format!("/photos/{key}");
        if is_there {
            assert_eq!(alice.call(Put, &path, &[], b"first").status, 200);
        }
        let engine = engine.clone();
        behind.act(1, move || {
            let tags = TagSet { tags: vec![("state".into(), "final".into())] };
            let attributes = ObjectHeaders { tags, ..ObjectHeaders::default() }.encode().into();
            let write = async {
                let mut put = engine.put("photos", key.as_bytes(), PutOptions::default()).await?;
                put.write(Bytes::from_static(b"kept")).await?;
                put.finish(CommitOptions { attributes, ..CommitOptions::default() }).await
            };
            block_on(write).unwrap();
        });
        let reply = alice.call(Delete, &path, &[], b"");
        assert_eq!((reply.status, reply.code()), (403, "AccessDenied".into()), "{is_there}");
        assert_eq!(alice.call(Get, &path, &[], b"").body, b"kept", "{is_there}");
    }
}
