//! What can go wrong under a store on a real kernel: each is a typed error that names its place, and what is not concerned goes on.

use super::{open, reopen, some_bytes};
use bytes::Bytes;
use crossdock::{
    Delete, DeviceError, Engine, Error, ListOptions, OpenError,
    error::{DeviceOperation, Region},
};
use futures_lite::future::block_on;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Says to a test that it is the child that it started.
const CHILD: &str = "CROSSDOCK_FAULTS_CHILD";

/// Says so where a test can not run on this machine, so that it is not counted as passed.
pub(crate) fn skip(name: &str, reason: &str) {
    eprintln!("skipped {name}: {reason}");
    if let Some(log) = std::env::var_os("CROSSDOCK_SKIP_LOG") {
        let mut log = OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{name}: {reason}").unwrap();
    }
}

/// A program's output, if it is there and succeeds.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A file system of its own, as long as it lives.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(kind: &str, options: &str) -> Option<Mount> {
        let directory = tempfile::tempdir().unwrap();
        run("mount", &["-t", kind, "-o", options, "crossdock-test", directory.path().to_str()?])?;
        Some(Mount(directory))
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the engine's threads may still be ending.
        run("umount", &["-l", self.0.path().to_str().unwrap()]);
    }
}

/// A block device of a file in a file system of its own, as long as it lives.
struct Loop {
    device: PathBuf,
    file: PathBuf,
    mount: Mount,
}

impl Loop {
    fn new(bytes: u64) -> Option<Loop> {
        let mount = Mount::new("tmpfs", "size=256m")?;
        let file = mount.0.path().join("device");
        File::create(&file).unwrap().set_len(bytes).unwrap();
        let device = run("losetup", &["--find", "--show", file.to_str()?])?.into();
        Some(Loop { device, file, mount })
    }

    /// What the device has is gone, and what it is to write it has no place for: every access of it fails from now on.
    fn vanish(&self) {
        OpenOptions::new().write(true).open(&self.file).unwrap().set_len(0).unwrap();
        let mut rest = File::create(self.mount.0.path().join("rest")).unwrap();
        while rest.write_all(&[1; 65_536]).is_ok() {}
        while rest.write_all(&[1; 512]).is_ok() {}
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["--detach", self.device.to_str().unwrap()]);
    }
}

fn file(directory: &Path, shard: u16, region: &str) -> PathBuf {
    directory.join(format!("shard-{shard:03}.{region}"))
}

/// A key for each shard.
fn keys(engine: &Engine, shards: u16) -> Vec<String> {
    let key_of =
        |shard| (0..).map(|n| format!("key-{n}")).find(|k| engine.shard_of("b", k.as_bytes()) == shard);
    (0..shards).map(|shard| key_of(shard).unwrap()).collect()
}

fn put(engine: &Engine, key: &str, bytes: usize) -> Result<(), Error> {
    block_on(engine.put_bytes("b", key.as_bytes(), some_bytes(bytes, 1))).map(drop)
}

fn get(engine: &Engine, key: &str) -> Result<usize, Error> {
    block_on(engine.get_bytes("b", key.as_bytes())).map(|bytes| bytes.len())
}

/// A second process is refused while the first has the store, and can look at it all the same.
#[test]
fn two_processes() {
    if let Some(path) = std::env::var_os(CHILD) {
        let opened = Engine::builder().path(path).cores(1).open();
        assert!(matches!(opened, Err(OpenError::Locked { .. })), "{:?}", opened.err());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::two_processes"])
        .env(CHILD, directory.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    engine.close();
}

/// A data file cut off under an open store: its objects are Corrupt at a place, and are never taken for absent; other shards go on,
/// and so do new writes. When it is opened again nothing has come back, and nothing else is gone.
#[test]
fn a_file_truncated_under_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let shards = block_on(engine.statistics()).unwrap().len() as u16;
    let keys = keys(&engine, shards);
    keys.iter().for_each(|key| put(&engine, key, 1 << 20).unwrap());
    OpenOptions::new().write(true).open(file(directory.path(), 0, "data")).unwrap().set_len(0).unwrap();
    match get(&engine, &keys[0]) {
        Err(Error::Corrupt(at)) => assert_eq!((at.shard, at.region), (0, Region::Data)),
        other => panic!("{other:?}"),
    }
    for key in &keys[1..] {
        assert_eq!(get(&engine, key), Ok(1 << 20));
    }
    let listing = ListOptions { limit: 100, ..ListOptions::default() };
    let listed = block_on(engine.list("b", listing.clone())).unwrap();
    assert_eq!(listed.items.len(), keys.len(), "what is damaged is listed like everything else");
    put(&engine, &keys[0], 1000).unwrap();
    assert_eq!(get(&engine, &keys[0]), Ok(1000));
    engine.close();
    let engine = reopen(directory.path());
    for key in &keys[1..] {
        assert_eq!(get(&engine, key), Ok(1 << 20));
    }
    engine.close();
}

/// A log file cut off under an open store: what was packed into it is Corrupt at its place, is never taken for absent and comes back
/// with no other bytes; other shards go on. What was put after that is there, in a file that is as long as it has to be; and the next open
/// says of that shard what it misses, and of the others nothing.
#[test]
fn a_log_truncated_under_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let shards = block_on(engine.statistics()).unwrap().len() as u16;
    let keys = keys(&engine, shards);
    keys.iter().for_each(|key| put(&engine, key, 50_000).unwrap());
    let log = file(directory.path(), 0, "log");
    OpenOptions::new().write(true).open(&log).unwrap().set_len(8192).unwrap();
    match get(&engine, &keys[0]) {
        Err(Error::Corrupt(at)) => {
            assert!(at.shard == 0 && at.region == Region::Log && at.offset >= 8192, "{at}")
        }
        other => panic!("{other:?}"),
    }
    for key in &keys[1..] {
        assert_eq!(get(&engine, key), Ok(50_000));
        put(&engine, key, 40_000).unwrap();
    }
    let listed = block_on(engine.list("b", ListOptions { limit: 100, ..ListOptions::default() })).unwrap();
    assert_eq!(listed.items.len(), keys.len(), "what is damaged is listed like everything else");
    let found = super::inspect::killed(directory.path());
    engine.close();
    let engine = reopen(found.path());
    match get(&engine, &keys[0]) {
        Err(Error::ShardUnavailable { shard: 0 }) => {}
        Err(Error::Corrupt(at)) => assert_eq!(at.shard, 0),
        other => panic!("{other:?}"),
    }
    for key in &keys[1..] {
        assert_eq!(get(&engine, key), Ok(40_000));
    }
    engine.close();
}

