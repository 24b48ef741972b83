//! What the S3 service keeps beside an object, as it comes back from the store.

use crossdock_s3::protocol::metadata::ObjectHeaders;

use super::request_head::parse;

/// Tries one input as stored bytes, and as a request whose headers are to be stored.
pub fn run(bytes: &[u8]) {
    if let Ok(decoded) = ObjectHeaders::decode(bytes) {
        round(&decoded);
    }
    if let Some(parsed) = parse(bytes)
        && let Ok(headers) = ObjectHeaders::from_headers(&parsed.head.headers)
    {
        round(&headers);
    }
}

fn round(headers: &ObjectHeaders) {
    assert_eq!(ObjectHeaders::decode(&headers.encode()).as_ref(), Ok(headers), "what is stored comes back");
}

/// A request with everything that is kept, and its stored form.
pub fn seeds() -> Vec<Vec<u8>> {
    let request = b"PUT /b/k HTTP/1.1\r\nhost: s3\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n\
        content-disposition: attachment; filename=\"x\"\r\ncontent-encoding: aws-chunked, gzip\r\ncontent-language: de\r\n\
        expires: never\r\nx-amz-meta-colour: blue\r\nx-amz-meta-latin: \xe9\r\nx-amz-storage-class: STANDARD\r\n\r\n";
    let parsed = parse(request).expect("the request is sound");
    let headers = ObjectHeaders::from_headers(&parsed.head.headers).expect("its headers are sound");
    vec![request.to_vec(), headers.encode(), ObjectHeaders::default().encode()]
}
