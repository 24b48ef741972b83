//! Buckets that keep versions, that did, and that never do.

use super::{inspect::killed, open, reopen, some_bytes};
use bytes::Bytes;
use crossdock::{
    CommitOptions, CompleteOptions, Delete, DeleteMarker, Deleted, Engine, Error, GetOptions, ListOptions,
    ListStart, NamedPart, ObjectInfo, PutOptions, TagMatch, Version, VersionItem, VersionKind, Versioning,
    Which, WriteCondition,
};
use futures_lite::future::block_on;

async fn put(engine: &Engine, key: &[u8], text: &'static str) -> ObjectInfo {
    engine.put_bytes("b", key, Bytes::from_static(text.as_bytes())).await.unwrap()
}

/// The bytes of a version.
async fn text(engine: &Engine, key: &[u8], version: Which) -> Result<String, Error> {
    let mut stream = engine.get("b", key, GetOptions { version, ..GetOptions::default() }).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(String::from_utf8(bytes).unwrap())
}

async fn delete(engine: &Engine, key: &[u8], which: Which) -> (Option<Version>, Option<DeleteMarker>) {
    let delete = Delete { which, ..Delete::current(key) };
    let deleted = engine.delete("b", delete).await.unwrap();
    (deleted.removed, deleted.marker)
}

/// Every version of the bucket, page by page, in few words: key, size or "marker", and what it is.
async fn versions(engine: &Engine, prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut options =
        ListOptions { prefix: prefix.into(), delimiter: delimiter.into(), start: ListStart::First, limit };
    loop {
        let page = engine.list_versions("b", options.clone()).await.unwrap();
        assert!(page.items.len() <= limit);
        lines.extend(page.items.iter().map(|item| match item {
            VersionItem::CommonPrefix(prefix) => format!("{}…", String::from_utf8_lossy(prefix)),
            VersionItem::Version { key, is_current, kind } => {
                let what = match kind {
                    VersionKind::Object(info) => info.size.to_string(),
                    VersionKind::DeleteMarker(_) => "marker".into(),
                };
                let null = if kind.is_null_version() { " null" } else { "" };
                let current = if *is_current { " current" } else { "" };
                format!("{} {what}{null}{current}", String::from_utf8_lossy(key))
            }
        }));
        match page.next {
            Some(next) => options.start = next,
            None => return lines,
        }
    }
}

async fn keys(engine: &Engine, delimiter: &str) -> Vec<String> {
    let options = ListOptions { delimiter: delimiter.into(), limit: 100, ..ListOptions::default() };
    let page = engine.list("b", options).await.unwrap();
    page.items.iter().map(|item| String::from_utf8_lossy(item.name()).into_owned()).collect()
}

