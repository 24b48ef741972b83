//! What embedders keep beside bytes: attributes of versions, and documents of buckets.

use super::{inspect::killed, open, reopen, some_bytes};
use bytes::Bytes;
use crossdock::{BucketChange, BucketOptions, DOCUMENTS_BYTES_MAX, Delete, Error, Versioning, Which};
use futures_lite::future::block_on;
use std::sync::Arc;

fn change(name: &str, document: Option<&'static str>, revision: Option<u64>) -> BucketChange {
    let documents = vec![(name.into(), document.map(|text| Bytes::from_static(text.as_bytes())))];
    BucketChange { documents, revision, versioning: None }
}

/// Attributes change in place, by whoever saw the newest; the bytes, the tag and the time stay, also across an open.
#[test]
fn attributes_change_and_bytes_stay() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let info = block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.set_versioning("b", Versioning::Enabled).await.unwrap();
        let older = engine.put_bytes("b", b"k", some_bytes(70_000, 1)).await.unwrap();
        engine.put_bytes("b", b"k", some_bytes(10, 2)).await.unwrap();
        let version = Which::Version(older.version);
        let set = |judged_by: Option<&'static [u8]>, to: &'static [u8]| {
            let judged_by = judged_by.map(Bytes::from_static);
            engine.set_attributes("b", b"k", version, judged_by, Bytes::from_static(to))
        };
        assert_eq!(set(None, b"one").await, Ok(older.version));
        assert_eq!(set(Some(b"none"), b"two").await, Err(Error::Changed));
        assert_eq!(set(Some(b"one"), b"two").await, Ok(older.version));
        let info = engine.head("b", b"k", version).await.unwrap();
        assert_eq!((info.etag, info.modified_ms, info.size), (older.etag, older.modified_ms, older.size));
        assert!(engine.head("b", b"k", Which::Current).await.unwrap().attributes.is_empty());
        // A delete that was judged by other attributes removes nothing.
        let delete = |attributes: &'static [u8]| Delete {
            which: version,
            attributes: Some(Bytes::from_static(attributes)),
            ..Delete::current(b"k")
        };
        assert_eq!(engine.delete("b", delete(b"one")).await, Err(Error::Changed));
        assert_eq!(set(None, &[0; 40_000]).await, Err(Error::InvalidArgument("attributes length")));
        assert_eq!(
            engine.set_attributes("b", b"x", Which::Current, None, Bytes::new()).await,
            Err(Error::NoSuchKey)
        );
        info
    });
    let left = killed(directory.path());
    engine.close();
    // The log of a process that was killed is replayed; then the checkpoint is read.
    for _ in 0..2 {
        let engine = reopen(left.path());
        block_on(async {
            let found = engine.head("b", b"k", Which::Version(info.version)).await.unwrap();
            assert_eq!((found, &info.attributes[..]), (info.clone(), &b"two"[..]));
        });
        engine.close();
    }
    let engine = reopen(left.path());
    block_on(async {
        let judged = Delete {
            which: Which::Version(info.version),
            attributes: Some(info.attributes.clone()),
            ..Delete::current(b"k")
        };
        assert_eq!(engine.delete("b", judged).await.unwrap().removed, Some(info.version));
        let marker = engine.delete("b", Delete::current(b"k")).await.unwrap().marker.unwrap();
        let set = engine.set_attributes("b", b"k", Which::Version(marker.version), None, Bytes::new());
        assert_eq!(set.await, Err(Error::DeleteMarker(marker)));
    });
    engine.close();
}

/// Documents are set and removed one by one, by whoever saw the newest revision, and survive an open.
#[test]
fn documents_of_buckets() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        let documents = Arc::new([("lock".into(), Bytes::from_static(b"on"))].into());
        let options = BucketOptions { versioning: Versioning::Enabled, documents, ..Default::default() };
        let made = engine.create_bucket_with("b", options).await.unwrap();
        assert_eq!((made.versioning, made.revision), (Versioning::Enabled, 0));
        assert_eq!(&made.documents["lock"][..], b"on");
        let first = engine.change_bucket("b", change("cors", Some("1"), Some(0))).await.unwrap();
        assert!(first.revision > 0 && first.documents.len() == 2);
        assert_eq!(engine.change_bucket("b", change("cors", None, Some(0))).await, Err(Error::Changed));
        let second = engine.change_bucket("b", change("lock", None, None)).await.unwrap();
        assert!(second.revision > first.revision && second.versioning == Versioning::Enabled);
        let large = Some(Bytes::from(vec![0; DOCUMENTS_BYTES_MAX]));
        let large = BucketChange { documents: vec![("large".into(), large)], ..BucketChange::default() };
        assert_eq!(engine.change_bucket("b", large).await, Err(Error::InvalidArgument("documents length")));
        assert_eq!(engine.change_bucket("none", BucketChange::default()).await, Err(Error::NoSuchBucket));
    });
    let left = killed(directory.path());
    engine.close();
    for _ in 0..2 {
        let engine = reopen(left.path());
        let bucket = block_on(engine.bucket("b")).unwrap();
        let names: Vec<(&str, &[u8])> = bucket.documents.iter().map(|(n, d)| (&**n, &d[..])).collect();
        assert_eq!(names, [("cors", &b"1"[..])]);
        engine.close();
    }
}
