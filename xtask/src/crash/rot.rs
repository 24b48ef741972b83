//! One bit of a closed store is flipped; the store is opened and everything in it is read.
//!
//! What must hold: no wrong byte is served, no object is said to be absent, and at most one object is harmed. A
//! reply with an error, or one that breaks off, is the right answer for that one. What harms an object, `crossdock fsck`
//! finds before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::client::{Client, Reply, sha256, value_of};
use super::load::BUCKET;
use super::record::Value;
use super::server::Server;
use super::verify::list;
use super::{Run, faults_error, make_bucket};
use crate::command::Line;

const BLOCK_BYTES: usize = 4096;

/// Sizes of every placement, several of each.
const SIZES: &[usize] =
    &[1, 100, 1000, 1024, 1025, 4096, 10_000, 65_536, 200_000, 262_144, 262_145, 1 << 20, 3 << 20];
const OBJECTS_OF_A_SIZE: usize = 4;

/// Flips `count` bits, one at a time, each in a fresh copy of the same store.
pub(super) fn flips(run: &Run, count: u32) -> Result<String, String> {
    let sound = run.work.join("rot-sound");
    let mut rng = Rng::with_seed(run.seed);
    let objects = make_store(run, &sound, &mut rng)?;
    let (mut harmed_count, mut refused_count, mut found_count) = (0, 0, 0);
    for flip in 1..=count {
        let data = run.work.join("rot-data");
        copy(&sound, &data)?;
        let place = flip_bit(&data, &mut rng).map_err(|error| format!("cannot flip a bit: {error}"))?;
        let failed = |fault: String| format!("flip {flip}, {place}: {fault}");
        // Before the server, which mends what it can.
        let found = run.finds_fault(&data)?;
        let server = match Server::start(&run.program, &data) {
            Ok(server) => server,
            Err(said) => {
                // One bit must not take a whole store away.
                refused_count += 1;
                println!("flip {flip}, {place}: the store does not open: {said}");
                continue;
            }
        };
        let outcome = read_all(&server, &objects).map_err(failed)?;
        let _ = server.stop();
        faults_error(&format!("flip {flip}, {place}"), &outcome.faults)?;
        harmed_count += usize::from(outcome.harmed > 0);
        if outcome.harmed > 0 && found == Some(false) {
            return Err(failed("crossdock fsck finds nothing wrong, but an object is harmed".to_owned()));
        }
        found_count += usize::from(found == Some(true));
        if outcome.harmed > 1 {
            return Err(failed(format!("{} objects are harmed by one bit", outcome.harmed)));
        }
    }
    if refused_count > 0 {
        return Err(format!("{refused_count} of {count} flipped bits keep the store from opening"));
    }
    Ok(format!(
        "{count} flips over {} objects, {harmed_count} reported as damage, the rest harmless, 0 wrong bytes, {found_count} found by fsck (seed {})",
        objects.len(),
        run.seed
    ))
}

fn make_store(run: &Run, data: &Path, rng: &mut Rng) -> Result<BTreeMap<String, Value>, String> {
    let server = Server::start(&run.program, data)?;
    make_bucket(server.address())?;
    let failed = |error: io::Error| format!("cannot fill the store: {error}");
    let mut client = Client::connect(server.address()).map_err(failed)?;
    let mut objects = BTreeMap::new();
    for (index, size) in SIZES.iter().flat_map(|size| [size; OBJECTS_OF_A_SIZE]).enumerate() {
        let mut body = vec![0; *size];
        rng.fill(&mut body);
        let key = format!("object-{index:03}");
        let reply = client.call("PUT", &format!("/{BUCKET}/{key}"), "", &body).map_err(failed)?;
        if reply.status != 200 {
            return Err(format!("cannot fill the store: status {}", reply.status));
        }
        objects.insert(key, Value::Present { bytes: body.len() as u64, sha256: sha256(&body) });
    }
    server.stop()?;
    Ok(objects)
}

fn copy(source: &Path, target: &Path) -> Result<(), String> {
    if target.exists() {
        std::fs::remove_dir_all(target)
            .map_err(|error| format!("cannot clear {}: {error}", target.display()))?;
    }
    let done = Line::new("cp", Path::new("/"))
        .args(["--recursive", "--sparse=always", "--reflink=auto"])
        .args([source, target])
        .run_quiet()?;
    if done.success { Ok(()) } else { Err(format!("cp: {}", done.output)) }
}

