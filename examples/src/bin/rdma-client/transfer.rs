//! Files to objects, and objects to files.

use crate::{
    crew::Crew,
    options::{Location, Options},
    session::{self, Done, Means, Worker},
    upload::{PARTS_MAX, Upload},
};
use crossdock_s3::{
    client::{Policy, Way},
    protocol::{auth::encode_path, http::Method},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Bytes asked for at a time: enough that the round trip does not count.
const PIECE_BYTES: usize = 64 << 20;
/// Memory that a worker is worth having: S3 wants 5 MiB of the parts of an upload.
const WORKER_BYTES: usize = 8 << 20;

/// How many workers, and bytes of memory for each: all of it, divided by them.
fn divided(options: &Options, memory: usize) -> (usize, usize) {
    let count = options.jobs.clamp(1, (memory / WORKER_BYTES).max(1));
    // Of whole MiB there are whole pages, whichever they are, and buffers that are as large as the session.
    (count, (memory / count) >> 20 << 20)
}

/// Workers for so many pieces, whichever way there is: without a session over HTTP, unless that is not wanted. And why over HTTP.
fn hired(
    options: &Options,
    means: &Means,
    (count, memory): (usize, usize),
) -> Result<(Crew, Option<String>), String> {
    match Crew::hire(options, means, options.policy(), count, memory) {
        Ok(crew) => Ok((crew, None)),
        Err(reason) if options.policy() == Policy::Prefer => {
            let crew = Crew::hire(options, &Means::Http, Policy::Off, count, memory)?;
            Ok((crew, Some(reason)))
        }
        Err(reason) => Err(reason),
    }
}

/// How long the file is, if it says so. A pipe, a terminal or a device has a length of 0, and so do files that the kernel makes up as they
/// are read: what is in them is known at their end.
fn length(metadata: &Metadata) -> Option<u64> {
    Some(metadata.len()).filter(|bytes| metadata.is_file() && *bytes > 0)
}

/// Reads until the target is full or there is nothing more. How much came.
fn read_up_to(
    mut source: impl FnMut(usize, &mut [u8]) -> io::Result<usize>,
    target: &mut [u8],
) -> io::Result<usize> {
    let mut at = 0;
    while let Some(rest) = target.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match source(at, rest) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

/// A file that changes while it is read would be stored as it never was.
fn check_length(path: &Path, read: u64, length: Option<u64>) -> Result<(), String> {
    match length.filter(|length| *length != read) {
        Some(length) => {
            Err(format!("{}: it had {length} bytes, and {read} when they were read", path.display()))
        }
        None => Ok(()),
    }
}

fn progress(length: Option<u64>) -> ProgressBar {
    let Some(bytes) = length else { return ProgressBar::no_length() };
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}");
    // The template is a constant that is good; and on no terminal nothing is drawn.
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What workers do to one object together.
struct Shared<P> {
    /// Where the next of them goes on.
    place: Mutex<P>,
    /// One failed, and the others need not go on.
    has_failed: AtomicBool,
    bar: ProgressBar,
}

impl<P> Shared<P> {
    fn new(place: P, bar: &ProgressBar) -> Arc<Shared<P>> {
        Arc::new(Shared { place: Mutex::new(place), has_failed: AtomicBool::new(false), bar: bar.clone() })
    }

    fn place(&self) -> MutexGuard<'_, P> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Piece after piece, until there is none.
    fn work<T>(&self, mut piece: impl FnMut() -> Result<Option<T>, String>) -> Result<Vec<T>, String> {
        let mut done = Vec::new();
        while !self.has_failed.load(Ordering::Relaxed) {
            match piece() {
                Ok(Some(value)) => done.push(value),
                Ok(None) => break,
                Err(error) => {
                    self.has_failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    }
}

/// Which way all of them went: over HTTP, if one did.
fn ways<'a>(done: impl Iterator<Item = &'a Done>) -> (Option<Way>, Option<Box<str>>) {
    let (mut way, mut rail) = (None, None);
    for one in done {
        way = way.filter(|way| *way != Way::Transport).or(Some(one.way));
        rail = one.rail.clone().or(rail);
    }
    (way, rail)
}

/// A file that is being read.
struct Source {
    file: Arc<File>,
    length: Option<u64>,
    at: u64,
    /// Of the part that comes next, from 1.
    number: u16,
    /// Bytes of the first part, which the first worker has read.
    first: Option<usize>,
    is_over: bool,
}

/// Reads the next part into the worker's buffer: its number, and how long it is. None behind the end.
fn next_part(
    shared: &Shared<Source>,
    index: usize,
    worker: &mut dyn Worker,
) -> Result<Option<(u16, usize)>, String> {
    let failed = |error: io::Error| format!("the file: {error}");
    let mut source = shared.place();
    if index == 0
        && let Some(bytes) = source.first.take()
    {
        return Ok(Some((1, bytes)));
    }
    if source.is_over || source.length.is_some_and(|length| source.at >= length) {
        return Ok(None);
    }
    let target = worker.bytes()?;
    let number = source.number;
    if number > PARTS_MAX {
        let bytes = target.len();
        return Err(format!(
            "the file has more than {PARTS_MAX} parts of {bytes} bytes: give it more --memory"
        ));
    }
    let file = source.file.clone();
    let Some(length) = source.length else {
        // Whoever reads has it for itself.
        let bytes = read_up_to(|_, rest| (&*file).read(rest), target).map_err(failed)?;
        source.is_over = bytes < target.len();
        source.at += bytes as u64;
        source.number += u16::from(bytes > 0);
        return Ok((bytes > 0).then_some((number, bytes)));
    };
    let (at, room) = (source.at, target.len());
    let wanted = usize::try_from(length - at).unwrap_or(room).min(room);
    source.at += wanted as u64;
    source.number += 1;
    drop(source);
    let target = target.get_mut(..wanted).unwrap_or_default();
    let bytes = read_up_to(|done, rest| file.read_at(rest, at + done as u64), target).map_err(failed)?;
    match bytes == wanted {
        true => Ok(Some((number, bytes))),
        false => Err(format!("the file ended before its {length} bytes had been read")),
    }
}

pub(crate) fn put(
    options: &Options,
    means: &Means,
    memory: usize,
    path: &Path,
    target: &Location,
) -> Result<(), String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let file = Arc::new(File::open(path).map_err(named)?);
    let length = length(&file.metadata().map_err(named)?);
    let (count, memory) = divided(options, memory);
    let room = PIECE_BYTES.min(memory);
    // Of a length that is known one more is room to find out that it has grown.
    let piece = length.map_or(room, |bytes| usize::try_from(bytes + 1).unwrap_or(room).min(room));
    let needed = length.map_or(count, |bytes| usize::try_from(bytes / piece as u64 + 1).unwrap_or(count));
    let (crew, fallback) = hired(options, means, (count.min(needed), memory))?;
    let bar = progress(length);
    let (read, shown) = (file.clone(), path.display().to_string());
    let first = crew.first(move |worker| {
        worker.prepare(piece)?;
        let read = read_up_to(|_, rest| (&*read).read(rest), worker.bytes()?);
        read.map_err(|error| format!("{shown}: {error}"))
    })?;
    if first < piece {
        check_length(path, first as u64, length)?;
        let object = target.clone();
        let done = crew.first(move |worker| worker.put((&object.bucket, &object.key), first))?;
        bar.finish_and_clear();
        say("put", first as u64, &crew, ways([done].iter()), fallback);
        return Ok(());
    }
    let mut client = session::plain(options, Policy::Off)?;
    let upload = Upload::begin(&mut client, target)?;
    let whole = file.clone();
    let source = Source { file, length, at: first as u64, number: 2, first: Some(first), is_over: false };
    let stored = put_parts(&crew, piece, target, upload.id(), &Shared::new(source, &bar));
    let stored = stored.and_then(|(parts, at)| {
        let now = whole.metadata().ok().filter(|_| length.is_some()).map_or(at, |now| now.len());
        check_length(path, now, length)?;
        let tags: Vec<&str> = parts.iter().map(|(_, done)| &*done.etag).collect();
        upload.complete(&mut client, &tags)?;
        Ok((parts.iter().map(|(_, done)| done.bytes as u64).sum(), ways(parts.iter().map(|(_, done)| done))))
    });
    match stored {
        Ok((bytes, went)) => {
            bar.finish_and_clear();
            say("put", bytes, &crew, went, fallback);
            Ok(())
        }
        Err(error) => {
            // What was stored of it would stay for ever.
            upload.abort(&mut client);
            Err(error)
        }
    }
}

/// Stores the parts, side by side; they, in order, and how far the file was read.
#[allow(clippy::type_complexity)]
fn put_parts(
    crew: &Crew,
    piece: usize,
    target: &Location,
    upload: &str,
    shared: &Arc<Shared<Source>>,
) -> Result<(Vec<(u16, Done)>, u64), String> {
    let (object, upload, together) = (target.clone(), upload.to_owned(), shared.clone());
    let parts = crew.each(crew.len(), move |index, worker| {
        if index > 0 {
            worker.prepare(piece)?;
        }
        together.work(|| {
            let Some((number, bytes)) = next_part(&together, index, worker)? else { return Ok(None) };
            let done = worker.put_part((&object.bucket, &object.key), &upload, number, bytes)?;
            together.bar.inc(bytes as u64);
            Ok(Some((number, done)))
        })
    });
    let mut all = Vec::new();
    for parts in parts {
        all.extend(parts?);
    }
    all.sort_unstable_by_key(|(number, _)| *number);
    let at = shared.place().at;
    Ok((all, at))
}

pub(crate) fn get(
    options: &Options,
    means: &Means,
    memory: usize,
    source: &Location,
    path: &Path,
) -> Result<(), String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let mut client = session::plain(options, Policy::Off)?;
    let object = format!("/{}/{}", source.bucket, encode_path(&source.key));
    let (head, _) = client.exchange(Method::Head, &object, &[], &[]).map_err(|error| error.to_string())?;
    if head.status != 200 {
        return Err(format!("{source}: status {}", head.status));
    }
    let bytes = head.get("content-length").and_then(|length| length.parse::<u64>().ok());
    let bytes = bytes.ok_or_else(|| format!("{source}: the server does not say how long it is"))?;
    let etag = head.get("etag").unwrap_or_default().to_owned();
    let file = Target::create(path).map_err(named)?;
    let (count, memory) = divided(options, memory);
    let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(PIECE_BYTES).min(memory).max(1);
    let needed = usize::try_from(bytes.div_ceil(piece as u64)).unwrap_or(count);
    // What is no file takes bytes in their order.
    let count = if file.is_seekable() { count.min(needed) } else { 1 };
    let (crew, fallback) = hired(options, means, (count, memory))?;
    let bar = progress(Some(bytes));
    let shared = Shared::new(0, &bar);
    let (wanted, together, writer) = (source.clone(), shared.clone(), file.writer());
    let pieces = crew.each(crew.len(), move |_, worker| {
        worker.prepare(piece)?;
        together.work(|| {
            let range = {
                let mut at = together.place();
                let begin = *at;
                *at = bytes.min(begin + piece as u64);
                begin..*at
            };
            if range.is_empty() {
                return Ok(None);
            }
            let done = worker.get((&wanted.bucket, &wanted.key), Some(range.clone()))?;
            if done.etag != etag {
                return Err(format!("{wanted} was replaced while it was read"));
            }
            let length = range.end - range.start;
            if done.bytes as u64 != length {
                return Err(format!("{wanted}: {} bytes came where {length} were to", done.bytes));
            }
            let came = worker.bytes()?.get(..done.bytes).unwrap_or_default();
            writer.write(came, range.start).map_err(|error| format!("the file: {error}"))?;
            together.bar.inc(length);
            Ok(Some(done))
        })
    });
    let mut all = Vec::new();
    for pieces in pieces {
        all.extend(pieces?);
    }
    file.finish().map_err(named)?;
    bar.finish_and_clear();
    say("got", bytes, &crew, ways(all.iter()), fallback);
    Ok(())
}

/// A file that is to come. What is at its path stays there until it is whole.
struct Target {
    file: Arc<File>,
    /// Where it is meanwhile, and where it goes. None of what is no file, as a pipe, and is written as it is.
    places: Option<(PathBuf, PathBuf)>,
}

impl Target {
    fn create(path: &Path) -> io::Result<Target> {
        // What a link leads to is replaced, and not the link.
        let place = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            found => found?,
        };
        let there = match place.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            found => Some(found?),
        };
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let file = Arc::new(File::options().write(true).open(place)?);
            return Ok(Target { file, places: None });
        }
        let mut name = place.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let meanwhile = place.with_file_name(name);
        let file = Arc::new(File::create_new(&meanwhile)?);
        let target = Target { file, places: Some((meanwhile, place)) };
        if let Some(there) = there {
            target.file.set_permissions(there.permissions())?;
        }
        Ok(target)
    }

    /// Whether its bytes may come in any order.
    fn is_seekable(&self) -> bool {
        self.places.is_some()
    }

    fn writer(&self) -> Writer {
        Writer { file: self.file.clone(), is_seekable: self.is_seekable() }
    }

    /// It is whole, and takes its place.
    fn finish(mut self) -> io::Result<()> {
        let Some((meanwhile, place)) = &self.places else { return Ok(()) };
        // What was there before goes only once what comes is on the disk.
        File::open(meanwhile)?.sync_all()?;
        fs::rename(meanwhile, place)?;
        self.places = None;
        Ok(())
    }
}

