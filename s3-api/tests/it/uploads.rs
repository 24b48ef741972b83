//! Listings of uploads, from end to end.

use crate::bench::{ALICE, Bench};
use crossdock_s3::protocol::http::Method::{Delete, Get, Post, Put};

/// What stands between the tags, each time, if anything does.
fn all(text: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let found = text.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned()));
    found.filter(|found| !found.is_empty()).collect()
}

#[test]
fn uploads_are_listed_page_by_page() {
    // Of whatever length the pages are, the markers of each lead to the next, without a gap and without a repetition.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let mut begun = Vec::new();
    for key in ["a/1", "a/2", "b", "b", "c/1", "d"] {
        let reply = alice.call(Post, &format!("/photos/{key}?uploads"), &[], b"");
        begun.push((key.to_owned(), all(&String::from_utf8(reply.body).unwrap(), "UploadId").remove(0)));
    }
    let (mut same_key, rest): (Vec<_>, Vec<_>) = begun.into_iter().partition(|(key, _)| key == "b");
    for limit in 1..=7 {
        let (mut found, mut markers) = (Vec::new(), String::new());
        loop {
            let path = format!("/photos?uploads&max-uploads={limit}{markers}");
            let text = String::from_utf8(alice.call(Get, &path, &[], b"").body).unwrap();
            let uploads = all(&text, "Upload");
            assert!(uploads.len() <= limit, "{text}");
            found.extend(
                uploads
                    .iter()
                    .map(|upload| (all(upload, "Key").remove(0), all(upload, "UploadId").remove(0))),
            );
            if all(&text, "IsTruncated") == ["false"] {
                break;
            }
            let (key, id) =
                (all(&text, "NextKeyMarker").remove(0), all(&text, "NextUploadIdMarker").remove(0));
            markers = format!("&key-marker={key}&upload-id-marker={id}");
        }
        // Two that began within a millisecond come in either order.
        found[2..4].sort();
        same_key.sort();
        assert_eq!(found, [&rest[..2], &same_key, &rest[2..]].concat(), "{limit}");
    }
    let text = |reply: Vec<u8>| String::from_utf8(reply).unwrap();
    let first = text(alice.call(Get, "/photos?uploads&delimiter=/&max-uploads=1", &[], b"").body);
    assert_eq!((all(&first, "NextKeyMarker"), all(&first, "Prefix")), (vec!["a/".into()], vec!["a/".into()]));
    let next = text(alice.call(Get, "/photos?uploads&delimiter=/&key-marker=a/", &[], b"").body);
    assert_eq!(
        (all(&next, "Key"), all(&next, "Prefix")),
        (vec!["b".into(), "b".into(), "d".into()], vec!["c/".into()])
    );
    // Behind one that is over, by a marker that tells no time, comes its key from the first: rather one twice than one not at all.
    let gone = format!("/photos/b?uploadId={}", same_key[0].1);
    assert_eq!(alice.call(Delete, &gone, &[], b"").status, 204);
    let behind = format!("/photos?uploads&key-marker=b&upload-id-marker={}", same_key[0].1);
    assert_eq!(all(&text(alice.call(Get, &behind, &[], b"").body), "Key"), ["b", "c/1", "d"]);
    // A page of nothing is empty, and not cut short: as of every listing here.
    let nothing = alice.call(Get, "/photos?uploads&max-uploads=0", &[], b"");
    assert_eq!(nothing.status, 200);
    let nothing = text(nothing.body);
    assert!(all(&nothing, "Upload").is_empty() && all(&nothing, "IsTruncated") == ["false"], "{nothing}");
    assert_eq!(alice.call(Get, "/absent?uploads&max-uploads=0", &[], b"").code(), "NoSuchBucket");
}