/// Flips a bit in a block that holds something, and says where.
fn flip_bit(data: &Path, rng: &mut Rng) -> io::Result<String> {
    let mut files = Vec::new();
    collect(data, &mut files)?;
    let total: u64 = files.iter().map(|(_, bytes)| *bytes).sum();
    loop {
        // Each byte of the store is as likely as any other, until one lies in a block that is not empty.
        let mut place = rng.u64(0..total.max(1));
        let Some((path, _)) = files.iter().find(|(_, bytes)| {
            let inside = place < *bytes;
            place -= if inside { 0 } else { *bytes };
            inside
        }) else {
            return Err(io::Error::other("the store holds no bytes"));
        };
        let file = File::options().read(true).write(true).open(path)?;
        let mut block = [0; BLOCK_BYTES];
        let block_offset = place - place % BLOCK_BYTES as u64;
        let length = file.read_at(&mut block, block_offset)?;
        let inside = usize::try_from(place - block_offset).map_err(io::Error::other)?;
        let Some(byte) = block.get(..length).and_then(|block| block.get(inside)).copied() else { continue };
        if block.iter().all(|&byte| byte == 0) {
            continue;
        }
        let bit = rng.u32(0..8);
        file.write_all_at(&[byte ^ (1 << bit)], place)?;
        let name = path.strip_prefix(data).unwrap_or(path).display();
        return Ok(format!("bit {bit} of byte {place} of {name}"));
    }
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Outcome {
    harmed: usize,
    faults: Vec<String>,
}

fn read_all(server: &Server, objects: &BTreeMap<String, Value>) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    for (key, value) in objects {
        // A reply that broke off leaves the connection useless: a fresh one for each object.
        let reply = Client::connect(server.address())
            .map_err(|error| format!("the server is gone: {error}"))?
            .call("GET", &format!("/{BUCKET}/{key}"), "", &[]);
        match judge(reply, *value) {
            Verdict::Whole => {}
            Verdict::Reported => outcome.harmed += 1,
            Verdict::Fault(fault) => outcome.faults.push(format!("GET {key}: {fault}")),
        }
    }
    let mut client =
        Client::connect(server.address()).map_err(|error| format!("the server is gone: {error}"))?;
    // A list may fail, with an error; a list that is answered is complete.
    if let Ok(listed) = list(&mut client) {
        let missing = objects.keys().filter(|key| !listed.contains(*key));
        outcome.faults.extend(missing.map(|key| format!("LIST: {key} is left out")));
    }
    Ok(outcome)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    /// An error was answered, or the body broke off.
    Reported,
    Fault(String),
}

fn judge(reply: io::Result<Reply>, expected: Value) -> Verdict {
    let Ok(reply) = reply else { return Verdict::Reported };
    match value_of(&reply) {
        Ok(found) if found == expected => Verdict::Whole,
        Ok(Value::Absent) => Verdict::Fault("said to be absent".to_owned()),
        Ok(found) => Verdict::Fault(format!("wrong bytes: {found:?} instead of {expected:?}")),
        Err(_) if reply.status >= 500 => Verdict::Reported,
        Err(error) => Verdict::Fault(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_must_be_reported_and_never_served() {
        // The right bytes and a reported error are fine; other bytes, absence and a client's error are not.
        let expected = Value::Present { bytes: 1, sha256: sha256(b"x") };
        let reply = |status, body: &[u8]| Ok(Reply { status, etag: None, body: body.to_vec() });
        assert_eq!(judge(reply(200, b"x"), expected), Verdict::Whole);
        assert_eq!(judge(reply(500, b"<Code>InternalError</Code>"), expected), Verdict::Reported);
        assert_eq!(judge(Err(io::ErrorKind::UnexpectedEof.into()), expected), Verdict::Reported);
        for fault in [reply(200, b"y"), reply(404, b""), reply(403, b"")] {
            assert!(matches!(judge(fault, expected), Verdict::Fault(_)));
        }
    }

    #[test]
    fn one_bit_is_flipped() {
        // Of all files exactly one bit differs afterwards, and it lies in a block that held something.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep");
        std::fs::create_dir(&path).unwrap();
        let before = [vec![0; BLOCK_BYTES], vec![3; BLOCK_BYTES], vec![0; BLOCK_BYTES]].concat();
        std::fs::write(path.join("file"), &before).unwrap();
        flip_bit(directory.path(), &mut Rng::with_seed(3)).unwrap();
        let after = std::fs::read(path.join("file")).unwrap();
        let differing: Vec<(usize, u32)> = before
            .iter()
            .zip(&after)
            .enumerate()
            .filter(|(_, (old, new))| old != new)
            .map(|(index, (old, new))| (index, (old ^ new).count_ones()))
            .collect();
        assert!(
            matches!(differing.as_slice(), [(index, 1)] if (BLOCK_BYTES..2 * BLOCK_BYTES).contains(index))
        );
    }
}
