//! Replies as a client reads them, of a server that may say anything: heads, and what they prove.

use crossdock_s3::client::{
    ReplyHead,
    contract::{GetVerdict, judge_body, judge_get, judge_put},
};

/// Tries one input: the room of a buffer, the first byte and the length of a range, and a head.
pub fn run(bytes: &[u8]) {
    let Some((numbers, bytes)) = bytes.split_first_chunk::<3>() else { return };
    let [room, first, length] = numbers.map(u64::from);
    let parsed = ReplyHead::parse(bytes);
    let Ok(Some((head, head_bytes))) = &parsed else {
        // What is wrong, or not all of it, is not made a head by what is cut off.
        for end in pieces(bytes.len()) {
            let part = ReplyHead::parse(bytes.get(..end).unwrap_or_default());
            assert!(!matches!(part, Ok(Some(_))), "a front of what is no head is one");
        }
        return;
    };
    assert!(*head_bytes <= bytes.len());
    for end in pieces(bytes.len()) {
        match ReplyHead::parse(bytes.get(..end).unwrap_or_default()) {
            Ok(Some((part, part_bytes))) => {
                assert!(end >= *head_bytes && part_bytes == *head_bytes && part == *head, "another head");
            }
            Ok(None) => assert!(end < *head_bytes, "the head is there"),
            Err(error) => panic!("a front of a head is refused: {error}"),
        }
    }
    let range = first..first + length + 1;
    for wanted in [None, Some(&range)] {
        match judge_get(head, room, wanted) {
            GetVerdict::Moved { bytes, .. } => {
                assert!(bytes <= room, "more than the buffer holds");
                assert!(
                    wanted.is_none_or(|wanted| bytes <= wanted.end - wanted.start),
                    "more than was asked for"
                );
                assert_eq!(judge_body(head, bytes, wanted).is_ok(), wanted.is_some() || head.status != 206);
            }
            GetVerdict::Unsized { bytes, .. } => {
                assert!(bytes <= room && wanted.is_none(), "a range says what it is");
            }
            GetVerdict::Body | GetVerdict::Again | GetVerdict::Ignored => {}
            GetVerdict::Refused | GetVerdict::Unproven(_) => {}
        }
    }
    let _ = judge_put(head, room, None);
    let _ = judge_put(head, room, Some("AAAAAAAAAAA="));
}

/// Where a text is cut: each of its first places, and some of the others.
fn pieces(length: usize) -> impl Iterator<Item = usize> {
    (0..length.min(64)).chain((64..length).step_by(97))
}

/// Replies of several servers, each with the numbers before it.
pub fn seeds() -> Vec<Vec<u8>> {
    let heads = [
        "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 100\r\nx-amz-rdma-object-size: 100\r\n\r\n",
        "HTTP/1.1 206 Partial Content\r\nx-amz-rdma-reply: 206\r\nx-amz-rdma-bytes-transferred: 11\r\n\
         Content-Range: bytes 5-15/100\r\nETag: \"a\"\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 501\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 501 Not Implemented\r\nx-amz-rdma-reply: 501\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 204\r\nETag: \"00000000000000000000000000000000\"\r\n\
         x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n",
    ];
    heads.map(|head| [&[100, 5, 10], head.as_bytes()].concat()).to_vec()
}
