//! What embedders keep beside bytes: attributes of versions, and documents of buckets.

use super::{inspect::killed, open, reopen, some_bytes};
use bytes::Bytes;
use crossdock::{
    AttributesChange, BucketChange, BucketOptions, BucketRevision, CommitOptions, CompleteOptions,
    CoreEngine, DOCUMENTS_BYTES_MAX, Delete, Error, GetOptions, NamedPart, PutOptions, UploadOptions,
    Versioning, Which,
};
use futures_lite::future::block_on;
use std::sync::Arc;

fn change(name: &str, document: Option<&'static str>, revision: Option<u64>) -> BucketChange {
    let documents = vec![(name.into(), document.map(|text| Bytes::from_static(text.as_bytes())))];
    BucketChange { documents, revision, ..BucketChange::default() }
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

/// What was decided by a bucket as it was is not committed once it was changed, or once another has its name: objects, parts, copies with
/// and without their bytes, completions, uploads begun and given up, deletes, attributes. What was decided by the change is; and a change
/// that is meant for one is not made of the other.
#[test]
fn a_commit_is_of_the_bucket_that_was_decided_by() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        let by = |decided_by: BucketRevision| CommitOptions {
            decided_by: Some(decided_by),
            ..CommitOptions::default()
        };
        let first = engine.create_bucket("b", Bytes::new()).await.unwrap().as_of();
        engine.put_bytes("b", b"large", some_bytes(300_000, 1)).await.unwrap();
        engine.put_bytes("b", b"small", some_bytes(10, 2)).await.unwrap();
        let mut upload = engine.create_upload("b", b"up", Bytes::new()).await.unwrap().upload;
        let put = async |key: u8, options| {
            let mut put = engine.put("b", &[key], PutOptions::default()).await?;
            put.write(some_bytes(70_000, key.into())).await?;
            put.finish(options).await.map(drop)
        };
        let put_part = async |upload, options| {
            let mut put = engine.put_part("b", b"up", upload, 1, PutOptions::default()).await?;
            put.write(some_bytes(70_000, 3)).await?;
            put.finish_part(options).await.map(drop)
        };
        let copy = async |from: &[u8], to: u8, options| {
            engine.copy(("b", from, GetOptions::default()), ("b", &[to]), options).await.map(drop)
        };
        let copy_part = async |from: &[u8], upload, options| {
            let to = ("b", &b"up"[..], upload, 1);
            engine.copy_part(("b", from, GetOptions::default()), to, options).await.map(drop)
        };
        let complete = async |upload, decided_by| {
            let options = CompleteOptions { decided_by: Some(decided_by), ..CompleteOptions::default() };
            let parts = vec![NamedPart { number: 1, etag: None }];
            engine.complete_upload("b", b"up", upload, parts, options).await.map(drop)
        };
        let set = async |key: u8, decided_by: BucketRevision| {
            let change = AttributesChange { decided_by: Some(decided_by), ..AttributesChange::default() };
            engine.set_attributes_with("b", &[key], Which::Current, change).await.map(drop)
        };
        let delete = async |key: u8, decided_by| {
            let delete = Delete { decided_by: Some(decided_by), ..Delete::current(&[key]) };
            let alone = engine.delete("b", delete.clone()).await;
            let among = engine.delete_many("b", vec![delete]).await.unwrap().remove(0);
            assert_eq!(alone.clone().err(), among.err());
            alone.map(|deleted| deleted.removed.is_some())
        };
        let begin = async |key: u8, decided_by| {
            let options = UploadOptions { decided_by: Some(decided_by), ..UploadOptions::default() };
            engine.create_upload_with("b", &[key], options).await.map(|begun| begun.upload)
        };
        let abort = async |key: u8, upload, decided_by| {
            let core = engine.core_of(engine.shard_of("b", &[key]));
            let work = move |engine: CoreEngine| async move {
                engine.abort_upload_decided("b", &[key], upload, Some(decided_by)).await
            };
            engine.on_core(core, work).await?
        };
        let completed = async |upload| {
            let work =
                move |engine: CoreEngine| async move { engine.completed_upload("b", b"up", upload).await };
            engine.on_core(0, work).await?
        };
        for round in 0..2 {
            let now = match round {
                0 => engine.change_bucket("b", change("policy", Some("1"), None)).await.unwrap().as_of(),
                _ => {
                    // Of the same name, and as little changed as the first was.
                    for key in [b"large".to_vec(), b"small".to_vec(), b"up".to_vec()]
                        .into_iter()
                        .chain((0..8).map(|key| vec![key]))
                    {
                        engine.delete("b", Delete::current(&key)).await.unwrap();
                    }
                    engine.delete_bucket("b").await.unwrap();
                    let made = engine.create_bucket("b", Bytes::new()).await.unwrap().as_of();
                    engine.put_bytes("b", b"large", some_bytes(300_000, 1)).await.unwrap();
                    engine.put_bytes("b", b"small", some_bytes(10, 2)).await.unwrap();
                    upload = engine.create_upload("b", b"up", Bytes::new()).await.unwrap().upload;
                    assert!(made.revision == first.revision && made.bucket != first.bucket);
                    made
                }
            };
            assert_eq!(completed(upload).await, Err(Error::NoSuchUpload));
            // On every shard: keys are spread.
            for key in 0..8 {
                assert_eq!(put(key, by(first)).await, Err(Error::Changed));
                assert_eq!(put(key, by(now)).await, Ok(()));
                assert_eq!(set(key, first).await, Err(Error::Changed));
                assert_eq!(set(key, now).await, Ok(()));
                assert_eq!(delete(key, first).await, Err(Error::Changed));
                assert_eq!(delete(key, now).await, Ok(true));
                assert_eq!(begin(key, first).await, Err(Error::Changed));
                let begun = begin(key, now).await.unwrap();
                assert_eq!(abort(key, begun, first).await, Err(Error::Changed));
                assert_eq!(abort(key, begun, now).await, Ok(()));
                for from in [&b"large"[..], b"small"] {
                    assert_eq!(copy(from, key, by(first)).await, Err(Error::Changed));
                    assert_eq!(copy(from, key, by(now)).await, Ok(()));
                }
            }
            assert_eq!(put_part(upload, by(now)).await, Ok(()));
            for from in [&b"large"[..], b"small"] {
                assert_eq!(copy_part(from, upload, by(first)).await, Err(Error::Changed));
                assert_eq!(copy_part(from, upload, by(now)).await, Ok(()));
            }
            assert_eq!(put_part(upload, by(first)).await, Err(Error::Changed));
            assert_eq!(complete(upload, first).await, Err(Error::Changed));
            assert_eq!(complete(upload, now).await, Ok(()));
            // A repetition changes nothing, whatever it was decided by.
            assert_eq!(complete(upload, first).await, Ok(()));
            let made = completed(upload).await.unwrap();
            assert_eq!(made, engine.head("b", b"up", Which::Current).await.unwrap());
        }
        let meant = BucketChange { bucket: Some(first.bucket), ..change("policy", Some("2"), None) };
        assert_eq!(engine.change_bucket("b", meant).await, Err(Error::Changed));
    });
    engine.close();
}
