//! Looking at stores: what is sound is found sound, and each kind of damage is named with its place.

use super::{SIZES, open, reopen, some_bytes};
use bytes::Bytes;
use crossdock::{
    CommitOptions, Delete, Engine, PutOptions,
    error::Region,
    inspect::{Access, Finding, Problem, Progress, ScrubOptions, Severity, ShardImage, Store, unreadable},
    layout::{ChecksumTable, Content},
};
use futures_lite::future::block_on;
use std::{
    cell::RefCell,
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};
use tempfile::TempDir;

/// Everything that is wrong with a closed store, data included.
pub(crate) fn faults(path: &Path) -> Vec<Finding> {
    let store = settled(path);
    let mut findings: Vec<Finding> =
        store.check_superblocks().into_iter().map(|(_, finding)| finding).collect();
    let mut images = Vec::new();
    for shard in 0..store.shard_count() {
        match store.read_shard(shard) {
            Ok(image) => {
                findings.extend(store.check_shard(&image).unwrap());
                findings.extend(store.scrub_shard(&image, &ScrubOptions::default(), |_| true).unwrap());
                images.push(image);
            }
            Err(error) => findings.push(unreadable(shard, &error)),
        }
    }
    findings.extend(store.check_buckets(&images));
    findings.retain(|finding| finding.severity != Severity::Note);
    findings
}

/// The store, as soon as its engine has let go of it.
fn settled(path: &Path) -> Store {
    for _ in 0..500 {
        match Store::open(&[path], Access::Closed) {
            Err(crossdock::OpenError::Locked { .. }) => {
                std::thread::park_timeout(std::time::Duration::from_millis(20))
            }
            other => return other.unwrap(),
        }
    }
    panic!("the store stays locked");
}

/// The store as it would be found if the engine's process were killed now.
pub(crate) fn killed(path: &Path) -> TempDir {
    let found = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), found.path().join(entry.file_name())).unwrap();
    }
    found
}

fn image(path: &Path, shard: u16) -> Rc<ShardImage> {
    settled(path).read_shard(shard).unwrap()
}

fn flip(file: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

fn fill(engine: &Engine) {
    block_on(async {
        engine.create_bucket("bucket", Bytes::new()).await.unwrap();
        for (index, size) in SIZES.into_iter().enumerate() {
            let key = format!("objects/{size}");
            engine.put_bytes("bucket", key.as_bytes(), some_bytes(size, index as u64)).await.unwrap();
        }
    });
}

/// A store is found sound after a life of puts, overwrites, deletes and uploads, however it ended.
#[test]
fn a_sound_store_has_no_faults() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    block_on(async {
        for size in [5, 3000, 1 << 20] {
            engine.put_bytes("bucket", b"objects/4096", some_bytes(size, 1)).await.unwrap();
        }
        engine.delete("bucket", Delete::current(b"objects/262145")).await.unwrap();
        let upload = engine.create_upload("bucket", b"big", Bytes::new()).await.unwrap().upload;
        for number in 1..4 {
            let mut put =
                engine.put_part("bucket", b"big", upload, number, PutOptions::default()).await.unwrap();
            put.write(some_bytes(usize::from(number) * 300_000, number.into())).await.unwrap();
            put.finish_part(CommitOptions::default()).await.unwrap();
        }
        engine.create_bucket("gone", Bytes::new()).await.unwrap();
        engine.delete_bucket("gone").await.unwrap();
    });
    let found = killed(directory.path());
    assert_eq!(faults(found.path()), []);
    reopen(found.path()).close();
    assert_eq!(faults(found.path()), []);
    assert!(matches!(
        Store::open(&[directory.path()], Access::Closed),
        Err(crossdock::OpenError::Locked { .. })
    ));
    engine.close();
    assert_eq!(faults(directory.path()), []);
    let store = settled(directory.path());
    let versions: u64 = (0..store.shard_count()).map(|s| store.read_shard(s).unwrap().usage().versions).sum();
    assert_eq!(versions, SIZES.len() as u64 - 1);
}

/// Looking changes nothing, and a store that is looked at as closed is not opened meanwhile.
#[test]
fn looking_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    let found = killed(directory.path());
    engine.close();
    let before = contents(found.path());
    assert_eq!(faults(found.path()), []);
    assert!(before == contents(found.path()));
    let store = settled(found.path());
    let refused = Engine::builder().path(found.path()).cores(1).memory_bytes(64 << 20).open();
    assert!(matches!(refused, Err(crossdock::OpenError::Locked { .. })));
    drop(store);
    reopen(found.path()).close();
}

