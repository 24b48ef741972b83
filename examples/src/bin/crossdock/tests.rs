//! The tool on real stores, through its own arguments.

#![allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]

use super::*;
use bytes::Bytes;
use crossdock::Engine;
use futures_lite::future::block_on;
use std::path::Path;

fn engine(path: &Path) -> Engine {
    Engine::builder().path(path).cores(1).memory_bytes(64 << 20).capacity_bytes(1 << 30).open().unwrap()
}

/// Runs the tool: exit code, and what it printed or said.
fn tool(arguments: &[&str]) -> (u8, String) {
    let arguments = std::iter::once("crossdock").chain(arguments.iter().copied());
    let arguments = Arguments::try_parse_from(arguments).unwrap();
    let mut output = Vec::new();
    match run(&arguments.task, &mut output) {
        Ok(clean) => (u8::from(!clean), String::from_utf8(output).unwrap()),
        Err(failure) => (2, failure.to_string()),
    }
}

fn fill(engine: &Engine) {
    block_on(async {
        engine.create_bucket("photos", Bytes::new()).await.unwrap();
        for (index, size) in [0, 10, 5000, 70_000, 1 << 20].into_iter().enumerate() {
            let mut bytes = vec![0; size];
            fastrand::Rng::with_seed(index as u64).fill(&mut bytes);
            engine.put_bytes("photos", format!("2026/{index}").as_bytes(), bytes.into()).await.unwrap();
        }
        engine.put_bytes("photos", b"other", Bytes::from_static(b"x")).await.unwrap();
    });
}

/// A store is told from its numbers, open or closed, in text and in JSON.
#[test]
fn stat_tells_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let engine = engine(directory.path());
    fill(&engine);
    let (code, live) = tool(&["stat", path, "--json"]);
    assert_eq!(code, 0, "{live}");
    let live: serde_json::Value = serde_json::from_str(&live).unwrap();
    assert_eq!((&live["in_use"], &live["total"]["versions"]), (&true.into(), &6.into()));
    engine.close();
    let (code, closed) = tool(&["stat", path, "--json"]);
    assert_eq!(code, 0, "{closed}");
    let closed: serde_json::Value = serde_json::from_str(&closed).unwrap();
    assert_eq!(closed["in_use"], false);
    assert_eq!(closed["total"]["object_bytes"], 10 + 5000 + 70_000 + (1 << 20) + 1);
    assert_eq!(closed["buckets"][0]["name"], "photos");
    assert_eq!(closed["total"]["log_batches"], 0, "a store that was closed needs no replay");
    let (code, text) = tool(&["stat", path]);
    assert_eq!(code, 0);
    assert!(text.contains("6 versions (0 delete markers) of 1.07 MiB, in 1 buckets"), "{text}");
}

/// Buckets and keys come in order, with a prefix and without, and a bucket that is not there is an error.
#[test]
fn ls_lists() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let engine = engine(directory.path());
    fill(&engine);
    let etag = block_on(engine.head("photos", b"2026/3", crossdock::Which::Current)).unwrap().etag;
    let (code, buckets) = tool(&["ls", path]);
    assert!(code == 0 && buckets.ends_with("  photos\n"), "{buckets}");
    let (_, all) = tool(&["ls", path, "photos"]);
    assert_eq!(all.lines().count(), 6);
    let (_, some) = tool(&["ls", path, "photos/2026/", "--json"]);
    let lines: Vec<serde_json::Value> =
        some.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: Vec<&str> = lines.iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["2026/0", "2026/1", "2026/2", "2026/3", "2026/4"]);
    assert_eq!(lines[3]["size"], 70_000);
    assert_eq!(lines[3]["etag"], String::from_utf8_lossy(etag.as_bytes()).into_owned());
    let (code, said) = tool(&["ls", path, "nothing"]);
    assert!(code == 2 && said.contains("nothing"), "{said}");
    engine.close();
}

