//! Files to objects, and objects to files.

use crate::{options::Location, session::Carrier, upload::Upload};
use crossdock_s3::client::{Client, Got, Way};
use crossdock_transport::exposure::Session;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
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
    let bytes: u64 = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    let etag = head.get("etag").unwrap_or_default().to_owned();
    let mut file = File::create(path).map_err(named)?;
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
        file.write_all(back.get(..came).unwrap_or_default()).map_err(named)?;
        if came as u64 != end - at {
            return Err(format!("{source}: {came} bytes came where {} were to", end - at));
        }
        way = if went == Way::Transport { way } else { went };
        rail = over.or(rail);
        (buffer, at) = (back, end);
        bar.set_position(at);
    }
    bar.finish_and_clear();
    say::<L>("got", bytes, way, rail.as_deref());
    Ok(())
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