fn contents(path: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// One bad copy of a superblock or an anchor is named, and is no loss.
#[test]
fn a_bad_copy_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    engine.close();
    flip(&directory.path().join("superblock"), 65_536 + 40);
    let found = faults(directory.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].severity, found[0].offset), (Severity::Degraded, Some(65_536)));
    assert!(matches!(found[0].problem, Problem::Copy { structure: "superblock", copy: 1, error: Some(_) }));
    flip(&directory.path().join("superblock"), 65_536 + 40);

    flip(&directory.path().join("shard-001.log"), 2 * 16_384 + 40);
    let found = faults(directory.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].shard, found[0].region, found[0].offset),
        (Some(1), Some(Region::Log), Some(32_768))
    );
    assert!(matches!(found[0].problem, Problem::Copy { structure: "anchor", copy: 2, error: Some(_) }));
}

/// A shard whose log holds a bit that flipped in either copy of a batch loses nothing and says so; with both copies
/// bad the log breaks off there.
#[test]
fn a_bad_batch_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    block_on(async {
        // The watermark over the last of them comes with the next.
        for index in 0..20 {
            engine.put_bytes("bucket", b"again", some_bytes(20_000 + index, 1)).await.unwrap();
        }
    });
    let shard = engine.shard_of("bucket", b"again");
    let found = killed(directory.path());
    engine.close();
    let directory = found;
    let sound = image(directory.path(), shard);
    let batches: Vec<_> = sound.batches().cloned().collect();
    let batch = &batches[batches.len() / 2];
    let zone_bytes = u64::from(settled(directory.path()).superblock().geometry.zone_bytes);
    let front = 65_536 + u64::from(batch.position.zone) * zone_bytes + u64::from(batch.position.offset);
    let back = front + u64::from(batch.total_blocks() - batch.meta_blocks) * 4096;
    let log = directory.path().join(format!("shard-{shard:03}.log"));
    for (offset, is_back) in [(front, false), (back, true)] {
        flip(&log, offset + 200);
        let found = faults(directory.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].severity, found[0].offset), (Severity::Degraded, Some(offset)));
        let sequence = batch.sequence;
        assert!(
            matches!(found[0].problem, Problem::BatchCopy { sequence: s, back, .. } if s == sequence && back == is_back)
        );
        assert_eq!(image(directory.path(), shard).usage().versions, sound.usage().versions);
        flip(&log, offset + 200);
    }
    flip(&log, front + 20);
    flip(&log, back + 20);
    let found = faults(directory.path());
    let hole = found.iter().find(|finding| matches!(finding.problem, Problem::Hole { .. }));
    let hole = hole.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!((hole.shard, hole.offset, hole.severity), (Some(shard), Some(front), Severity::Damage));
    assert!(matches!(hole.problem, Problem::Hole { sequence } if sequence == batch.sequence));
}

/// A rotten copy of a checkpoint chunk is named and costs nothing: the other stands in, and opening the store makes both
/// anew. Only where both rot is the shard lost.
#[test]
fn a_bad_checkpoint_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    let shard = engine.shard_of("bucket", b"objects/1");
    engine.close();
    let sound = image(directory.path(), shard).usage();
    let places = || {
        let store = settled(directory.path());
        let chunk = store.read_shard(shard).unwrap().checkpoint().unwrap().last_chunk;
        let zone_bytes = u64::from(store.superblock().geometry.zone_bytes);
        let offset = chunk.copies.map(|copy| u64::from(copy.zone) * zone_bytes + copy.offset());
        (store.file(shard, Region::Data), offset)
    };
    let (file, offsets) = places();
    for (index, offset) in offsets.into_iter().enumerate() {
        flip(&file, offset + 150);
        let found = faults(directory.path());
        assert_eq!(found.len(), 1, "{found:?}");
        let place = (found[0].shard, found[0].region, found[0].offset, found[0].severity);
        assert_eq!(place, (Some(shard), Some(Region::Data), Some(offset), Severity::Degraded));
        assert!(matches!(&found[0].problem, Problem::Copy { copy, .. } if *copy == index), "{found:?}");
        assert_eq!(image(directory.path(), shard).usage().versions, sound.versions);
        flip(&file, offset + 150);
    }

    flip(&file, offsets[0] + 150);
    open(directory.path()).close();
    assert_eq!(faults(directory.path()), []);

    let (file, offsets) = places();
    offsets.iter().for_each(|offset| flip(&file, offset + 150));
    let found = faults(directory.path());
    assert_eq!(found.len(), 1, "{found:?}");
    let place = (found[0].shard, found[0].region, found[0].offset);
    assert_eq!(place, (Some(shard), Some(Region::Data), Some(offsets[0])));
    assert!(matches!(&found[0].problem, Problem::Unreadable(text) if text.contains("checkpoint")));
}

