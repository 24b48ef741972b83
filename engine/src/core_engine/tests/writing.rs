//! Bodies as callers give them, in pieces and in buffers, and with the mistakes that can be made.

use super::*;

const SOME: &[usize] = &[1, 700, 5_000, 300_000, (1 << 20) + 1, (2 << 20) + 5_000];

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

async fn read(engine: &CoreEngine, key: &[u8]) -> Vec<u8> {
    let mut get = engine.get("b", key, GetOptions::default()).await.unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = get.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    all
}

/// What was written is what is stored, whether or not its length was declared, and whether or not its end fills a buffer: nobody has to
/// hand anything over besides.
#[test]
fn what_is_written_is_stored_to_its_end() {
    let mut world = world(1);
    let engine = world.engine(0);
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        for &size in SOME {
            for declared in [None, Some(size as u64)] {
                let mut put = engine.put("b", b"k", PutOptions { size: declared }).await.unwrap();
                let body = bytes(size);
                for piece in body.chunks(70_000) {
                    put.write(piece).await.unwrap();
                }
                assert_eq!(put.received(), size as u64);
                let info = put.finish(CommitOptions::default()).await.unwrap();
                assert_eq!(info.size, size as u64, "declared: {declared:?}");
                assert_eq!(read(&engine, b"k").await, body);
            }
        }
    });
}

/// A buffer behind one that was not full would leave a hole, and so would one behind a piece that does not fill any: refused, and nothing
/// is stored. More than was declared is refused as soon as it comes.
#[test]
fn a_buffer_behind_one_in_part_is_refused() {
    let mut world = world(1);
    let engine = world.engine(0);
    let is_wrong = |result: Result<(), Error>| assert!(matches!(result, Err(Error::InvalidArgument(_))));
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        for written in [true, false] {
            let mut put = engine.put("b", b"k", PutOptions::default()).await.unwrap();
            let mut lease = put.buffer().await.unwrap();
            lease.set_len(10);
            if written {
                put.write(&[7; 10]).await.unwrap();
            } else {
                let mut first = put.buffer().await.unwrap();
                first.set_len(10);
                put.push(first).await.unwrap();
            }
            is_wrong(put.push(lease).await);
            is_wrong(put.write(&[7]).await);
            is_wrong(put.finish(CommitOptions::default()).await.map(drop));
        }
        let mut put = engine.put("b", b"k", PutOptions { size: Some(10) }).await.unwrap();
        put.write(&[7; 6]).await.unwrap();
        is_wrong(put.write(&[7; 5]).await);
        is_wrong(put.finish(CommitOptions::default()).await.map(drop));
        assert_eq!(engine.head("b", b"k", Which::Current).await.err(), Some(Error::NoSuchKey));
    });
    settle(&mut world);
    world.check_at_rest().unwrap();
}

/// What can not be stored whatever its bytes are is refused before any of them is taken: a key or a declared size that can not be, a bucket
/// that there is not.
#[test]
fn what_can_not_be_stored_is_refused_at_the_beginning() {
    let mut world = world(1);
    let engine = world.engine(0);
    let (bucket, long) = ("b", vec![b'k'; 1025]);
    world.run(async move {
        engine.create_bucket(bucket, Bytes::new()).await.unwrap();
        let begin = async |bucket, key: &[u8], size| {
            engine.put(bucket, key, PutOptions { size }).await.map(|put| put.received())
        };
        for key in [&b""[..], &long] {
            assert!(matches!(begin(bucket, key, None).await, Err(Error::InvalidArgument(_))));
            let part = engine.put_part(bucket, key, crate::UploadId(1), 1, PutOptions::default()).await;
            assert!(matches!(part.err(), Some(Error::InvalidArgument(_))));
        }
        assert_eq!(begin(bucket, &long[1..], Some(32 << 30)).await, Ok(0));
        assert!(matches!(begin(bucket, b"k", Some((32 << 30) + 1)).await, Err(Error::InvalidArgument(_))));
        assert_eq!(begin("c", b"k", None).await, Err(Error::NoSuchBucket));
    });
}