/// A bucket's life: no versions, versions, suspended, versions again; every state is there after the store is opened anew.
#[test]
fn each_change_adds_what_the_bucket_keeps() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let (first, second, third) = block_on(async {
        let made = engine.create_bucket("b", Bytes::new()).await.unwrap();
        assert_eq!(made.versioning, Versioning::Never);
        put(&engine, b"k", "1").await;
        let null = put(&engine, b"k", "22").await;
        assert!(null.is_null_version && null.versioning == Versioning::Never);
        assert_eq!(versions(&engine, "", "", 10).await, ["k 2 null current"]);

        let set = engine.set_versioning("b", Versioning::Enabled).await.unwrap();
        assert_eq!(set.versioning, Versioning::Enabled);
        let first = put(&engine, b"k", "333").await;
        let second = put(&engine, b"k", "4444").await;
        assert!(!first.is_null_version && second.version > first.version);
        assert_eq!(versions(&engine, "", "", 1).await, ["k 4 current", "k 3", "k 2 null"]);
        assert_eq!(text(&engine, b"k", Which::Null).await.unwrap(), "22");
        assert_eq!(text(&engine, b"k", Which::Version(first.version)).await.unwrap(), "333");
        assert_eq!(engine.head("b", b"k", Which::Current).await.unwrap(), second);

        // A delete hides the key; nothing is gone.
        let (removed, marker) = delete(&engine, b"k", Which::Current).await;
        let marker = marker.unwrap();
        assert!(removed.is_none() && !marker.is_null_version);
        assert_eq!(text(&engine, b"k", Which::Current).await, Err(Error::DeleteMarker(marker)));
        let by_version = engine.head("b", b"k", Which::Version(marker.version)).await;
        assert_eq!(by_version, Err(Error::DeleteMarker(marker)));
        assert_eq!(text(&engine, b"k", Which::Version(second.version)).await.unwrap(), "4444");
        assert_eq!(keys(&engine, "").await, [""; 0]);
        assert_eq!(versions(&engine, "", "", 2).await, ["k marker current", "k 4", "k 3", "k 2 null"]);

        // A key that never was gets a marker as well, and one that has one another.
        assert!(delete(&engine, b"never", Which::Current).await.1.is_some());
        assert!(delete(&engine, b"never", Which::Current).await.1.is_some());
        assert_eq!(versions(&engine, "n", "", 10).await, ["never marker current", "never marker"]);
        assert_eq!(engine.delete_bucket("b").await, Err(Error::BucketNotEmpty));

        // Without the marker the key is there again.
        assert_eq!(
            delete(&engine, b"k", Which::Version(marker.version)).await,
            (Some(marker.version), Some(marker))
        );
        assert_eq!(text(&engine, b"k", Which::Current).await.unwrap(), "4444");
        assert_eq!(keys(&engine, "").await, ["k"]);

        // Suspended: the null version is what is replaced, by objects and by markers.
        engine.set_versioning("b", Versioning::Suspended).await.unwrap();
        let third = put(&engine, b"k", "55555").await;
        assert!(third.is_null_version && third.versioning == Versioning::Suspended);
        assert_eq!(versions(&engine, "k", "", 10).await, ["k 5 null current", "k 4", "k 3"]);
        let (removed, marker) = delete(&engine, b"k", Which::Current).await;
        assert_eq!(removed, Some(third.version));
        assert!(marker.unwrap().is_null_version);
        assert_eq!(versions(&engine, "k", "", 10).await, ["k marker null current", "k 4", "k 3"]);
        let (_, again) = delete(&engine, b"k", Which::Current).await;
        assert_eq!(versions(&engine, "k", "", 10).await, ["k marker null current", "k 4", "k 3"]);
        assert_eq!(delete(&engine, b"k", Which::Null).await, (again.map(|m| m.version), again));
        assert_eq!(delete(&engine, b"k", Which::Null).await, (None, None));
        let forgotten = engine.set_versioning("b", Versioning::Never).await;
        assert!(matches!(forgotten, Err(Error::InvalidArgument(_))), "{forgotten:?}");
        (first, second, third)
    });
    let left = killed(directory.path());
    engine.close();
    for _ in 0..2 {
        // Once from the log, once from a checkpoint.
        let engine = reopen(left.path());
        block_on(async {
            assert_eq!(engine.bucket("b").await.unwrap().versioning, Versioning::Suspended);
            assert_eq!(versions(&engine, "k", "", 10).await, ["k 4 current", "k 3"]);
            let gone = engine.head("b", b"k", Which::Version(third.version)).await;
            assert_eq!(gone, Err(Error::NoSuchVersion));
            assert_eq!(engine.head("b", b"k", Which::Null).await, Err(Error::NoSuchVersion));
            assert_eq!(text(&engine, b"k", Which::Version(first.version)).await.unwrap(), "333");
            assert_eq!(text(&engine, b"k", Which::Current).await.unwrap(), "4444");
        });
        engine.close();
    }
    let engine = reopen(left.path());
    block_on(async {
        for version in [first.version, second.version] {
            assert_eq!(delete(&engine, b"k", Which::Version(version)).await.0, Some(version));
        }
        assert_eq!(engine.delete_bucket("b").await, Err(Error::BucketNotEmpty));
        assert_eq!(versions(&engine, "", "", 10).await, ["never marker current", "never marker"]);
        let page =
            engine.list_versions("b", ListOptions { limit: 10, ..ListOptions::default() }).await.unwrap();
        for item in page.items {
            let VersionItem::Version { key, kind, .. } = item else { panic!("{item:?}") };
            delete(&engine, &key, Which::Version(kind.version())).await;
        }
        engine.delete_bucket("b").await.unwrap();
    });
    engine.close();
}