/// Writes to the file that is to come.
struct Writer {
    file: Arc<File>,
    is_seekable: bool,
}

impl Writer {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.is_seekable { self.file.write_all_at(bytes, at) } else { (&*self.file).write_all(bytes) }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((meanwhile, _)) = &self.places
            && let Err(error) = fs::remove_file(meanwhile)
        {
            eprintln!("rdma-client: {}: {error}", meanwhile.display());
        }
    }
}

/// What was done, and which way. Nothing goes no way: then it is told which way it would have gone.
fn say(
    what: &str,
    bytes: u64,
    crew: &Crew,
    (way, rail): (Option<Way>, Option<Box<str>>),
    fallback: Option<String>,
) {
    let spoken = crew.means().spoken();
    match (way, fallback, rail) {
        (_, Some(why), _) => println!("{what} {bytes} bytes over HTTP: {why}"),
        (Some(Way::Http(why)), None, _) => println!("{what} {bytes} bytes over HTTP: {why}"),
        (_, None, Some(rail)) => println!("{what} {bytes} bytes over {spoken}, by the server's {rail}"),
        (_, None, None) => println!("{what} {bytes} bytes over {spoken}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]
mod tests {
    use super::*;
    use clap::Parser;
    use std::{net::TcpListener, os::unix::fs::PermissionsExt, thread};

    /// A server that answers each connection with the next of these.
    #[allow(clippy::disallowed_methods, reason = "a server beside the client that blocks")]
    fn scripted(replies: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for reply in replies {
                let (mut stream, _) = listener.accept().unwrap();
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    seen.push(byte[0]);
                }
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        address
    }

    fn fetch(replies: &[&'static str], path: &Path) -> Result<(), String> {
        let server = scripted(replies.to_vec());
        let file = path.to_str().unwrap();
        let line =
            ["rdma-client", "--access-key=a", "--secret-key=b", "--server", &server, "get", "s3://b/k", file];
        let options = Options::parse_from(line);
        let source = Location { bucket: "b".to_owned(), key: "k".to_owned() };
        get(&options, &Means::Http, 1 << 20, &source, path)
    }

    #[test]
    fn memory_is_divided_into_whole_mebibytes() {
        // Shows that nobody has less than a worker is worth having, unless there is less, and that all of them have no more than there is.
        for (jobs, mebibytes, expected) in
            [("4", 64, (4, 16)), ("3", 64, (3, 21)), ("8", 16, (2, 8)), ("0", 64, (1, 64)), ("4", 1, (1, 1))]
        {
            let line =
                ["rdma-client", "--access-key=a", "--secret-key=b", "--jobs", jobs, "get", "s3://b/k", "f"];
            let (count, bytes) = divided(&Options::parse_from(line), mebibytes << 20);
            assert_eq!((count, bytes), (expected.0, expected.1 << 20), "{jobs} of {mebibytes}");
        }
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 3\r\n\r\n";
    const BODY: &str =
        "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-2/3\r\nContent-Length: 3\r\n\r\nnew";

    #[test]
    fn a_file_is_replaced_by_a_whole_object_only() {
        // Shows that whatever goes wrong, a length that is not said among it, the file that was there stays as it was, and nothing beside it
        // is left; and that one that is replaced keeps its permissions, also behind a link.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let unsaid = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nTransfer-Encoding: chunked\r\n\r\n";
        let failed = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
        let cut =
            "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-2/3\r\nContent-Length: 3\r\n\r\nne";
        for replies in [&[failed][..], &[unsaid], &[HEAD, failed], &[HEAD, cut]] {
            fetch(replies, &link).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), "old", "{replies:?}");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "{replies:?}");
        }
        fetch(&[HEAD, BODY], &link).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        fetch(&[HEAD, BODY], &directory.path().join("another")).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        // What is no file is written as it is.
        fetch(&[HEAD, BODY], Path::new("/dev/null")).unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
