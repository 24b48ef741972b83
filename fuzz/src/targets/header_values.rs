//! What stands in headers, paths and queries: ranges, dates, entity tags, keys, parameters, checksums.

use crossdock_s3::protocol::checksum::{Algorithm, Checksum};
use crossdock_s3::protocol::etag::ETagCondition;
use crossdock_s3::protocol::names::{Query, check_bucket_name, check_key, decode_path, encode_listed};
use crossdock_s3::protocol::range::{ByteRange, parse_copy_range, resolve_copy_range};
use crossdock_s3::protocol::time::{format_http_date, format_iso8601, parse_http_date, parse_iso8601};

const ALGORITHMS: &[Algorithm] = &Algorithm::ALL;

/// Tries one input as each of them.
pub fn run(bytes: &[u8]) {
    range(bytes);
    date(bytes);
    for algorithm in ALGORITHMS {
        if let Some(checksum) = Checksum::parse(*algorithm, bytes) {
            let again = Checksum::parse(*algorithm, checksum.to_string().as_bytes());
            assert_eq!(again, Some(checksum), "a checksum is read as it is written");
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    name(text);
    if let Some(condition) = ETagCondition::parse(text) {
        // A tag that matches strongly matches weakly.
        for tag in ["", "9e107d9d372bb6826bd81d3542a419d6", text] {
            assert!(!condition.matches_strongly(tag) || condition.matches_weakly(tag));
        }
    }
}

fn range(bytes: &[u8]) {
    for size in [0, 1, 10, u64::from(u32::MAX), u64::MAX] {
        if let Some(Ok(resolved)) = ByteRange::parse(bytes).map(|range| range.resolve(size)) {
            assert!(resolved.bytes > 0, "a range that can be satisfied is not empty");
            let end = resolved.offset.checked_add(resolved.bytes);
            assert!(end.is_some_and(|end| end <= size), "a resolved range lies inside its object");
        }
        if let Ok(range) = parse_copy_range(bytes)
            && let Ok(resolved) = resolve_copy_range(range, size)
        {
            assert!(resolved.offset < size && resolved.bytes <= size - resolved.offset);
        }
    }
}

fn date(bytes: &[u8]) {
    if let Some(seconds) = parse_http_date(bytes) {
        assert_eq!(parse_http_date(format_http_date(seconds).as_bytes()), Some(seconds));
    }
    if let Some(parsed) = parse_iso8601(bytes) {
        let milliseconds = parsed.saturating_mul(1000);
        // Whichever unit it reads, what it writes it reads again.
        let written = format_iso8601(milliseconds);
        assert!(parse_iso8601(written.as_bytes()).is_some(), "{written} is not read again");
    }
}

fn name(text: &str) {
    let _ = (check_bucket_name(text), check_key(text));
    assert_eq!(
        decode_path(&encode_listed(text)).ok().as_deref(),
        Some(text),
        "a key is listed as it can be asked for"
    );
    if let Ok(query) = Query::parse(text) {
        assert!(query.names().all(|name| query.contains(name)), "a parameter that is there is found");
    }
}

/// Values as clients send them.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "bytes=0-99",
        "bytes=-7",
        "bytes=18446744073709551615-",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "2026-11-23T04:05:06.789Z",
        "\"9e107d9d372bb6826bd81d3542a419d6\", W/\"x\", *",
        "list-type=2&prefix=a%2Fb+c&delimiter=/&encoding-type=url",
        "photos/2026/%C3%A9t%C3%A9//..",
        "y/Q5Jg==",
        "rosUhgp5mIg=",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
