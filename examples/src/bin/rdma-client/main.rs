//! An S3 client whose bytes go past HTTP: over memory shared with a server on this host.
//!
//! ```text
//! rdma-client --shm /run/crossdock.shm put holiday.jpg s3://photos/holiday.jpg
//! rdma-client --shm /run/crossdock.shm get s3://photos/holiday.jpg holiday.jpg
//! rdma-client --shm /run/crossdock.shm bench s3://photos/
//! ```

mod bench;
mod options;

use clap::Parser;
use crossdock_s3::client::{Client, Credentials, Got, Policy, Way};
use crossdock_transport::{
    exposure::{Buffer, Session},
    shm::{ShmClient, ShmLink, same_user_or_root},
};
use indicatif::{ProgressBar, ProgressStyle};
use options::{Command, Location, Options};
use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// Bytes asked for at a time: enough that the round trip does not count.
const PIECE_BYTES: usize = 64 << 20;
/// How long the server may take to name a session.
const NAMED_WITHIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("rdma-client: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let memory = options.memory_bytes()?;
    match &options.command {
        Command::Put { file, target } => {
            let target = target.for_file(file)?;
            let (mut client, session) = connect(options, memory)?;
            put(&mut client, &session, memory, file, &target)
        }
        Command::Get { source, file } => {
            let (mut client, session) = connect(options, memory)?;
            get(&mut client, &session, memory, source, file)
        }
        Command::Bench(wanted) => bench::run(options, wanted, memory),
    }
}

#[allow(clippy::disallowed_methods, reason = "a command has the system's clock")]
fn now() -> u64 {
    // Before 1970 no signature is good anyway.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A client without a session: its bytes go over HTTP.
fn plain(options: &Options, policy: Policy) -> Client {
    let credentials = Credentials {
        access_key: options.access_key.as_str().into(),
        secret: options.secret_key.as_str().into(),
        region: options.region.as_str().into(),
    };
    Client::new(&options.server.to_string(), credentials, now).policy(policy)
}

/// A client, and a session of it with `memory` bytes.
fn connect(options: &Options, memory: usize) -> Result<(Client, Session<ShmLink>), String> {
    let mut client = plain(options, options.policy());
    let path = options.shm.display();
    let shared = ShmClient::connect(&options.shm, memory as u64, same_user_or_root)
        .map_err(|error| format!("no shared memory with the server at {path}: {error}"))?;
    let session = Session::new(ShmLink::new(shared));
    let steps = 50;
    for _ in 0..steps {
        session.poll();
        if session.link().session().is_some() || !session.is_open() {
            break;
        }
        session.wait(NAMED_WITHIN / steps).map_err(|error| format!("{path}: {error}"))?;
    }
    let name = session.link().session().ok_or(format!("the server at {path} takes no session"))?;
    client.bind(name).map_err(|error| format!("the session could not be bound: {error}"))?;
    Ok((client, session))
}

fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}");
    // The template is a constant that is good; and on no terminal nothing is drawn.
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn put(
    client: &mut Client,
    session: &Session<ShmLink>,
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
        say("put", bytes, stored.way);
        return Ok(());
    }
    let upload = Upload::begin(client, target)?;
    let result = upload.parts(client, &mut file, bytes, buffer, &bar);
    let way = match result.and_then(|(parts, way)| upload.complete(client, &parts).map(|()| way)) {
        Ok(way) => way,
        Err(error) => {
            // What was stored of it would stay for ever.
            upload.abort(client);
            return Err(error);
        }
    };
    bar.finish_and_clear();
    say("put", bytes, way);
    Ok(())
}