/// Conditions are about the current version, and a delete marker is no object.
#[test]
fn a_marker_counts_as_absent() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.set_versioning("b", Versioning::Enabled).await.unwrap();
        let write = async |condition| {
            let put = engine.put("b", b"k", PutOptions::default()).await?;
            put.finish(CommitOptions { condition, ..CommitOptions::default() }).await
        };
        let first = write(WriteCondition::absent()).await.unwrap();
        assert_eq!(write(WriteCondition::absent()).await, Err(Error::ConditionFailed));
        delete(&engine, b"k", Which::Current).await;
        let any = WriteCondition { if_match: Some(TagMatch::Any), if_none_match: None };
        assert_eq!(write(any).await, Err(Error::NoSuchKey));
        let second = write(WriteCondition::absent()).await.unwrap();
        assert!(second.version > first.version);

        // A delete is judged by what it would take away.
        let with = |which, tag| Delete {
            which,
            condition: WriteCondition { if_match: Some(TagMatch::Tags(vec![tag])), if_none_match: None },
            ..Delete::current(b"k")
        };
        let old = Which::Version(first.version);
        assert_eq!(engine.delete("b", with(old, second.etag)).await, Err(Error::ConditionFailed));
        assert_eq!(engine.delete("b", with(Which::Current, first.etag)).await, Err(Error::ConditionFailed));
        assert_eq!(engine.delete("b", with(old, first.etag)).await.unwrap().removed, Some(first.version));
        assert_eq!(engine.delete("b", with(old, first.etag)).await, Err(Error::NoSuchKey));
    });
    engine.close();
}

/// A delete of what somebody judged takes nothing that came since, even if it is the same byte for byte.
#[test]
fn a_delete_of_a_judged_version_leaves_its_twin() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        let first = engine.put_bytes("b", b"k", Bytes::from_static(b"daily")).await.unwrap();
        let second = engine.put_bytes("b", b"k", Bytes::from_static(b"daily")).await.unwrap();
        assert_ne!(first.version, second.version);
        let judged = |version| Delete { version: Some(version), ..Delete::current(b"k") };
        assert_eq!(engine.delete("b", judged(first.version)).await, Err(Error::Changed));
        assert_eq!(engine.head("b", b"k", Which::Current).await.unwrap().version, second.version);
        assert_eq!(engine.delete("b", judged(second.version)).await.unwrap().removed, Some(second.version));
        assert_eq!(engine.delete("b", judged(second.version)).await, Ok(Deleted::default()));
    });
    engine.close();
}

/// A thousand deletes of keys and versions in one call: one answer each, in few commits.
#[test]
fn many_deletes_make_few_commits() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        let plain: Vec<Vec<u8>> = (0..200).map(|key| format!("plain/{key}").into_bytes()).collect();
        for key in &plain {
            put(&engine, key, "x").await;
        }
        engine.set_versioning("b", Versioning::Enabled).await.unwrap();
        let mut deletes: Vec<Delete> = plain.iter().map(|key| Delete::current(key)).collect();
        for key in &plain {
            deletes.push(Delete { which: Which::Null, ..Delete::current(key) });
        }
        deletes.push(Delete::current(&[7; 1025]));
        deletes.push(Delete { which: Which::Version(Version(1)), ..Delete::current(b"none") });
        let batches =
            async || engine.statistics().await.unwrap().iter().map(|shard| shard.batches).sum::<u64>();
        let before = batches().await;
        let answers = engine.delete_many("b", deletes.clone()).await.unwrap();
        let shards = engine.statistics().await.unwrap().len() as u64;
        // Each shard writes its share in a batch or two, and perhaps a seal.
        assert!(batches().await - before <= 3 * shards);
        assert_eq!(answers.len(), deletes.len());
        for answer in &answers[..200] {
            let answer = answer.as_ref().unwrap();
            assert!(answer.removed.is_none() && answer.marker.is_some_and(|marker| !marker.is_null_version));
        }
        for answer in &answers[200..400] {
            let answer = answer.as_ref().unwrap();
            assert!(answer.removed.is_some() && answer.marker.is_none());
        }
        assert!(matches!(answers[400], Err(Error::InvalidArgument(_))));
        assert_eq!(answers[401].as_ref().unwrap().removed, None);
        assert_eq!(versions(&engine, "", "/", 10).await, ["plain/…"]);
        assert_eq!(versions(&engine, "plain/", "", 7).await.len(), 200);
        // A prefix whose keys are all deleted is no prefix of keys.
        assert_eq!(keys(&engine, "/").await, [""; 0]);
        put(&engine, b"plain/150", "y").await;
        assert_eq!(keys(&engine, "/").await, ["plain/"]);

        let too_many = engine.delete_many("b", vec![Delete::current(b"k"); 1001]).await;
        assert!(matches!(too_many, Err(Error::InvalidArgument(_))));
        let nowhere = engine.delete_many("nowhere", vec![Delete::current(b"k")]).await.unwrap();
        assert_eq!(nowhere, [Err(Error::NoSuchBucket)]);
    });
    engine.close();
}