/// A log file cut short while the store was closed: its shard is refused with the place where it breaks off, and never opens with less;
/// other shards serve. As soon as the file is whole again everything is there.
#[test]
fn a_log_truncated_while_closed() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let shards = block_on(engine.statistics()).unwrap().len() as u16;
    let keys = keys(&engine, shards);
    keys.iter().for_each(|key| put(&engine, key, 1000).unwrap());
    let found = super::inspect::killed(directory.path());
    engine.close();
    let log = file(found.path(), 0, "log");
    let whole = std::fs::read(&log).unwrap();
    for bytes in [whole.len() / 2, 100_000] {
        OpenOptions::new().write(true).open(&log).unwrap().set_len(bytes as u64).unwrap();
        let engine = reopen(found.path());
        let unavailable = &engine.report().unavailable;
        assert_eq!(unavailable.len(), 1, "{bytes}: {unavailable:?}");
        assert_eq!(get(&engine, &keys[0]), Err(Error::ShardUnavailable { shard: 0 }), "{bytes}");
        for key in &keys[1..] {
            assert_eq!(get(&engine, key), Ok(1000), "{bytes}");
        }
        engine.close();
    }
    std::fs::write(&log, whole).unwrap();
    let engine = reopen(found.path());
    assert_eq!(engine.report().unavailable.len(), 0, "{:?}", engine.report().unavailable);
    for key in &keys {
        assert_eq!(get(&engine, key), Ok(1000));
    }
    engine.close();
}

/// The mark of an unfinished store goes with the first open that finds a superblock; and where it is left, no store is made over shards
/// that were in use.
#[test]
fn no_store_is_made_over_one_that_was_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    put(&engine, "key", 1000).unwrap();
    engine.close();
    // As a process leaves it that dies between naming the superblock and removing the mark.
    let mark = directory.path().join("formatting");
    std::fs::write(&mark, b"").unwrap();
    let engine = reopen(directory.path());
    assert!(!mark.exists());
    assert_eq!(get(&engine, "key"), Ok(1000));
    engine.close();
    std::fs::write(&mark, b"").unwrap();
    let (there, away) = (directory.path().join("superblock"), directory.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    let builder = || Engine::builder().path(directory.path()).cores(2).memory_bytes(64 << 20);
    let refused = loop {
        match builder().open() {
            Err(OpenError::Locked { .. }) => std::thread::park_timeout(std::time::Duration::from_millis(20)),
            other => break other,
        }
    };
    assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{:?}", refused.err());
    std::fs::rename(&away, &there).unwrap();
    let engine = reopen(directory.path());
    assert_eq!(get(&engine, "key"), Ok(1000));
    engine.close();
}

/// A log in whose place lies something else: that shard is not there and says so to whoever asks for its keys; a listing is refused and
/// never shortened; other shards serve and take what is theirs.
#[test]
fn a_file_replaced_under_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let shards = block_on(engine.statistics()).unwrap().len() as u16;
    let keys = keys(&engine, shards);
    keys.iter().for_each(|key| put(&engine, key, 1000).unwrap());
    // The engine has the old file open: it goes on with it, as with any file that was renamed or removed.
    let replaced = file(directory.path(), 1, "log");
    std::fs::copy(file(directory.path(), 0, "log"), directory.path().join("other")).unwrap();
    std::fs::rename(directory.path().join("other"), &replaced).unwrap();
    assert_eq!(get(&engine, &keys[1]), Ok(1000));
    engine.close();
    let engine = reopen(directory.path());
    let unavailable: Vec<u16> = engine.report().unavailable.iter().map(|(shard, _)| *shard).collect();
    assert_eq!(unavailable, [1], "{:?}", engine.report().unavailable);
    assert_eq!(get(&engine, &keys[1]), Err(Error::ShardUnavailable { shard: 1 }));
    assert_eq!(put(&engine, &keys[1], 10), Err(Error::ShardUnavailable { shard: 1 }));
    let listing = ListOptions { limit: 1, ..ListOptions::default() };
    assert_eq!(block_on(engine.list("b", listing)), Err(Error::ShardUnavailable { shard: 1 }));
    for key in keys.iter().enumerate().filter(|(shard, _)| *shard != 1).map(|(_, key)| key) {
        assert_eq!(get(&engine, key), Ok(1000));
        put(&engine, key, 2000).unwrap();
    }
    engine.close();
}