fn get(
    client: &mut Client,
    session: &Session<ShmLink>,
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
    let bytes: u64 = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    let etag = head.get("etag").unwrap_or_default().to_owned();
    let mut file = File::create(path).map_err(named)?;
    let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(PIECE_BYTES).min(memory);
    let mut buffer = session.buffer(piece).map_err(|error| error.to_string())?;
    let bar = progress(bytes);
    let (mut at, mut way) = (0, Way::Transport);
    while at < bytes {
        let end = bytes.min(at + piece as u64);
        let got = client.get_into(&source.bucket, &source.key, Some(at..end), buffer);
        let Got { buffer: back, bytes: came, way: went, head } =
            got.map_err(|failed| failed.error.to_string())?;
        if head.get("etag") != Some(&etag) {
            return Err(format!("{source} was replaced while it was read"));
        }
        file.write_all(back.get(..came).unwrap_or_default()).map_err(named)?;
        if came as u64 != end - at {
            return Err(format!("{source}: {came} bytes came where {} were to", end - at));
        }
        way = if went == Way::Transport { way } else { went };
        (buffer, at) = (back, end);
        bar.set_position(at);
    }
    bar.finish_and_clear();
    say("got", bytes, way);
    Ok(())
}

fn say(what: &str, bytes: u64, way: Way) {
    match way {
        Way::Transport => println!("{what} {bytes} bytes over shared memory"),
        Way::Http(why) => println!("{what} {bytes} bytes over HTTP: {why}"),
    }
}

/// An upload in parts.
struct Upload<'a> {
    target: &'a Location,
    path: String,
    id: String,
}

impl<'a> Upload<'a> {
    fn begin(client: &mut Client, target: &'a Location) -> Result<Upload<'a>, String> {
        let path = format!("/{}/{}", target.bucket, crossdock_s3::protocol::auth::encode_path(&target.key));
        let id = exchange(client, &format!("{path}?uploads="), b"")?;
        let id = id.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
        let id = id.ok_or("the server began no upload")?.0.to_owned();
        Ok(Upload { target, path, id })
    }

    fn parts(
        &self,
        client: &mut Client,
        file: &mut File,
        bytes: u64,
        mut buffer: Buffer<ShmLink>,
        bar: &ProgressBar,
    ) -> Result<(Vec<String>, Way), String> {
        let (mut tags, mut at, mut way) = (Vec::new(), 0, Way::Transport);
        while at < bytes {
            let number = u16::try_from(tags.len() + 1).map_err(|_| "the file has too many parts")?;
            let now = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(buffer.len());
            let target = buffer.get_mut(..now).unwrap_or_default();
            file.read_exact(target).map_err(|error| format!("the file: {error}"))?;
            let object = (&*self.target.bucket, &*self.target.key);
            let stored = client.put_part_from(object, &self.id, number, buffer, now);
            let stored = stored.map_err(|failed| failed.error.to_string())?;
            tags.push(stored.head.get("etag").unwrap_or_default().to_owned());
            way = if stored.way == Way::Transport { way } else { stored.way };
            buffer = stored.buffer;
            at += now as u64;
            bar.set_position(at);
        }
        Ok((tags, way))
    }

    fn complete(&self, client: &mut Client, tags: &[String]) -> Result<(), String> {
        let parts = tags.iter().zip(1..).map(|(tag, number)| {
            let tag = tag.replace('"', "&quot;");
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        });
        let document =
            format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>());
        let id = crossdock_s3::protocol::auth::encode_query(&self.id);
        exchange(client, &format!("{}?uploadId={id}", self.path), document.as_bytes()).map(drop)
    }

    fn abort(&self, client: &mut Client) {
        let id = crossdock_s3::protocol::auth::encode_query(&self.id);
        let path = format!("{}?uploadId={id}", self.path);
        let aborted = client.exchange(crossdock_s3::protocol::http::Method::Delete, &path, &[], &[]);
        if !matches!(&aborted, Ok((head, _)) if head.status == 204) {
            eprintln!("rdma-client: the upload {} of {} is left behind", self.id, self.target);
        }
    }
}

/// POSTs, and gives the document of a success.
fn exchange(client: &mut Client, path: &str, body: &[u8]) -> Result<String, String> {
    let (head, document) = client
        .exchange(crossdock_s3::protocol::http::Method::Post, path, &[], body)
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&document).into_owned();
    // A completion may answer 200 with an error in its document.
    if head.status == 200 && !text.contains("<Error>") {
        Ok(text)
    } else {
        Err(format!("{}: {text}", head.status))
    }
}
