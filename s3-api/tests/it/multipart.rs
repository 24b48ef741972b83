//! Multipart uploads: what was announced binds the parts, and a listing in pages loses none.

use crate::bench::{ALICE, Bench, Client};
use crossdock_s3::protocol::{
    checksum::{Algorithm, Hasher},
    http::Method::{Delete, Get, Head, Post, Put},
};

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from)
        .and_then(|(_, rest)| rest.split_once(to))
        .map(|(found, _)| found)
        .unwrap_or_default()
}

fn begin(alice: &mut Client, key: &str, headers: &[(&str, &str)]) -> String {
    let begun = alice.call(Post, &format!("/photos/{key}?uploads"), headers, b"");
    assert_eq!((begun.status, begun.code()), (200, String::new()));
    between(&String::from_utf8(begun.body).unwrap(), "<UploadId>", "<").to_owned()
}

#[test]
fn a_listing_in_pages_goes_on_where_an_upload_was() {
    // The upload that the marker names is given up between two pages: those behind it are told all the same, and none twice.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let begun: Vec<String> = (0..4).map(|_| begin(&mut alice, "k", &[])).collect();
    let mut told = Vec::new();
    let mut markers = String::new();
    for _ in 0..4 {
        let page = alice.call(Get, &format!("/photos?uploads&max-uploads=1{markers}"), &[], b"");
        let page = String::from_utf8(page.body).unwrap();
        let upload = between(&page, "<UploadId>", "<").to_owned();
        assert_eq!(
            alice.call(Delete, &format!("/photos/k?uploadId={upload}"), &[], b"").status,
            204,
            "{page}"
        );
        told.push(upload);
        let marker = between(&page, "<NextUploadIdMarker>", "<");
        assert_eq!(marker.is_empty(), told.len() == 4, "{page}");
        markers = format!("&key-marker=k&upload-id-marker={marker}");
    }
    told.sort();
    let mut all = begun;
    all.sort();
    assert_eq!(told, all);
    // An identifier alone does as well, as long as there is such an upload.
    let begun: Vec<String> = (0..2).map(|_| begin(&mut alice, "k", &[])).collect();
    let page = alice.call(Get, "/photos?uploads&max-uploads=1", &[], b"");
    let first = between(&String::from_utf8(page.body).unwrap(), "<UploadId>", "<").to_owned();
    let rest = alice.call(Get, &format!("/photos?uploads&key-marker=k&upload-id-marker={first}"), &[], b"");
    let rest = String::from_utf8(rest.body).unwrap();
    let other = begun.iter().find(|upload| **upload != first).unwrap();
    assert!(rest.contains(other.as_str()) && rest.matches("<Upload>").count() == 1, "{rest}");
}

#[test]
fn a_copy_has_the_checksum_that_is_asked_for() {
    // By whatever algorithm the source has one; it is told, kept, and that of the bytes.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let sha = Hasher::checksum(Algorithm::Sha256, &bytes).to_string();
    assert_eq!(alice.call(Put, "/photos/plain", &[], &bytes).status, 200);
    assert_eq!(alice.call(Put, "/photos/summed", &[("x-amz-checksum-sha256", &sha)], &bytes).status, 200);
    for source in ["/photos/plain", "/photos/summed"] {
        for algorithm in Algorithm::ALL {
            let wanted = Hasher::checksum(algorithm, &bytes).to_string();
            let headers = [("x-amz-copy-source", source), ("x-amz-checksum-algorithm", algorithm.name())];
            let copy = alice.call(Put, "/photos/copy", &headers, b"");
            let text = String::from_utf8_lossy(&copy.body).into_owned();
            let told = format!("<{0}>{wanted}</{0}>", algorithm.element());
            assert!(copy.status == 200 && text.contains(&told), "{algorithm:?} of {source}: {text}");
            let head = alice.call(Head, "/photos/copy", &[("x-amz-checksum-mode", "ENABLED")], b"");
            assert_eq!(head.header(algorithm.header()), Some(&*wanted), "{algorithm:?} of {source}");
        }
    }
}
