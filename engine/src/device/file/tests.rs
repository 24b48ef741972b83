use super::{super::conformance, *};
use crossdock_transport::ring::{DriverChoice, RingOptions};
use std::{path::Path, time::Duration};

fn create(directory: &Path, name: &str) -> OpenFile {
    let file = OpenFile::create(&directory.join(name)).unwrap();
    file.truncate(conformance::BYTES).unwrap();
    file
}

/// Runs the suite through one driver, in a directory.
fn conforms(driver: DriverChoice, directory: &Path) {
    let ring = match Ring::new(&RingOptions { driver, depth: 16 }) {
        Ok(ring) => ring,
        Err(error) => {
            eprintln!("SKIPPED: no ring of kind {driver:?} here: {error}");
            return;
        }
    };
    let device = create(directory, "file").on(&ring).unwrap();
    let mut turn = || {
        ring.park(Some(Duration::from_millis(10)));
    };
    conformance::check(&device, &mut turn, false);
}

#[test]
fn it_conforms_through_io_uring() {
    // Shows that the suite of all devices holds for a file on the disk, with O_DIRECT where there is one.
    conforms(DriverChoice::IoUring, tempfile::tempdir().unwrap().path());
}

#[test]
fn it_conforms_through_the_portable_driver() {
    // Shows the same where io_uring is forbidden.
    conforms(DriverChoice::Portable, tempfile::tempdir().unwrap().path());
}

#[test]
fn it_conforms_on_tmpfs() {
    // Shows the same on a file system in memory, which before Linux 6.6 refuses O_DIRECT.
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: there is no /dev/shm");
        return;
    };
    conforms(DriverChoice::Best, directory.path());
}

#[test]
fn a_store_is_open_once() {
    // Shows that the second lock is refused with the name of the file, and that it is free when the first is gone.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("superblock");
    OpenFile::create(&path).unwrap();
    let lock = StoreLock::acquire(&path).unwrap();
    let error = StoreLock::acquire(&path).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { path: locked } if *locked == path), "{error}");
    assert!(error.to_string().contains("superblock"));
    drop(lock);
    StoreLock::acquire(&path).unwrap();
}

#[test]
fn what_can_not_be_opened_is_named() {
    // Shows the error of a missing file, of one that is there already, and of what is no file.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing");
    let error = OpenFile::open(&path).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    OpenFile::create(&path).unwrap();
    assert!(matches!(OpenFile::create(&path), Err(OpenError::System { action: "open", .. })));
    let character_device = OpenFile::open(Path::new("/dev/null")).unwrap_err();
    assert!(matches!(character_device, OpenError::Kind { .. }), "{character_device}");
    // A directory can be locked as a whole: that is how a store of several files is.
    let lock = StoreLock::acquire(directory.path()).unwrap();
    assert!(matches!(StoreLock::acquire(directory.path()), Err(OpenError::Locked { .. })));
    drop(lock);
    sync_directory(directory.path()).unwrap();
    assert!(sync_directory(&path).is_err());
}

#[test]
fn growth_is_seen_through_every_handle() {
    // Shows that a core learns of another's growth when it writes there.
    let directory = tempfile::tempdir().unwrap();
    let file = create(directory.path(), "file");
    let known = file.bytes_for(1);
    let other = OpenFile::open(&directory.path().join("file")).unwrap();
    other.truncate(2 * known).unwrap();
    assert_eq!(file.bytes_for(known), known);
    assert_eq!(file.bytes_for(known + 1), 2 * known);
}

#[test]
fn direct_access_is_what_the_kernel_says() {
    // Shows that the geometry tells whether the page cache is bypassed, on a disk and in memory.
    for directory in ["/tmp", "/dev/shm"] {
        let Ok(directory) = tempfile::tempdir_in(directory) else {
            eprintln!("SKIPPED: there is no {directory}");
            continue;
        };
        let file = create(directory.path(), "file");
        let flags = rustix::fs::fcntl_getfl(file.duplicate().unwrap()).unwrap();
        assert_eq!(flags.contains(rustix::fs::OFlags::DIRECT), file.geometry().direct);
        println!("{}: {:?}", directory.path().display(), file.geometry());
    }
}

/// A loop device over a file; gone when dropped.
struct LoopDevice(std::path::PathBuf);

impl LoopDevice {
    fn attach(file: &Path) -> Option<LoopDevice> {
        let output =
            std::process::Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| LoopDevice(name.trim().into()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_block_device_has_its_length_and_keeps_it() {
    // Shows length, reads, writes and syncs on a block device, that it can not grow, and that it can be locked.
    let directory = tempfile::tempdir().unwrap();
    create(directory.path(), "image");
    let Some(attached) = LoopDevice::attach(&directory.path().join("image")) else {
        eprintln!("SKIPPED: no loop device can be made here");
        return;
    };
    let Ok(ring) = Ring::new(&RingOptions { driver: DriverChoice::Best, depth: 16 }) else {
        eprintln!("SKIPPED: no ring here");
        return;
    };
    let _lock = StoreLock::acquire(&attached.0).unwrap();
    let device = OpenFile::open(&attached.0).unwrap().on(&ring).unwrap();
    let geometry = device.geometry();
    assert_eq!((geometry.bytes, geometry.growable), (conformance::BYTES, false));
    let mut turn = || {
        ring.park(Some(Duration::from_millis(10)));
    };
    let mut bench = conformance::Bench { device: &device, pool: conformance::pool(), turn: &mut turn };
    assert_eq!(bench.write(4096, &[1, 2], Durability::Durable), Ok(8192));
    assert_eq!(bench.sync(), Ok(0));
    assert_eq!(bench.blocks(0, 4), [0, 1, 2, 0]);
    assert_eq!(bench.grow(2 * conformance::BYTES), Err(OsError(Errno::OPNOTSUPP.raw_os_error())));
    assert_eq!(
        bench.write(conformance::BYTES, &[1], Durability::Buffered),
        Err(OsError(Errno::NOSPC.raw_os_error()))
    );
}
