//! Request heads from the network: any bytes, in any pieces.
//!
//! A head that parses at once parses in pieces too, to the same length and the same fields: a parser that could be
//! made to disagree with itself is a way to smuggle requests.

use crossdock_s3::protocol::http::{HeadLimits, HeadParser, HeadStatus, ParsedHead};

/// Tries one input.
pub fn run(bytes: &[u8]) {
    let Some(whole) = parse(bytes) else { return };
    assert!(whole.head_bytes <= bytes.len(), "a head ends inside the bytes it was read from");
    assert!(whole.head.path.starts_with('/') || &*whole.head.path == "*", "a path starts with a slash");
    // What follows a head must not change it.
    let head = bytes.get(..whole.head_bytes).expect("just compared");
    let again = parse(head).expect("a head parses without the bytes behind it");
    assert_same(&whole, &again);
    // Nor must the pieces in which it arrives.
    let mut parser = HeadParser::new(HeadLimits::default());
    for end in 0..head.len() {
        let part = head.get(..end).expect("a part of the head");
        let status = parser.parse(part).expect("the start of a good head is no error");
        assert!(matches!(status, HeadStatus::NeedMore), "a part of a head is no whole head");
    }
    let Ok(HeadStatus::Complete(last)) = parser.parse(head) else { panic!("pieces make up the whole") };
    assert_same(&whole, &last);
}

/// The head at the front of the bytes, if there is a whole one.
pub(super) fn parse(bytes: &[u8]) -> Option<ParsedHead> {
    match HeadParser::new(HeadLimits::default()).parse(bytes) {
        Ok(HeadStatus::Complete(parsed)) => Some(*parsed),
        Ok(HeadStatus::NeedMore) | Err(_) => None,
    }
}

fn assert_same(left: &ParsedHead, right: &ParsedHead) {
    assert_eq!(left.head_bytes, right.head_bytes);
    assert_eq!(left.framing, right.framing);
    assert_eq!(left.keep_alive, right.keep_alive);
    assert_eq!((left.head.method, &left.head.path), (right.head.method, &right.head.path));
    assert_eq!(left.head.query, right.head.query);
    assert!(left.head.headers.iter().eq(right.head.headers.iter()));
}

/// Requests as clients send them.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "GET / HTTP/1.1\r\nHost: s3\r\n\r\n",
        "GET /b/k%20+//%2F?list-type=2&prefix=a%2Fb&x HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nRange: bytes=0-9\r\n\r\nrest",
        "PUT /b/k HTTP/1.1\r\nhost: s3\r\ncontent-length: 5\r\nExpect: 100-continue\r\nx-amz-meta-a:  b \r\n\r\nhello",
        "PUT /b/k HTTP/1.1\r\nhost: s3\r\nTransfer-Encoding: chunked\r\nContent-Encoding: aws-chunked\r\n\r\n0\r\n\r\n",
        "\r\nHEAD http://host:1/b/k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