/// A flipped bit in the bytes of an object, wherever they lie, names the object, the block and its place.
#[test]
fn a_bad_block_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    engine.close();
    for size in [1025_usize, 65_536, 262_145, (8 << 20) + 17, (40 << 20) + 4097] {
        let key = format!("objects/{size}");
        let store = settled(directory.path());
        let shard = store.shard_of("bucket", key.as_bytes());
        let image = store.read_shard(shard).unwrap();
        let object = image.objects().find(|object| object.key == key.as_bytes()).unwrap();
        let zone_bytes = u64::from(store.superblock().geometry.zone_bytes);
        let mut places = Vec::new();
        match &object.record.content {
            Content::Packed { place, bytes, .. } => {
                let start = 65_536 + u64::from(place.zone) * zone_bytes + u64::from(place.offset);
                places.push((Region::Log, start, start));
                places.push((
                    Region::Log,
                    start + u64::from(*bytes) - 1,
                    start + (u64::from(*bytes) - 1) / 16_384 * 16_384,
                ));
            }
            Content::Extents { extents, checksums, .. } => {
                let last = extents.last().unwrap();
                let start = u64::from(last.zone) * zone_bytes + last.offset();
                places.push((Region::Data, start, start));
                if let ChecksumTable::Away { extent, .. } = checksums {
                    let start = u64::from(extent.zone) * zone_bytes + extent.offset();
                    places.push((Region::Data, start + 17, start));
                }
            }
            other => panic!("{other:?}"),
        }
        let files = [Region::Log, Region::Data].map(|region| (region, store.file(shard, region)));
        drop(store);
        for (region, byte, block) in places {
            let file = &files.iter().find(|(of, _)| *of == region).unwrap().1;
            flip(file, byte);
            let found = faults(directory.path());
            assert_eq!(found.len(), 1, "{key}: {found:?}");
            let name = found[0].object.as_ref().unwrap();
            assert_eq!((&*name.bucket, &name.key[..]), ("bucket", key.as_bytes()));
            assert_eq!(
                (found[0].shard, found[0].region, found[0].offset),
                (Some(shard), Some(region), Some(block))
            );
            assert!(matches!(found[0].problem, Problem::Bytes { .. }), "{found:?}");
            flip(file, byte);
        }
    }
    assert_eq!(faults(directory.path()), []);
}

/// A file that is gone is a finding of its shard; the others are checked.
#[test]
fn a_missing_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    engine.close();
    std::fs::remove_file(directory.path().join("shard-002.data")).unwrap();
    let found = faults(directory.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].shard, Some(2));
    assert!(matches!(&found[0].problem, Problem::Unreadable(text) if text.contains("shard-002.data")));
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// While writers overwrite and delete, and checkpoints are taken, whoever looks finds every shard readable and no
/// byte wrong.
#[test]
fn a_store_in_use_has_no_false_faults() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("bucket", Bytes::new())).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (engine, stop) = (engine.clone(), &stop);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(writer);
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("{writer}/{}", rng.u8(..12));
                    block_on(async {
                        match rng.u8(..10) {
                            0 => drop(engine.delete("bucket", Delete::current(key.as_bytes())).await),
                            1 if writer == 0 => engine.checkpoint().await.unwrap(),
                            n => {
                                let size = if n < 7 { rng.usize(..100_000) } else { rng.usize(..3_000_000) };
                                let put =
                                    engine.put_bytes("bucket", key.as_bytes(), some_bytes(size, 1)).await;
                                assert!(matches!(put, Ok(_) | Err(crossdock::Error::Busy(_))), "{put:?}");
                            }
                        }
                    });
                }
            });
        }
        // Also when an assertion fails: the scope waits for its writers.
        let _stop = SetOnDrop(&stop);
        for _ in 0..12 {
            let store = Store::open(&[directory.path()], Access::Any).unwrap();
            assert!(store.is_in_use());
            for shard in 0..store.shard_count() {
                let image = store.read_shard(shard).unwrap();
                assert_eq!(image.hole(), None);
                let found = store.scrub_shard(&image, &ScrubOptions::default(), |_| true).unwrap();
                assert_eq!(found, []);
            }
        }
    });
    engine.close();
    assert_eq!(faults(directory.path()), []);
}

