//! What a layer with redundancy does: it keeps what was exported, hears of damage, and has it mended from its own copy.

use super::{care::flip, open, some_bytes};
use bytes::Bytes;
use crossdock::{
    CommitOptions, CompleteOptions, Engine, Error, NamedPart, PutOptions, ScrubRate, VersionExport, Which,
    inspect::{Access, Store},
    layout::{ChecksumTable, Content},
};
use futures_lite::future::block_on;
use std::path::{Path, PathBuf};

/// Where the bytes of a key's newest version lie, by piece: the file, the offset in it, and that of its table of checksums.
fn places(directory: &Path, key: &[u8]) -> Vec<(PathBuf, u64, Option<u64>)> {
    let store = Store::open(&[directory], Access::Any).unwrap();
    let shard = store.shard_of("b", key);
    let image = store.read_shard(shard).unwrap();
    let record = image.objects().find(|entry| entry.key == key).unwrap().record.clone();
    let place = |content: &Content| match content {
        Content::Packed { place, .. } => {
            let (region, offset) = store.log_place(shard, *place).unwrap();
            (store.file(shard, region), offset, None)
        }
        Content::Extents { extents, checksums, .. } => {
            let table = match checksums {
                ChecksumTable::Away { extent, .. } => Some(store.data_place(shard, *extent).unwrap().1),
                ChecksumTable::Here(_) => None,
            };
            let (region, offset) = store.data_place(shard, extents[0]).unwrap();
            (store.file(shard, region), offset, table)
        }
        other => panic!("{other:?}"),
    };
    match &record.content {
        Content::Parts(parts) => parts.iter().map(|part| place(&part.content)).collect(),
        content => vec![place(content)],
    }
}

fn mend(
    engine: &Engine,
    key: &[u8],
    export: &VersionExport,
    good: &[u8],
    at: u64,
) -> Result<(u64, u64), Error> {
    let piece = export.pieces.iter().rfind(|piece| piece.offset <= at).unwrap();
    let within = (at - piece.offset) / piece.block_bytes * piece.block_bytes;
    let end = (within + piece.block_bytes).min(piece.bytes);
    let range = (piece.offset + within) as usize..(piece.offset + end) as usize;
    let bytes = Bytes::copy_from_slice(&good[range.clone()]);
    let repaired = block_on(engine.repair("b", key, export.info.version, range.start as u64, bytes))?;
    Ok((repaired.mended, repaired.sound))
}

/// A damaged block of an object in extents, of a packed one, and of a part is mended from a copy, and only from the bytes that were
/// written; what is sound is left alone; the scrub finds nothing afterwards, nor after the store was opened again.
#[test]
fn damaged_blocks_are_mended_from_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let (large, small) = (some_bytes((6 << 20) + 1234, 1), some_bytes(100_000, 2));
    let parts = [some_bytes(5 << 20, 3), some_bytes(300_000, 4)];
    let whole: Vec<u8> = parts.concat();
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.put_bytes("b", b"large", large.clone()).await.unwrap();
        engine.put_bytes("b", b"small", small.clone()).await.unwrap();
        let upload = engine.create_upload("b", b"parts", Bytes::new()).await.unwrap().upload;
        let mut named = Vec::new();
        for (number, bytes) in (1..).zip(&parts) {
            let mut put =
                engine.put_part("b", b"parts", upload, number, PutOptions::default()).await.unwrap();
            put.write(bytes.clone()).await.unwrap();
            put.finish_part(CommitOptions::default()).await.unwrap();
            named.push(NamedPart { number, etag: None });
        }
        let options = CompleteOptions::default();
        engine.complete_upload("b", b"parts", upload, named, options).await.unwrap();
        engine.checkpoint().await.unwrap();
    });
    let goods: [(&[u8], &[u8]); 3] = [(b"large", &large), (b"small", &small), (b"parts", &whole)];
    for (key, good) in goods {
        let export = block_on(engine.export("b", key, Which::Current)).unwrap();
        assert_eq!(export.pieces.iter().map(|piece| piece.bytes).sum::<u64>(), good.len() as u64);
        let here = places(directory.path(), key);
        assert_eq!(here.len(), export.pieces.len());
        for ((file, offset, table), piece) in here.into_iter().zip(&export.pieces) {
            let at = piece.offset + piece.block_bytes + 5;
            assert_eq!(mend(&engine, key, &export, good, at), Ok((0, 1)), "it is sound");
            flip(&file, offset + piece.block_bytes + 5);
            assert!(matches!(block_on(engine.get_bytes("b", key)), Err(Error::Corrupt(_))));
            let wrong = vec![0; good.len()];
            assert!(matches!(mend(&engine, key, &export, &wrong, at), Err(Error::InvalidArgument(_))));
            assert_eq!(mend(&engine, key, &export, good, at), Ok((1, 0)));
            assert!(block_on(engine.get_bytes("b", key)).unwrap() == good);
            let Some(table) = table else { continue };
            flip(&file, table + 3);
            assert!(matches!(block_on(engine.get_bytes("b", key)), Err(Error::Corrupt(_))));
            let sums = piece.checksums.clone();
            let (version, part) = (export.info.version, piece.part);
            let other = vec![0; sums.len()];
            assert!(block_on(engine.repair_checksums("b", key, version, part, other)).is_err());
            let repaired = block_on(engine.repair_checksums("b", key, version, part, sums)).unwrap();
            assert_eq!(repaired.mended, 1);
            assert!(block_on(engine.get_bytes("b", key)).unwrap() == good);
        }
    }
    let sound = |engine: &Engine| {
        let tours = block_on(engine.scrub(ScrubRate::default())).unwrap();
        assert!(tours.iter().all(|tour| tour.findings == 0), "{tours:?}");
    };
    sound(&engine);
    engine.close();
    let engine = super::reopen(directory.path());
    for (key, good) in goods {
        assert!(block_on(engine.get_bytes("b", key)).unwrap() == good);
    }
    sound(&engine);
    engine.close();
}
