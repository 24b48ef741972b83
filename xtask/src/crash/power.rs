//! The power of the disk is cut at random instants of a mixed load; each disk found afterwards is recovered.
//!
//! The server goes on while the image of a cut is taken, so that one load gives many cuts. What was acknowledged
//! before a cut must be in its image; what was begun after it can not be.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::disk::{Cut, Disk, FileSystem, Mounted, Served};
use super::load::{Journal, Load};
use super::record::Record;
use super::server::Server;
use super::uploads::{self, Uploads};
use super::verify::verify_found;
use super::{Run, faults_error, make_bucket};
use crate::clock;

/// The size of the disk. Its files are sparse: only what is written takes room.
const DISK_BYTES: u64 = 4 << 30;

/// A disk in service with a fresh file system on it. Fields are dropped in order: the mount before its disk.
struct Rig {
    mounted: Mounted,
    served: Served,
}

impl Rig {
    fn new(directory: &Path, system: FileSystem, size_bytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        let disk =
            Disk::new(directory, size_bytes).map_err(|error| format!("cannot make a disk: {error}"))?;
        let served = Served::mount(disk, &directory.join("disk"))?;
        let mounted = Mounted::format(served.path(), &directory.join("mounted"), system)?;
        Ok(Self { mounted, served })
    }

    fn cut(&self, image: &Path, cut: Cut) -> Result<usize, String> {
        self.served.disk().cut(image, cut).map_err(|error| format!("cannot take an image: {error}"))
    }
}

/// Cuts the power under two plain files, one synced and one not: the first must be there, the second must not.
/// A disk that forgets nothing would make every other test here pass.
pub(super) fn control(work: &Path, system: FileSystem) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot write to the disk: {error}");
    let directory = work.join(format!("control-{}", system.name()));
    let rig = Rig::new(&directory, system, 512 << 20)?;
    let write = |name: &str, sync: bool| {
        let mut file = File::create(rig.mounted.directory().join(name))?;
        file.write_all(&[7; 1 << 20])?;
        if sync {
            file.sync_all()?;
            File::open(rig.mounted.directory())?.sync_all()?;
        }
        Ok(())
    };
    write("synced", true).map_err(failed)?;
    write("not-synced", false).map_err(failed)?;
    // Overwritten in place and sent to the disk, but never flushed: only a volatile cache loses this.
    let uncached = rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::WRONLY;
    let path = rig.mounted.directory().join("synced");
    let file = rustix::fs::open(&path, uncached, rustix::fs::Mode::empty()).map_err(|e| failed(e.into()))?;
    let aligned = AlignedBlock([9; super::disk::SECTOR_BYTES]);
    rustix::io::pwrite(&file, &aligned.0, 0).map_err(|error| failed(error.into()))?;
    drop(file);
    let image = directory.join("cut.img");
    rig.cut(&image, Cut::LoseAll)?;
    drop(rig);

    let found = Mounted::open(&image, &directory.join("found"), system)?;
    let read = |name: &str| std::fs::read(found.directory().join(name)).unwrap_or_default();
    if read("synced") != [7; 1 << 20] {
        return Err("a file that was synced is damaged, or holds a write that was never flushed".to_owned());
    }
    if read("not-synced").contains(&7) {
        return Err("a file that was not synced survived: the disk forgets nothing".to_owned());
    }
    Ok("a synced file stayed, unsynced bytes went".to_owned())
}

/// Memory as O_DIRECT wants it.
#[repr(align(4096))]
struct AlignedBlock([u8; super::disk::SECTOR_BYTES]);

/// The image of one cut, and what it must hold.
struct Image {
    path: PathBuf,
    record: Record,
    /// Of the buckets that come and go.
    buckets: Record,
    /// Uploads that were open around the cut.
    uploads: Uploads,
    seed: u64,
    lost_count: usize,
}

/// Cuts the power `count` times under one load and recovers each image.
pub(super) fn cuts(run: &Run, system: FileSystem, count: u32) -> Result<String, String> {
    let directory = run.work.join(format!("power-{}", system.name()));
    let mut rng = Rng::with_seed(run.seed);
    let images = take_images(run, &directory, system, count, &mut rng)?;
    let (mut checked_count, mut cached_count) = (0, 0);
    for (index, image) in images.into_iter().enumerate() {
        let seed = image.seed;
        cached_count += image.lost_count;
        checked_count += recover(run, &directory, system, image)
            .map_err(|fault| format!("cut {} (seed {seed}): {fault}", index + 1))?;
    }
    Ok(format!(
        "{count} cuts with {cached_count} unflushed writes, {checked_count} values compared, 0 lost, 0 wrong (seed {})",
        run.seed
    ))
}

fn take_images(
    run: &Run,
    directory: &Path,
    system: FileSystem,
    count: u32,
    rng: &mut Rng,
) -> Result<Vec<Image>, String> {
    let rig = Rig::new(directory, system, DISK_BYTES)?;
    let server = Server::start(&run.program, &rig.mounted.directory().join("data"))?;
    make_bucket(server.address())?;
    let journal = Arc::new(Journal::default());
    let data = rig.mounted.directory().join("data");
    let load = Load::start(server.address(), &journal, rng.u64(..), Some(&data), false);
    let mut images = Vec::new();
    for index in 0..count {
        clock::pause(Duration::from_millis(rng.u64(100..1500)));
        let path = directory.join(format!("cut-{index}.img"));
        let seed = rng.u64(..);
        // Every other cut loses the whole cache: it finds a missing flush at once.
        let kind = if index % 2 == 0 { Cut::LoseAll } else { Cut::Mixed(seed) };
        let tick = || (journal.record().tick(), journal.buckets().tick());
        let (before, open_before) = (tick(), journal.uploads().clone());
        let lost_count = rig.cut(&path, kind)?;
        let (open_after, after) = (journal.uploads().clone(), tick());
        let record = journal.record().clone().into_cut(before.0, after.0);
        let buckets = journal.buckets().clone().into_cut(before.1, after.1);
        let uploads = uploads::into_cut(open_before, &open_after);
        println!(
            "cut {} ({kind:?}): {} operations so far, {} keys acknowledged, {} uploads open, {lost_count} writes not flushed",
            index + 1,
            journal.operation_count(),
            record.acknowledged_count(),
            uploads.len()
        );
        images.push(Image { path, record, buckets, uploads, seed, lost_count });
    }
    load.join();
    let faults = journal.take_faults();
    server.stop()?;
    faults_error("under the load", &faults)?;
    Ok(images)
}

/// Mounts an image, opens the store on it, and compares it with the record.
fn recover(run: &Run, directory: &Path, system: FileSystem, mut image: Image) -> Result<usize, String> {
    let found = Mounted::open(&image.path, &directory.join("found"), system)?;
    let data = found.directory().join("data");
    run.check_left_store(&data, "as the cut left it")?;
    let server = Server::start(&run.program, &data)?;
    let uploads = std::mem::take(&mut image.uploads);
    let outcome = verify_found(server.address(), &mut image.record, &mut image.buckets, uploads)?;
    server.stop()?;
    faults_error("after recovery", &outcome.faults)?;
    run.check_store(&data, "closed after recovery")?;
    drop(found);
    std::fs::remove_file(&image.path)
        .map_err(|error| format!("cannot remove {}: {error}", image.path.display()))?;
    Ok(outcome.checked_count)
}