/// A device that goes away under the store: what it is asked for fails with shard, file and offset; its shards stop writing; shards on the
/// other device do not notice.
#[test]
fn a_device_that_vanishes() {
    let directory = tempfile::tempdir().unwrap();
    let Some(device) = Loop::new(512 << 20) else {
        return skip("faults::a_device_that_vanishes", "no loop device can be made");
    };
    let builder = Engine::builder().path(directory.path()).path(&device.device).cores(1).shards(2);
    let engine = builder.memory_bytes(64 << 20).capacity_bytes(1 << 30).open().unwrap();
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let keys = keys(&engine, 2);
    keys.iter().for_each(|key| put(&engine, key, 1 << 20).unwrap());
    device.vanish();
    match get(&engine, &keys[1]) {
        Err(Error::Device(DeviceError {
            shard: 1,
            region: Region::Data,
            operation: DeviceOperation::Read,
            ..
        })) => {}
        // A loop device may answer with zeros for what its file does not have any more.
        Err(Error::Corrupt(at)) => assert_eq!((at.shard, at.region), (1, Region::Data)),
        other => panic!("{other:?}"),
    }
    let failed = put(&engine, &keys[1], 1000).and_then(|()| put(&engine, &keys[1], 1000));
    match failed {
        Err(Error::OutcomeUnknown(cause)) => {
            assert!(matches!(*cause, Error::Device(DeviceError { shard: 1, .. })), "{cause:?}");
            assert_eq!(put(&engine, &keys[1], 1000), Err(Error::ReadOnly { shard: 1 }));
        }
        Err(Error::ReadOnly { shard: 1 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(block_on(engine.statistics()).unwrap()[1].read_only);
    assert_eq!(get(&engine, &keys[0]), Ok(1 << 20));
    put(&engine, &keys[0], 5000).unwrap();
    assert_eq!(get(&engine, &keys[0]), Ok(5000));
    engine.close();
}

/// A full file system refuses writes with a typed error; reads and deletes go on, and then writes again.
#[test]
fn a_full_disk() {
    let Some(mount) = Mount::new("tmpfs", "size=192m") else {
        return skip("faults::a_full_disk", "nothing can be mounted");
    };
    let builder = Engine::builder().path(mount.store()).cores(1).shards(2).memory_bytes(64 << 20);
    // More than there is: the disk is full before the store is.
    let engine = builder.capacity_bytes(1 << 30).open().unwrap();
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let mut count = 0;
    let error = loop {
        match put(&engine, &format!("key-{count}"), 1 << 20) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 1000, "192 MiB hold more than 1000 MiB");
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?} after {count}");
    assert!(count > 10, "{count}");
    for number in 0..count {
        assert_eq!(get(&engine, &format!("key-{number}")), Ok(1 << 20));
    }
    for number in 0..count / 2 {
        let key = format!("key-{number}");
        block_on(engine.delete("b", Delete::current(key.as_bytes()))).unwrap();
    }
    for number in 0..count / 4 {
        put(&engine, &format!("again-{number}"), 1 << 20).unwrap();
    }
    engine.close();
}

/// File systems without direct access work, and opening says which they are.
#[test]
fn a_file_system_without_direct_access() {
    let mut tried = 0;
    for (kind, options) in [("ramfs", "mode=700"), ("tmpfs", "size=256m")] {
        let Some(mount) = Mount::new(kind, options) else { continue };
        tried += 1;
        let builder = Engine::builder().path(mount.store()).cores(1).shards(1).memory_bytes(64 << 20);
        let engine = builder.capacity_bytes(256 << 20).open().unwrap();
        if kind == "ramfs" {
            assert_eq!(engine.report().page_cached, [mount.store()]);
        }
        block_on(engine.create_bucket("b", Bytes::new())).unwrap();
        for size in [0, 100, 30_000, (1 << 20) + 17] {
            put(&engine, &format!("{size}"), size).unwrap();
            assert_eq!(get(&engine, &format!("{size}")), Ok(size));
        }
        engine.close();
        let engine = reopen(&mount.store());
        assert_eq!(get(&engine, "1048593"), Ok((1 << 20) + 17), "{kind}");
        engine.close();
    }
    if tried == 0 {
        skip("faults::a_file_system_without_direct_access", "nothing can be mounted");
    }
}
