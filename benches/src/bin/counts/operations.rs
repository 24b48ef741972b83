//! The operations that are counted.

use bytes::Bytes;
use crossdock::{
    CommitOptions, CoreEngine, Delete, Error, GetOptions, ListOptions, PutOptions, Which, testing::bare::Bare,
};
use crossdock_s3::protocol::{
    auth::{Authentication, PayloadMode, Signer, SigningKey, authenticate, verify_with_key},
    http::{HeadLimits, HeadParser, HeadStatus, Method, RequestHead},
};
use crossdock_transport::memory::{Arena, ArenaOptions, PagePolicy, Pool};
use std::hint::black_box;

/// Something that can be done again and again.
pub(crate) trait Operation {
    /// Does it so many times.
    fn repeat(&mut self, times: u64);
}

type Make = fn() -> Box<dyn Operation>;

/// Every operation, with how to set it up.
pub(crate) const ALL: &[(&str, Make)] = &[
    ("request-parse-and-verify", Request::make),
    ("lease-cycle", Leases::make),
    ("get-4k", || Store::make(Store::get)),
    ("put-4k", || Store::make(Store::put)),
    ("head", || Store::make(Store::head)),
    ("delete-absent", || Store::make(Store::delete)),
    ("list-1000-keys", || Store::make(Store::list)),
    ("put-64-at-once", || Store::make(Store::put_together)),
];

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW_SECONDS: u64 = 1_369_353_600;

/// A GET as boto3 sends it: its head read, its signature checked with the day's key at hand.
struct Request {
    wire: Vec<u8>,
    key: SigningKey,
}

impl Request {
    fn make() -> Box<dyn Operation> {
        let path = "/photos/2026/11/holiday%20in%20rome.jpg";
        let mut head = RequestHead::for_client(Method::Get, path, "", "127.0.0.1:9000");
        for (name, value) in [
            (
                "user-agent",
                "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11.7",
            ),
            ("accept-encoding", "identity"),
            ("x-amz-checksum-mode", "ENABLED"),
            ("amz-sdk-invocation-id", "d6c2a7f8-3f4e-4f0c-9f53-0d8a8a4d6a01"),
            ("amz-sdk-request", "attempt=1"),
        ] {
            head.headers.push(name, value.as_bytes());
        }
        let access_key = "AKIAIOSFODNN7EXAMPLE";
        let signer = Signer { access_key, secret: SECRET, region: "us-east-1", session_token: None };
        signer.sign_header(&mut head, &PayloadMode::Unsigned, NOW_SECONDS);
        let mut wire = format!("{} {} HTTP/1.1\r\n", head.method.as_str(), head.path).into_bytes();
        for (name, value) in head.headers.iter() {
            wire.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        wire.extend(b"\r\n");
        let Ok(Authentication::Signed(claim)) = authenticate(&head) else { panic!("the head is signed") };
        Box::new(Request { wire, key: SigningKey::derive(SECRET, &claim.scope) })
    }
}

impl Operation for Request {
    fn repeat(&mut self, times: u64) {
        for _ in 0..times {
            let status = HeadParser::new(HeadLimits::default()).parse(black_box(&self.wire));
            let Ok(HeadStatus::Complete(head)) = status else { panic!("the head is whole") };
            let Ok(Authentication::Signed(claim)) = authenticate(&head.head) else { panic!("it is signed") };
            assert!(verify_with_key(&claim, &head.head, &self.key, NOW_SECONDS).is_ok());
        }
    }
}

/// A lease of 4 KiB: taken, frozen, shared, given back.
struct Leases {
    pool: Pool,
}

impl Leases {
    fn make() -> Box<dyn Operation> {
        let options = ArenaOptions { bytes: 8 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
        let arena = Arena::map(&options).expect("memory can be mapped");
        Box::new(Leases { pool: arena.pool(0) })
    }
}

impl Operation for Leases {
    fn repeat(&mut self, times: u64) {
        for _ in 0..times {
            let lease = self.pool.try_acquire(4096).expect("no other lease is out");
            let frozen = black_box(lease.freeze());
            drop(black_box(frozen.clone()));
            drop(frozen);
            self.pool.drain_returns();
        }
    }
}

const OBJECT_BYTES: usize = 4096;
const OBJECTS: u64 = 2000;

/// Objects of 4 KiB in a store of one shard, on one core.
struct Store {
    bare: Bare,
    next: u64,
    work: fn(&Bare, u64),
}

impl Store {
    fn make(work: fn(&Bare, u64)) -> Box<dyn Operation> {
        let bare = Bare::open();
        let engine = bare.engine();
        bare.run(async move {
            engine.create_bucket("bench", Bytes::new()).await.expect("the store is empty");
            for number in 0..OBJECTS {
                put(&engine, number).await.expect("there is room");
            }
        });
        Box::new(Store { bare, next: 0, work })
    }

    fn get(bare: &Bare, number: u64) {
        let engine = bare.engine();
        bare.run(async move {
            let mut get = engine.get("bench", &key(number % OBJECTS), GetOptions::default()).await?;
            while let Some(chunk) = get.next().await {
                black_box(chunk?);
            }
            Ok::<(), Error>(())
        })
        .expect("it is there");
    }

    fn put(bare: &Bare, number: u64) {
        let engine = bare.engine();
        bare.run(async move { put(&engine, OBJECTS + number).await }).expect("there is room");
    }

    fn put_together(bare: &Bare, number: u64) {
        let engine = bare.engine();
        bare.run(async move {
            let core = engine.core().clone();
            let puts: Vec<_> = (0..64)
                .map(|index| {
                    let engine = engine.clone();
                    // The same keys again and again, so that the index does not grow.
                    core.spawn(async move { put(&engine, (number * 64 + index) % OBJECTS).await })
                })
                .collect();
            for put in puts {
                put.await?;
            }
            Ok::<(), Error>(())
        })
        .expect("there is room");
    }

    fn head(bare: &Bare, number: u64) {
        let engine = bare.engine();
        bare.run(async move { engine.head("bench", &key(number % OBJECTS), Which::Current).await })
            .expect("it is there");
    }

    fn delete(bare: &Bare, number: u64) {
        let engine = bare.engine();
        let absent = key(10 * OBJECTS + number);
        bare.run(async move { engine.delete("bench", Delete::current(&absent)).await })
            .expect("nothing to do");
    }

    fn list(bare: &Bare, _: u64) {
        let engine = bare.engine();
        let listing = bare.run(async move {
            let options = ListOptions { limit: 1000, ..ListOptions::default() };
            engine.list("bench", &options).await
        });
        assert_eq!(black_box(listing.expect("the bucket is there")).items.len(), 1000);
    }
}

impl Operation for Store {
    fn repeat(&mut self, times: u64) {
        for _ in 0..times {
            (self.work)(&self.bare, self.next);
            self.next += 1;
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("photos/2026/{number:010}.jpg").into_bytes()
}

/// Stores an object whose bytes are in the lease already, as if a network card had put them there.
async fn put(engine: &CoreEngine, number: u64) -> Result<(), Error> {
    let options = PutOptions { size: Some(OBJECT_BYTES as u64) };
    let mut put = engine.put("bench", &key(number), options).await?;
    let mut lease = put.buffer().await?;
    lease.set_len(OBJECT_BYTES);
    put.push(lease).await?;
    put.finish(CommitOptions::default()).await.map(drop)
}
