//! What a storage product does with the engine beyond putting and getting: streams, conditions, versions, uploads in parts, pages,
//! and what each kind of error asks for.
//!
//! ```text
//! cargo run --release --example objects -- ./objects-data
//! ```

use bytes::Bytes;
use crossdock::{
    BucketOptions, CommitOptions, CompleteOptions, Delete, Engine, Error, ListItem, ListOptions, NamedPart,
    PutOptions, TagMatch, Versioning, Which, WriteCondition,
};
use std::{path::Path, time::Duration};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "objects-data".into());
    run(Path::new(&path))
}

fn run(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().path(path).cores(2).open()?;
    crossdock::block_on(async {
        let options = BucketOptions { versioning: Versioning::Enabled, ..BucketOptions::default() };
        match engine.create_bucket_with("ledger", options).await {
            Ok(_) | Err(Error::BucketExists) => {}
            Err(error) => return Err(error),
        }
        stream_in(&engine).await?;
        count_up(&engine).await?;
        in_parts(&engine).await?;
        page_through(&engine).await?;
        delete(&engine).await
    })?;
    engine.close();
    Ok(())
}

/// A body of unknown length, piece by piece. Nobody sees the object before `finish`, and nothing is left of it if the stream is dropped.
async fn stream_in(engine: &Engine) -> Result<(), Error> {
    let mut put = engine.put("ledger", b"2026/report", PutOptions::default()).await?;
    for line in 0..10_000 {
        put.write(Bytes::from(format!("line {line}\n"))).await?;
    }
    // Bytes of the embedder's own, kept beside the object and given back with it: headers, rights, whatever it needs.
    let attributes = Bytes::from_static(b"content-type: text/plain");
    let info = put.finish(CommitOptions { attributes, ..CommitOptions::default() }).await?;
    println!("streamed {} bytes as version {:?}", info.size, info.version);
    Ok(())
}

/// Read, change, write if nobody else did meanwhile. Conditions are judged when the write gets its place in the log, so that of two
/// writers with the same condition one wins.
#[allow(
    clippy::disallowed_methods,
    reason = "nothing else runs on this thread; with a runtime its timer would be asked"
)]
async fn count_up(engine: &Engine) -> Result<(), Error> {
    loop {
        let (count, condition) = match engine.head("ledger", b"count", Which::Current).await {
            Ok(info) => {
                let bytes = engine.get_bytes("ledger", b"count").await?;
                let count = String::from_utf8_lossy(&bytes).parse().unwrap_or(0);
                let is_the_same = Some(TagMatch::Tags(vec![info.etag]));
                (count, WriteCondition { if_match: is_the_same, if_none_match: None })
            }
            Err(Error::NoSuchKey | Error::DeleteMarker(_)) => (0, WriteCondition::absent()),
            Err(error) => return Err(error),
        };
        let next: u64 = count + 1;
        let mut put = engine.put("ledger", b"count", PutOptions::default()).await?;
        put.write(next.to_string().into()).await?;
        match put.finish(CommitOptions { condition, ..CommitOptions::default() }).await {
            Ok(_) => {
                println!("counted to {next}");
                return Ok(());
            }
            // Somebody was quicker: look again.
            Err(Error::ConditionFailed | Error::NoSuchKey) => {}
            Err(error) => match what_now(&error) {
                Now::Again(wait) => std::thread::sleep(wait),
                // It may be there: looking again tells.
                Now::Look => {}
                Now::GiveUp => return Err(error),
            },
        }
    }
}

/// What an error asks of whoever got it.
enum Now {
    /// Nothing was done; after a while it may work.
    Again(Duration),
    /// It may have been done or not: look before it is repeated.
    Look,
    /// It will not work by being repeated.
    GiveUp,
}

fn what_now(error: &Error) -> Now {
    match error {
        // A bound of the engine, named: tell clients to slow down (503), and try again.
        Error::Busy(_) => Now::Again(Duration::from_millis(50)),
        // The caller judged by what has changed since.
        Error::Changed => Now::Look,
        error if error.is_uncertain() => Now::Look,
        // No space (507), damage (with its place: tell an operator), a shard that is gone, and mistakes of the caller's.
        _ => Now::GiveUp,
    }
}

/// Parts in any order, on any connection, even after a restart; the object is there when they are put together, whole.
async fn in_parts(engine: &Engine) -> Result<(), Error> {
    let upload = engine.create_upload("ledger", b"archive", Bytes::new()).await?;
    let mut parts = Vec::new();
    for number in [1, 2] {
        let mut part =
            engine.put_part("ledger", b"archive", upload.upload, number, PutOptions::default()).await?;
        part.write(vec![b'0' + number as u8; 100_000].into()).await?;
        let info = part.finish_part(CommitOptions::default()).await?;
        parts.push(NamedPart { number, etag: Some(info.etag) });
    }
    let info = engine
        .complete_upload("ledger", b"archive", upload.upload, parts, CompleteOptions::default())
        .await?;
    println!("put together {} bytes of {} parts", info.size, info.part_count);
    Ok(())
}

/// All keys, a page at a time.
async fn page_through(engine: &Engine) -> Result<(), Error> {
    let mut options = ListOptions { limit: 2, ..ListOptions::default() };
    loop {
        let page = engine.list("ledger", options.clone()).await?;
        for item in &page.items {
            if let ListItem::Object { key, info } = item {
                println!("{} ({} bytes)", String::from_utf8_lossy(key), info.size);
            }
        }
        let Some(next) = page.next else { return Ok(()) };
        options.start = next;
    }
}

/// In a bucket that keeps versions a delete hides what is there, and a version goes for good by its number.
async fn delete(engine: &Engine) -> Result<(), Error> {
    let before = engine.head("ledger", b"2026/report", Which::Current).await?;
    engine.delete("ledger", Delete::current(b"2026/report")).await?;
    assert!(engine.head("ledger", b"2026/report", Which::Current).await.is_err());
    let which = Which::Version(before.version);
    engine.head("ledger", b"2026/report", which).await?;
    engine.delete("ledger", Delete { which, ..Delete::current(b"2026/report") }).await?;
    assert_eq!(engine.head("ledger", b"2026/report", which).await.map(|_| ()), Err(Error::NoSuchVersion));
    Ok(())
}

#[cfg(test)]
mod tests {
    /// The lesson works as it stands, on a new store and on the one it left behind.
    #[test]
    fn the_lesson_works() {
        let directory = tempfile::tempdir().unwrap();
        super::run(directory.path()).unwrap();
        super::run(directory.path()).unwrap();
    }
}
