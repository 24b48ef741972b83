//! Files to objects, and objects to files.

use crate::{options::Location, session::Carrier, upload::Upload};
use crossdock_s3::client::{Client, Got, Way};
use crossdock_transport::exposure::Session;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Bytes asked for at a time: enough that the round trip does not count.
const PIECE_BYTES: usize = 64 << 20;

fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}");
    // The template is a constant that is good; and on no terminal nothing is drawn.
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

pub(crate) fn put<L: Carrier>(
    client: &mut Client,
    session: &Session<L>,
    memory: usize,
    path: &Path,
    target: &Location,
) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(named)?;
    let bytes = file.metadata().map_err(named)?.len();
    let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(PIECE_BYTES).min(memory);
    let mut buffer = session.buffer(piece).map_err(|error| error.to_string())?;
    let bar = progress(bytes);
    if bytes <= piece as u64 {
        file.read_exact(&mut buffer).map_err(named)?;
        let stored = client
            .put_from(&target.bucket, &target.key, &[], buffer, piece)
            .map_err(|failed| failed.error.to_string())?;
        bar.finish_and_clear();
        say::<L>("put", bytes, stored.way, stored.rail.as_deref());
        return Ok(());
    }
    let upload = Upload::begin(client, target)?;
    let result = upload.parts(client, &mut file, bytes, buffer, &bar);
    let result = result.and_then(|(parts, went)| upload.complete(client, &parts).map(|()| went));
    let (way, rail) = match result {
        Ok(went) => went,
        Err(error) => {
            // What was stored of it would stay for ever.
            upload.abort(client);
            return Err(error);
        }
    };
    bar.finish_and_clear();
    say::<L>("put", bytes, way, rail.as_deref());
    Ok(())
}

pub(crate) fn get<L: Carrier>(
    client: &mut Client,
    session: &Session<L>,
    memory: usize,
    source: &Location,
    path: &Path,
) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let object = format!("/{}/{}", source.bucket, crossdock_s3::protocol::auth::encode_path(&source.key));
    let head = client.exchange(crossdock_s3::protocol::http::Method::Head, &object, &[], &[]);
    let (head, _) = head.map_err(|error| error.to_string())?;
    if head.status != 200 {
        return Err(format!("{source}: status {}", head.status));
    }
    let bytes = head.get("content-length").and_then(|length| length.parse::<u64>().ok());
    let bytes = bytes.ok_or_else(|| format!("{source}: the server does not say how long it is"))?;
    let etag = head.get("etag").unwrap_or_default().to_owned();
    let mut file = Target::create(path).map_err(named)?;
    let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(PIECE_BYTES).min(memory);
    let mut buffer = session.buffer(piece).map_err(|error| error.to_string())?;
    let bar = progress(bytes);
    let (mut at, mut way, mut rail) = (0, Way::Transport, None);
    while at < bytes {
        let end = bytes.min(at + piece as u64);
        let got = client.get_into(&source.bucket, &source.key, Some(at..end), buffer);
        let Got { buffer: back, bytes: came, way: went, rail: over, head } =
            got.map_err(|failed| failed.error.to_string())?;
        if head.get("etag") != Some(&etag) {
            return Err(format!("{source} was replaced while it was read"));
        }
        file.file.write_all(back.get(..came).unwrap_or_default()).map_err(named)?;
        if came as u64 != end - at {
            return Err(format!("{source}: {came} bytes came where {} were to", end - at));
        }
        way = if went == Way::Transport { way } else { went };
        rail = over.or(rail);
        (buffer, at) = (back, end);
        bar.set_position(at);
    }
    file.finish().map_err(named)?;
    bar.finish_and_clear();
    say::<L>("got", bytes, way, rail.as_deref());
    Ok(())
}

/// A file that is to come. What is at its path stays there until it is whole.
struct Target {
    file: File,
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
            return Ok(Target { file: File::options().write(true).open(place)?, places: None });
        }
        let mut name = place.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let meanwhile = place.with_file_name(name);
        let file = File::create_new(&meanwhile)?;
        let target = Target { file, places: Some((meanwhile, place)) };
        if let Some(there) = there {
            target.file.set_permissions(there.permissions())?;
        }
        Ok(target)
    }

    /// It is whole, and takes its place.
    fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        let Some((meanwhile, place)) = &self.places else { return Ok(()) };
        fs::rename(meanwhile, place)?;
        self.places = None;
        Ok(())
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

fn say<L: Carrier>(what: &str, bytes: u64, way: Way, rail: Option<&str>) {
    match (way, rail) {
        (Way::Transport, None) => println!("{what} {bytes} bytes over {}", L::SPOKEN),
        (Way::Transport, Some(rail)) => {
            println!("{what} {bytes} bytes over {}, by the server's {rail}", L::SPOKEN);
        }
        (Way::Http(why), _) => println!("{what} {bytes} bytes over HTTP: {why}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]
mod tests {
    use super::*;
    use crossdock_s3::client::{Credentials, Policy};
    use crossdock_transport::shm::{ShmClient, ShmLink};
    use rustix::net::{SendFlags, send};
    use std::{net::TcpListener, os::fd::OwnedFd, os::unix::fs::PermissionsExt, thread};

    /// A server of one connection that answers each request with the next of these, and hangs up then.
    #[allow(clippy::disallowed_methods, reason = "a server beside the client that blocks")]
    fn scripted(replies: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for reply in replies {
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

    /// Memory that a server has which says nothing more.
    fn session() -> (Session<ShmLink>, OwnedFd) {
        let (memory, server) = ShmClient::pair(1 << 20).unwrap();
        send(&server, format!("session {:032x}", 7).as_bytes(), SendFlags::empty()).unwrap();
        let session = Session::new(ShmLink::new(memory));
        session.poll();
        (session, server)
    }

    fn fetch(replies: &[&'static str], path: &Path) -> Result<(), String> {
        let credentials =
            Credentials { access_key: "a".into(), secret: "b".into(), region: "us-east-1".into() };
        let mut client = Client::new(&scripted(replies.to_vec()), credentials, || 0).policy(Policy::Off);
        let (session, _server) = session();
        let source = Location { bucket: "b".to_owned(), key: "k".to_owned() };
        get(&mut client, &session, 1 << 20, &source, path)
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
