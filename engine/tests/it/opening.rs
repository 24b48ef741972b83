//! How a store is made, opened and let go of: what is refused, and that a refusal leaves nothing behind.

use super::{
    faults::{run, skip},
    some_bytes,
};
use bytes::Bytes;
use crossdock::{CommitOptions, Engine, Error, ListOptions, OpenError, PutOptions};
use futures_lite::future::block_on;
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Bytes of a file that stands for a device: four shards, each with the least that it can have.
const IMAGE_BYTES: u64 = 80 << 20;

fn image(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    File::create(&path).unwrap().set_len(IMAGE_BYTES).unwrap();
    path
}

fn write_at(path: &Path, bytes: &[u8], offset: u64) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn on_image(path: &Path) -> Result<Engine, OpenError> {
    Engine::builder().path(path).cores(1).shards(4).memory_bytes(32 << 20).open()
}

/// A device on which somebody's data lies is not formatted over, wherever the first of it is found: not a byte of it is changed.
#[test]
fn what_others_have_is_not_formatted_over() {
    let directory = tempfile::tempdir().unwrap();
    for (name, offset) in [
        // md(4): a superblock of version 1.2 lies 4 KiB from the start.
        ("an md member", 4096),
        ("data from 1 MiB", 1 << 20),
        ("data behind a wiped start", (4 << 20) - 1),
        ("md 1.0", IMAGE_BYTES - 8192),
        ("a backup GPT", IMAGE_BYTES - 512),
    ] {
        let path = image(directory.path(), name);
        write_at(&path, &[0xa9], offset);
        let before = std::fs::read(&path).unwrap();
        match on_image(&path) {
            Err(OpenError::Occupied { offset: found, .. }) => assert_eq!(found, offset, "{name}"),
            other => panic!("{name}: {:?}", other.err()),
        }
        assert!(std::fs::read(&path).unwrap() == before, "{name} was changed");
        std::fs::remove_file(&path).unwrap();
    }
    // Nothing but zeros is free to take.
    let path = image(directory.path(), "zeros");
    on_image(&path).unwrap().close();
    assert!(!on_image(&path).unwrap().report().created);
}

/// A store on a device whose superblocks are gone is not formatted over, also when its first shard went with them.
#[test]
fn a_store_without_its_superblock_is_not_formatted_over() {
    let directory = tempfile::tempdir().unwrap();
    for wiped in [256 << 10, 8 << 20] {
        let path = image(directory.path(), "device");
        on_image(&path).unwrap().close();
        write_at(&path, &vec![0; wiped], 0);
        let opened = on_image(&path);
        assert!(matches!(opened, Err(OpenError::Occupied { .. })), "{wiped}: {:?}", opened.err());
    }
}

/// One core that can not open its shard takes the others along: nothing of the store runs or is locked when the error is told, and
/// with enough memory it opens.
#[test]
fn a_core_that_fails_takes_the_others_along() {
    let directory = tempfile::tempdir().unwrap();
    let builder =
        || Engine::builder().path(directory.path()).cores(2).memory_bytes(64 << 20).capacity_bytes(1 << 30);
    let engine = builder().shards(2).open().unwrap();
    let fixed = engine.report().memory.fixed_bytes();
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        // Of the first core's shard only.
        let keys = (0..).map(|number: u32| number.to_le_bytes()).filter(|key| engine.shard_of("b", key) == 0);
        for key in keys.take(220) {
            let put = engine.put("b", &key, PutOptions { size: Some(0) }).await.unwrap();
            let attributes = some_bytes(30_000, 1);
            put.finish(CommitOptions { attributes, ..CommitOptions::default() }).await.unwrap();
        }
    });
    engine.close();
    for _ in 0..3 {
        let failed = builder().memory_max(fixed + (8 << 20)).open();
        assert!(matches!(failed, Err(OpenError::Memory { shard: 0, .. })), "{:?}", failed.err());
    }
    builder().memory_max(fixed + (64 << 20)).open().unwrap().close();
}

/// Who says nothing of the length of a page gets one, and a page of nothing is not taken for the end.
#[test]
fn a_listing_has_a_length() {
    let directory = tempfile::tempdir().unwrap();
    let engine = super::open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.put_bytes("b", b"key", Bytes::new()).await.unwrap();
        let listed = engine.list("b", ListOptions::default()).await.unwrap();
        assert_eq!(listed.items.len(), 1);
        let versions = engine.list_versions("b", ListOptions::default()).await.unwrap();
        assert_eq!(versions.items.len(), 1);
        let nothing = ListOptions { limit: 0, ..ListOptions::default() };
        let refused = engine.list("b", nothing.clone()).await;
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
        let refused = engine.list_versions("b", nothing).await;
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    });
    engine.close();
}

