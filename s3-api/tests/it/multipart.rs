//! Multipart uploads: a listing in pages loses none.

use crate::bench::{ALICE, Bench, Client};
use crossdock_s3::protocol::http::Method::{Delete, Get, Post, Put};

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