/// What is no store, or one whose superblock is gone, is named.
#[test]
fn what_is_no_store_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let (code, said) = tool(&["stat", path]);
    assert!(code == 2 && said.contains("holds no store") && said.contains(path), "{said}");
    let (code, said) = tool(&["stat", &format!("{path}/nowhere")]);
    assert!(code == 2 && said.contains("nowhere"), "{said}");
    engine(directory.path()).close();
    let superblock = directory.path().join("superblock");
    let sound = std::fs::read(&superblock).unwrap();
    // A newer format is told from damage, whatever the other copies say.
    let mut newer = sound.clone();
    newer[8] = 2;
    let sum = crossdock::layout::checksum(&newer[..4088]);
    newer[4088..4096].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&superblock, newer).unwrap();
    let (code, said) = tool(&["fsck", path]);
    assert!(code == 2 && said.contains("superblock") && said.contains("newer than this build"), "{said}");
    std::fs::write(&superblock, vec![7; sound.len()]).unwrap();
    let (code, said) = tool(&["stat", path]);
    assert!(code == 2 && said.contains("superblock"), "{said}");
    std::fs::remove_file(&superblock).unwrap();
    let (code, said) = tool(&["stat", path]);
    assert!(code == 2 && said.contains("superblock is missing"), "{said}");
}

/// A sound store is clean, one bit in an object is named with file, offset and object, and a store in use is refused.
#[test]
fn fsck_finds_a_flipped_bit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let engine = engine(directory.path());
    fill(&engine);
    let shard = engine.shard_of("photos", b"2026/4");
    let (code, said) = tool(&["fsck", path]);
    assert!(code == 2 && said.contains("open in another process"), "{said}");
    engine.close();
    let (code, said) = tool(&["fsck", path, "--data"]);
    assert!(code == 0 && said.starts_with("clean: 2 shards, 6 versions, 1.07 MiB verified"), "{said}");
    let file = directory.path().join(format!("shard-{shard:03}.data"));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, said) = tool(&["fsck", path]);
    assert_eq!(code, 0, "without --data no data is read: {said}");
    let (code, said) = tool(&["fsck", path, "--data"]);
    assert_eq!(code, 1);
    let place = format!("damage: shard {shard}, {} offset 65536, photos/2026/4 (version ", file.display());
    assert!(said.contains(&place), "{said}");
    let (code, lines) = tool(&["fsck", path, "--data", "--json"]);
    assert_eq!(code, 1);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["key"], &lines[0]["offset"]), (&"2026/4".into(), &65_536.into()));
    assert_eq!((&lines[1]["clean"], &lines[1]["damage"]), (&false.into(), &1.into()));
}

/// A scrub finds what a bit did, also on a store in use; it goes on from where its state says, keeps what it found
/// before, and obeys its rate.
#[test]
fn scrub_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let engine = engine(directory.path());
    fill(&engine);
    let (code, said) = tool(&["scrub", path]);
    assert!(code == 0 && said.starts_with("clean: 2 shards, 6 versions, 1.07 MiB verified"), "{said}");
    block_on(engine.put_bytes("photos", b"large", vec![7; 3 << 20].into())).unwrap();
    let begin = clock::now();
    let (code, _) = tool(&["scrub", path, "--rate", "10M"]);
    assert_eq!(code, 0);
    assert!(
        begin.elapsed().as_millis() > 180,
        "the last of three reads comes after 1.9 MiB at 10 MiB a second"
    );
    block_on(engine.delete("photos", crossdock::Delete::current(b"large"))).unwrap();
    let shard = engine.shard_of("photos", b"2026/4");
    let file = directory.path().join(format!("shard-{shard:03}.data"));
    let flip = || {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().read(true).write(true).open(&file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 5).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 5).unwrap();
    };
    flip();
    let (code, said) = tool(&["scrub", path, "--json"]);
    assert_eq!(code, 1, "{said}");
    let finding: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((&finding["key"], &finding["offset"]), (&"2026/4".into(), &0.into()));
    flip();

    let state = directory.path().join("scrub.json");
    let stat: serde_json::Value = serde_json::from_str(&tool(&["stat", path, "--json"]).1).unwrap();
    let kept = serde_json::json!({
        "store": stat["store"], "shard": 2, "after": null, "bytes": 1000, "findings": [finding],
    });
    std::fs::write(&state, kept.to_string()).unwrap();
    let (code, said) = tool(&["scrub", path, "--state", state.to_str().unwrap()]);
    assert!(code == 1 && said.contains("photos/2026/4") && said.contains("1000 B verified"), "{said}");
    assert!(!state.exists());
    std::fs::write(&state, r#"{"store":"0","shard":0}"#).unwrap();
    let (code, said) = tool(&["scrub", path, "--state", state.to_str().unwrap()]);
    assert!(code == 2 && said.contains("another store"), "{said}");
    engine.close();
}