/// A listing goes through more deleted keys and more versions than are looked at in one go.
#[test]
fn long_runs_of_versions_are_listed_in_stretches() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.set_versioning("b", Versioning::Enabled).await.unwrap();
        put(&engine, b"a", "first").await;
        for thousand in 0..40 {
            let keys = (0..1000).map(|key| Delete::current(format!("gone/{thousand}/{key}").as_bytes()));
            engine.delete_many("b", keys.collect()).await.unwrap();
        }
        put(&engine, b"z", "last").await;
        assert_eq!(keys(&engine, "").await, ["a", "z"]);
        assert_eq!(keys(&engine, "/").await, ["a", "z"]);
        for _ in 0..10 {
            engine.delete_many("b", vec![Delete::current(b"m"); 1000]).await.unwrap();
        }
        assert_eq!(versions(&engine, "m", "", 10_000).await.len(), 10_000);
        assert_eq!(versions(&engine, "m", "", 999).await.len(), 10_000);
        assert_eq!(versions(&engine, "", "/", 10_000).await.len(), 10_003);
    });
    engine.close();
}

/// Copies and completions read and make versions; a completion that is repeated is answered as the first, also when newer
/// versions came in between.
#[test]
fn copies_and_completions_make_versions() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.set_versioning("b", Versioning::Enabled).await.unwrap();
        let old = put(&engine, b"k", "old").await;
        put(&engine, b"k", "newer").await;
        let copied = engine
            .on_core(0, move |core| async move {
                let select = GetOptions { version: Which::Version(old.version), ..GetOptions::default() };
                core.copy(("b", b"k", select), ("b", b"k"), CommitOptions::default()).await
            })
            .await
            .unwrap()
            .unwrap();
        assert!(copied.version > old.version && !copied.is_null_version);
        assert_eq!(text(&engine, b"k", Which::Current).await.unwrap(), "old");

        let upload = engine.create_upload("b", b"k", Bytes::new()).await.unwrap().upload;
        let mut part = engine.put_part("b", b"k", upload, 1, PutOptions::default()).await.unwrap();
        part.write(some_bytes(300_000, 1)).await.unwrap();
        part.finish_part(CommitOptions::default()).await.unwrap();
        let named = vec![NamedPart { number: 1, etag: None }];
        let complete = async || {
            engine.complete_upload("b", b"k", upload, named.clone(), CompleteOptions::default()).await
        };
        let made = complete().await.unwrap();
        put(&engine, b"k", "newest").await;
        delete(&engine, b"k", Which::Current).await;
        assert_eq!(complete().await.unwrap(), made);
        assert_eq!(
            versions(&engine, "", "", 10).await,
            ["k marker current", "k 6", "k 300000", "k 3", "k 5", "k 3"]
        );
        delete(&engine, b"k", Which::Version(made.version)).await;
        assert_eq!(complete().await, Err(Error::NoSuchUpload));
    });
    engine.close();
}