/// A store on one block device, where log and data share the zones of a window, is read and checked like any other.
#[test]
fn a_device_is_checked_like_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let device = directory.path().join("device");
    File::create(&device).unwrap().set_len(512 << 20).unwrap();
    let builder = || Engine::builder().path(&device).cores(2).shards(3).memory_bytes(64 << 20);
    let engine = builder().open().unwrap();
    fill(&engine);
    block_on(async {
        for round in 0..3 {
            for index in 0..40 {
                let key = format!("objects/round{index}");
                engine
                    .put_bytes("bucket", key.as_bytes(), some_bytes(100_000 * (index + round), 1))
                    .await
                    .unwrap();
            }
            engine.checkpoint().await.unwrap();
        }
    });
    let found = killed(directory.path());
    assert_eq!(faults(&found.path().join("device")), []);
    engine.close();
    assert_eq!(faults(&device), []);
    let store = settled(&device);
    let shard = store.shard_of("bucket", b"objects/65536");
    let object = store.read_shard(shard).unwrap();
    let object =
        object.objects().find(|object| object.key == b"objects/65536").unwrap().record.content.clone();
    let Content::Packed { place, .. } = object else { panic!("{object:?}") };
    let (_, offset) = store.log_place(shard, place).unwrap();
    assert_eq!(store.file(shard, Region::Log), device);
    drop(store);
    flip(&device, offset);
    let found = faults(&device);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].shard, found[0].offset), (Some(shard), Some(offset)));
}

/// A verification that was stopped goes on behind the last place it told, and never tells a place past what does not
/// hold: both halves together read every object, and find what is wrong.
#[test]
fn a_scrub_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    fill(&engine);
    let shard = engine.shard_of("bucket", b"objects/1");
    block_on(async {
        let keys = (0..)
            .map(|n| format!("small/{n:04}"))
            .filter(|key| engine.shard_of("bucket", key.as_bytes()) == shard);
        for (index, key) in keys.take(40).enumerate() {
            engine.put_bytes("bucket", key.as_bytes(), some_bytes(5000, index as u64)).await.unwrap();
        }
    });
    engine.close();
    let store = settled(directory.path());
    let image = store.read_shard(shard).unwrap();
    let places: Vec<Vec<u8>> = image.objects().map(|object| object.place.to_vec()).collect();
    let told: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let listen = |stop_after: usize| {
        let told = told.clone();
        move |progress: Progress<'_>| {
            if let Progress::Upto(place) = progress {
                told.borrow_mut().push(place.to_vec());
            }
            told.borrow().len() < stop_after
        }
    };
    assert_eq!(store.scrub_shard(&image, &ScrubOptions::default(), listen(10)).unwrap(), []);
    let last = told.borrow().last().cloned().unwrap();
    assert!(told.borrow().len() < places.len());
    let options = ScrubOptions { after: Some(last), ..ScrubOptions::default() };
    assert_eq!(store.scrub_shard(&image, &options, listen(usize::MAX)).unwrap(), []);
    assert_eq!(*told.borrow(), places);

    let bad = image.objects().find(|object| object.key.starts_with(b"small/")).unwrap();
    let (bad_key, bad_place) = (bad.key.clone(), bad.place.to_vec());
    let Content::Packed { place, .. } = bad.record.content else { panic!("packed") };
    let (region, offset) = store.log_place(shard, place).unwrap();
    let file = store.file(shard, region);
    flip(&file, offset);
    told.borrow_mut().clear();
    let found = store.scrub_shard(&image, &ScrubOptions::default(), listen(usize::MAX)).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].object.as_ref().unwrap().key, bad_key);
    assert!(told.borrow().iter().all(|place| *place < bad_place));
}
