//! How often a payload byte is copied on its way, by the counter that every copy of payload goes through.

use crate::{
    bench::{ALICE, Bench, Client},
    remote::{Peer, bucket, pattern},
};
use crossdock_s3::protocol::http::Method;
use crossdock_transport::memory::{CopyReason, copied_bytes};

/// A checksum block of what lies in the log, and of what lies in extents.
const PACKED_BLOCK: u64 = 4096;
const EXTENT_BLOCK: u64 = 64 << 10;
/// What a connection's input holds: so much of a body may have come with its head, and is taken out of there.
const INPUT: u64 = 16 << 10;
/// The extents of an object of some MiB, and more.
const LARGE: usize = 5 << 20;

/// Bytes that were copied, for whatever reason.
fn all_copied() -> u64 {
    let reasons =
        [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge, CopyReason::Foreign];
    reasons.into_iter().map(copied_bytes).sum()
}

/// What is copied while something is done. Of several tries the least: other tests of this process may copy meanwhile.
fn copied(mut once: impl FnMut()) -> u64 {
    let tries = (0..7).map(|_| {
        let before = all_copied();
        once();
        all_copied() - before
    });
    tries.min().unwrap()
}

fn get(client: &mut Client, path: &str, range: Option<(usize, usize)>, body: &[u8]) {
    let text = range.map(|(first, last)| format!("bytes={first}-{last}"));
    let headers: Vec<_> = text.iter().map(|text| ("range", &**text)).collect();
    let reply = client.call(Method::Get, path, &headers, b"");
    let (first, last) = range.unwrap_or((0, body.len() - 1));
    assert_eq!(reply.status, if range.is_some() { 206 } else { 200 });
    assert!(reply.body == body[first..=last], "{path} {range:?}");
}

#[test]
fn what_is_read_over_tcp_is_not_copied() {
    // Shows that extents, and packed objects of whole blocks, are sent from where the disk put them; that an object in the index is
    // copied once; and that a range costs no more than its edges.
    let bench = Bench::new();
    let mut client = bench.client(ALICE);
    assert_eq!(client.call(Method::Put, "/bucket", &[], b"").status, 200);
    let mut object = |bytes: usize| {
        let (path, body) = (format!("/bucket/{bytes}"), pattern(bytes, bytes as u64));
        assert_eq!(client.call(Method::Put, &path, &[], &body).status, 200);
        (path, body)
    };
    let (inline, packed, odd, large, uneven) =
        (object(700), object(64 << 10), object(5000), object(LARGE), object(LARGE + 777));
    let mut read = |(path, body): &(String, Vec<u8>), range| copied(|| get(&mut client, path, range, body));
    assert_eq!(read(&packed, None), 0, "packed");
    assert_eq!(read(&large, None), 0, "extents");
    assert_eq!(read(&uneven, None), 0, "extents that end within a block");
    let count = read(&inline, None);
    assert!((1..=700).contains(&count), "inline: {count}");
    let count = read(&odd, None);
    assert!(count <= 5000, "packed with others: {count}");
    let count = read(&large, Some((512, (4 << 20) + 99)));
    assert!(count < 2 * EXTENT_BLOCK, "the edges of a range of extents: {count}");
    let count = read(&packed, Some((100, 50_000)));
    assert!(count < 2 * PACKED_BLOCK, "the edges of a range of a packed object: {count}");
}

/// How often a byte of an object of that size is copied at most when it is stored. Whole blocks of the log and extents are written
/// from the lease that they came into; what is less is copied again, to where it lies beside others, in the index or in a log write.
fn stores(bytes: usize) -> u64 {
    if (bytes as u64).is_multiple_of(PACKED_BLOCK) || bytes as u64 >= EXTENT_BLOCK { 1 } else { 2 }
}

#[test]
fn what_is_written_over_tcp_is_copied_as_often_as_it_must_be() {
    // Shows, of bodies that come plain, and in chunks with signatures and without, that what lies in extents is received where it is
    // written from, but for what came with the head; and of small objects, which come with their head, that each byte is taken out
    // from behind it once, and once more put beside others where it has no blocks of its own.
    let bench = Bench::new();
    let mut client = bench.client(ALICE);
    assert_eq!(client.call(Method::Put, "/bucket", &[], b"").status, 200);
    for bytes in [1, 700, 1024, 5000, 4096, 64 << 10, 200_000, LARGE] {
        let (path, body) = (format!("/bucket/{bytes}"), pattern(bytes, 3));
        let plain = copied(|| assert_eq!(client.call(Method::Put, &path, &[], &body).status, 200));
        let most = if bytes == LARGE { INPUT } else { stores(bytes) * bytes as u64 };
        assert!(plain <= most, "{bytes} bytes: {plain} copied");
        for signed in [true, false] {
            let chunks: Vec<&[u8]> = body.chunks(128 << 10).collect();
            let mut wire = 0;
            let count = copied(|| {
                let streamed = client.streamed(&path, signed, &chunks);
                let body = streamed.pieces.concat();
                wire = body.len() as u64;
                assert_eq!(client.send(&streamed.with(&body, 0)).status, 200);
            });
            // What frames the chunks is taken out from behind the head with them.
            let most = stores(bytes) * bytes as u64 + wire - bytes as u64;
            assert!(count <= most, "{bytes} bytes in chunks, signed: {signed}: {count} copied");
        }
        get(&mut client, &path, None, &body);
    }
}

#[test]
fn what_is_written_from_shared_memory_is_taken_over_once() {
    // Shows that bytes of a client that could change them meanwhile are taken over once, whichever way they are stored, and copied no
    // more than others after that.
    let bench = Bench::new();
    let mut peer: Peer = bucket(&bench);
    for bytes in [700, 5000, 64 << 10, LARGE] {
        let (path, body) = (format!("/bucket/{bytes}"), pattern(bytes, 3));
        let count = copied(|| {
            let reply = peer.put(&path, &body, &[]);
            assert_eq!((reply.status, reply.header("x-amz-rdma-reply")), (200, Some("200")));
        });
        assert!(
            (bytes as u64..=stores(bytes) * bytes as u64).contains(&count),
            "{bytes} bytes: {count} copied"
        );
        get(&mut peer.http, &path, None, &body);
    }
}