/// Every structure is shown, with the places that the others name; never the secret.
#[test]
fn dump_shows_each_structure() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let engine = engine(directory.path());
    fill(&engine);
    let shard = engine.shard_of("photos", b"2026/3").to_string();
    let (code, log) = tool(&["dump", path, "log", &shard]);
    assert!(code == 0 && log.contains("key 2026/3"), "{log}");
    assert!(log.contains("put bucket") && log.contains("ends before batch"), "{log}");
    let (_, one) = tool(&["dump", path, "log", &shard, "--count", "1", "--headers"]);
    assert!(one.contains("batch 1 of epoch") && !one.contains("put bucket"), "{one}");
    let (_, object) = tool(&["dump", path, "object", "photos/2026/3"]);
    assert!(object.contains("70000 bytes packed at log zone"), "{object}");
    engine.close();

    let (_, superblock) = tool(&["dump", path, "superblock"]);
    assert_eq!(superblock.matches("device 1 of 1").count(), 4, "{superblock}");
    let store = Store::open(&[path], Access::Any).unwrap();
    let secret: String = store.superblock().secret.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!superblock.contains(&secret));
    let (_, anchor) = tool(&["dump", path, "anchor", &shard]);
    assert_eq!(anchor.matches("checkpoint 1 of").count(), 4, "{anchor}");
    let (_, checkpoint) = tool(&["dump", path, "checkpoint", &shard]);
    assert!(checkpoint.contains("key 2026/3") && checkpoint.contains("put bucket"), "{checkpoint}");

    let large = store.shard_of("photos", b"2026/4");
    let image = store.read_shard(large).unwrap();
    let object = image.objects().find(|object| object.key == b"2026/4").unwrap();
    let crossdock::layout::Content::Extents { extents, .. } = &object.record.content else {
        panic!("in extents")
    };
    let offset = (store.data_place(large, extents[0]).unwrap().1 + 5000).to_string();
    let (_, at) = tool(&["dump", path, "at", &large.to_string(), "data", &offset]);
    assert!(at.contains("no metadata") && at.contains("held by photos/2026/4 (version "), "{at}");
    let (_, at) = tool(&["dump", path, "at", &shard, "log", "16384"]);
    assert!(at.contains("generation") && at.contains("held by nothing"), "{at}");
    let (code, said) = tool(&["dump", path, "at", &shard, "data", "999999999999"]);
    assert!(code == 2 && said.contains("ends before"), "{said}");
    let (code, said) = tool(&["dump", path, "anchor", "77"]);
    assert!(code == 2 && said.contains("2 shards"), "{said}");
}

/// On a host without cards it is said why, with what to do about it, in text and in JSON; with cards there is no such reason.
#[test]
fn rdma_info_says_why_not() {
    let (code, text) = tool(&["rdma-info"]);
    let (_, json) = tool(&["rdma-info", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(text.contains("memory that this user may lock: "), "{text}");
    let Some(reason) = json["reason"].as_str() else {
        assert!(!text.contains("no RDMA: "), "{text}");
        return;
    };
    assert_eq!((code, &json["usable"]), (1, &false.into()));
    assert!(text.starts_with(&format!("no RDMA: {reason}\n")), "{text}");
    let advice = ["install", "load ", "linked dynamically", "/dev/infiniband", "cannot be opened"];
    assert!(advice.iter().any(|advice| reason.contains(advice)), "{reason}");
}
