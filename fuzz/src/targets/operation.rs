//! Which operation a request asks for: any head leads to one operation or to one refusal, never to a guess.

use crossdock_s3::protocol::http::Method;
use crossdock_s3::protocol::operation::{Resource, route};

use super::request_head::parse;

/// Tries one input: a request head.
pub fn run(bytes: &[u8]) {
    let Some(parsed) = parse(bytes) else { return };
    let head = parsed.head;
    let hosts = ["bucket.s3.example", "s3.example", "x.s3.example:9000"];
    for host in hosts {
        if let Ok(resource) = Resource::virtual_hosted(host, &["s3.example"], &head.path) {
            let _ = (resource.check(), route(&head, resource));
        }
    }
    let Ok(resource) = Resource::path_style(&head.path) else { return };
    let Ok(routed) = route(&head, resource.clone()) else { return };
    assert_eq!(routed.resource, resource, "routing does not change what a request is about");
    assert!(resource.check().is_ok(), "a routed request has valid names");
    let changes = matches!(head.method, Method::Put | Method::Delete);
    assert!(!changes || routed.operation.is_write(), "PUT and DELETE are writes: {:?}", routed.operation);
    let reads = matches!(head.method, Method::Get | Method::Head);
    assert!(!reads || !routed.operation.is_write(), "GET and HEAD change nothing: {:?}", routed.operation);
}

/// Requests of several operations, and some that are none.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "GET / HTTP/1.1",
        "GET /bucket?list-type=2&prefix=a HTTP/1.1",
        "PUT /bucket HTTP/1.1",
        "PUT /bucket/key?partNumber=1&uploadId=x HTTP/1.1",
        "PUT /bucket/key?inventory HTTP/1.1",
        "POST /bucket/key?uploads HTTP/1.1",
        "POST /bucket?delete= HTTP/1.1",
        "DELETE /bucket/a%20b//../c?uploadId=x HTTP/1.1",
        "GET /bucket/key?x-id=GetObject&versionId=null HTTP/1.1",
        "PUT /bucket/key HTTP/1.1\r\nx-amz-copy-source: /other/key",
        "GET /bucket?versioning&acl HTTP/1.1",
    ]
    .map(|head| format!("{head}\r\nhost: s3\r\n\r\n").into_bytes())
    .to_vec()
}