/// A device that the system or another program uses is not opened, and one that a store has is not given to anybody else.
#[test]
fn a_device_belongs_to_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), "device");
    let Some(device) = run("losetup", &["--find", "--show", path.to_str().unwrap()]) else {
        return skip("opening::a_device_belongs_to_one", "no loop device can be made");
    };
    let alone =
        || OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::EXCL.bits() as i32).open(&device);
    let held = alone().unwrap();
    let refused = on_image(Path::new(&device));
    let in_use = matches!(refused, Err(OpenError::File(crossdock::device::file::OpenError::InUse { .. })));
    drop(held);
    let engine = on_image(Path::new(&device)).unwrap();
    let while_open = alone();
    engine.close();
    // At once: what was closed is free.
    let again = (0..5).try_for_each(|_| on_image(Path::new(&device)).map(|engine| drop(engine.close())));
    let after = alone();
    run("losetup", &["--detach", &device]);
    assert!(in_use, "a device in use was opened");
    assert!(
        while_open.is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()))
    );
    assert!(again.is_ok(), "{:?}", again.err());
    assert!(after.is_ok(), "{:?}", after.err());
}

/// Where a store has to be there, none is made: no directory, and no byte of an empty device.
#[test]
fn a_store_that_must_exist_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), "device");
    let nowhere = directory.path().join("not mounted");
    let empty = directory.path().join("mount point");
    std::fs::create_dir(&empty).unwrap();
    for path in [&path, &nowhere, &empty] {
        let missing = Engine::builder().path(path).cores(1).memory_bytes(32 << 20).create(false).open();
        assert!(matches!(missing, Err(OpenError::Missing { .. })), "{:?}", missing.err());
    }
    assert!(!nowhere.exists() && std::fs::read_dir(&empty).unwrap().next().is_none());
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
}

/// A store of which nothing can be opened is not open, and neither is one that lacks a shard where all are required; the reason is told
/// as what it is. With what is there it opens.
#[test]
fn a_store_without_shards_is_not_open() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || Engine::builder().path(directory.path()).cores(2).memory_bytes(64 << 20);
    builder().shards(2).capacity_bytes(1 << 30).require_all_shards().open().unwrap().close();
    let log = |shard: u16| directory.path().join(format!("shard-{shard:03}.log"));
    let damage = |shard| write_at(&log(shard), &[0x5a; 65_536], 0);
    damage(1);
    let refused = builder().require_all_shards().open();
    let Err(OpenError::Shards { unavailable, shard_count: 2 }) = refused else {
        panic!("{:?}", refused.err());
    };
    assert!(matches!(&*unavailable[0].1, OpenError::Recovery { shard: 1, .. }), "{unavailable:?}");
    let engine = builder().open().unwrap();
    assert_eq!(engine.report().unavailable.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [1]);
    engine.close();
    let here = Engine::builder().path(directory.path()).memory_bytes(64 << 20);
    assert!(matches!(here.clone().require_all_shards().open_here(), Err(OpenError::Shards { .. })));
    drop(here.clone().open_here().unwrap());
    damage(0);
    for refused in [builder().open().err(), here.open_here().err()] {
        let Some(OpenError::Shards { unavailable, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(unavailable.len(), 2);
        assert!(refused.unwrap().to_string().starts_with("2 of 2 shards could not be opened; shard 0: "));
    }
}

/// More readers than a core has memory for get their turn, where nobody said how long they may wait.
#[test]
fn a_burst_waits_for_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(1).memory_bytes(32 << 20);
    let engine = builder.capacity_bytes(1 << 30).open().unwrap();
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.put_bytes("b", b"large", some_bytes(8 << 20, 1)).await.unwrap();
    });
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| assert_eq!(block_on(engine.get_bytes("b", b"large")).unwrap().len(), 8 << 20));
        }
    });
    engine.close();
}

/// A store that was dropped is locked until its cores have ended, by and by, and says that this may be so; one that was closed is free
/// at once.
#[test]
fn what_is_dropped_lets_go_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let engine = super::open(directory.path());
    let locked = Engine::builder().path(directory.path()).cores(1).open().err().unwrap();
    assert!(matches!(locked, OpenError::Locked { .. }) && locked.to_string().contains("still closing"));
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    drop(engine);
    let mut engine = super::reopen(directory.path());
    for _ in 0..5 {
        engine.close();
        engine = Engine::builder().path(directory.path()).cores(2).memory_bytes(64 << 20).open().unwrap();
    }
    assert!(block_on(engine.bucket("b")).is_ok());
    engine.close();
}

