//! What the handle promises to callers who give up, keep what they get, or ask for more than they can have.

use super::some_bytes;
use bytes::Bytes;
use crossdock::{CommitOptions, CompleteOptions, Engine, Error, GetOptions, NamedPart};
use futures_lite::future::block_on;

/// An object may be longer than memory: what is longer than a gigabyte is not gathered in one piece, and refused before a byte is read.
#[test]
fn get_bytes_has_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(1).shards(1).memory_bytes(32 << 20);
    let engine = builder.capacity_bytes(1 << 30).open().unwrap();
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.put_bytes("b", b"part", some_bytes(48 << 20, 1)).await.unwrap();
        let upload = engine.create_upload("b", b"long", Bytes::new()).await.unwrap().upload;
        let mut parts = Vec::new();
        // All of them share what the source has on the disk.
        for number in 1..=22 {
            let (source, target) =
                (("b", &b"part"[..], GetOptions::default()), ("b", &b"long"[..], upload, number));
            let part = engine.copy_part(source, target, CommitOptions::default()).await.unwrap();
            parts.push(NamedPart { number, etag: Some(part.etag) });
        }
        let made =
            engine.complete_upload("b", b"long", upload, parts, CompleteOptions::default()).await.unwrap();
        assert_eq!(made.size, 22 * (48 << 20));
        let refused = engine.get_bytes("b", b"long").await.map(|bytes| bytes.len());
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
        assert_eq!(engine.get_bytes("b", b"part").await.unwrap().len(), 48 << 20);
    });
    engine.close();
}