/// A copy of the superblock that rots is whole again after the next open, in files and on a device: so another may rot, and another, and the
/// store still opens.
#[test]
fn copies_of_the_superblock_are_mended() {
    let directory = tempfile::tempdir().unwrap();
    let device = image(directory.path(), "device");
    on_image(&device).unwrap().close();
    let files = directory.path().join("files");
    let in_files = || Engine::builder().path(&files).cores(1).shards(1).memory_bytes(32 << 20).open();
    in_files().unwrap().close();
    let copy_at = |path: &Path, copy: u64| {
        let mut block = vec![0; 4096];
        File::open(path).unwrap().read_exact_at(&mut block, copy * 65_536).unwrap();
        block
    };
    for (path, open) in [
        (device.clone(), &(|| on_image(&device)) as &dyn Fn() -> Result<Engine, OpenError>),
        (files.join("superblock"), &in_files),
    ] {
        let whole = copy_at(&path, 0);
        for damaged in 0..4 {
            // Two of them, one in the secret.
            for copy in [damaged, (damaged + 1) % 4] {
                write_at(&path, &[!whole[85]], copy * 65_536 + 85);
            }
            open().unwrap_or_else(|error| panic!("copy {damaged} of {}: {error}", path.display())).close();
            for copy in 0..4 {
                assert!(copy_at(&path, copy) == whole, "copy {copy} of {} is as it was", path.display());
            }
        }
    }
}

/// Small objects and large ones together take no more than a store was told to grow to.
#[test]
fn a_capacity_bounds_all_files_together() {
    const CAPACITY: u64 = 32 << 20;
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(1).shards(1).memory_bytes(32 << 20);
    let engine = builder.capacity_bytes(CAPACITY).open().unwrap();
    block_on(engine.create_bucket("bucket", Bytes::new())).unwrap();
    for bytes in [1 << 20, 100_000] {
        let put = |n: u32| {
            let key = format!("{bytes}/{n}");
            let engine = &engine;
            async move { engine.put_bytes("bucket", key.as_bytes(), some_bytes(bytes, 1)).await }
        };
        let refused = (0..1000).find_map(|n| block_on(put(n)).err());
        assert!(matches!(refused, Some(Error::Full { .. })), "{refused:?}");
    }
    engine.close();
    let files = ["shard-000.log", "shard-000.data"].map(|name| directory.path().join(name));
    let bytes: u64 = files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    assert!((CAPACITY / 2..=CAPACITY + 65_536).contains(&bytes), "the files take {bytes} bytes");
}

/// Cores are pinned to processors that the process may use, or to those that are named; one for each, and none that there can not be.
#[test]
fn cores_are_pinned_where_the_process_may_run() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || {
        let builder = Engine::builder().path(directory.path()).cores(1).shards(1).memory_bytes(32 << 20);
        builder.capacity_bytes(1 << 30)
    };
    let runs_on = |builder: crossdock::Builder| {
        let engine = builder.open().unwrap();
        let look = |_| async {
            let set = rustix::thread::sched_getaffinity(None).unwrap();
            (0..rustix::thread::CpuSet::MAX_CPU)
                .filter(|processor| set.is_set(*processor))
                .collect::<Vec<_>>()
        };
        let runs_on = futures_lite::future::block_on(engine.on_core(0, look)).unwrap();
        let pinned = engine.report().processors.clone();
        engine.close();
        (runs_on, pinned)
    };
    let (all, pinned) = runs_on(builder());
    assert_eq!(pinned, []);
    let last = *all.last().unwrap();
    assert_eq!(runs_on(builder().pin_to([last])), (vec![last], vec![last]));
    // A process that may use the last of its processors only, as in a container.
    let of_few = std::thread::Builder::new().spawn({
        let builder = builder();
        move || {
            let mut set = rustix::thread::CpuSet::new();
            set.set(last);
            rustix::thread::sched_setaffinity(None, &set).unwrap();
            let engine = builder.pin(true).open().unwrap();
            let pinned = engine.report().processors.clone();
            engine.close();
            pinned
        }
    });
    assert_eq!(of_few.unwrap().join().unwrap(), [last]);
    for wrong in [builder().pin_to([]), builder().pin_to([1 << 20])] {
        assert!(matches!(wrong.open().err(), Some(OpenError::Options(_))));
    }
}
