//! What a reply to a request with a token proves, without any I/O.
//!
//! Servers differ. Those that know nothing of tokens answer as if there were none; those that do decline with 200 or with 501, with or
//! without a body; some answer a range with HTTP 200 and say 206 in their own header. So the header decides, then the count, and
//! never the text of an error.
#![deny(clippy::indexing_slicing)]

use super::http::ReplyHead;
use crate::protocol::remote::{BYTES_CHECKSUM, BYTES_TRANSFERRED, OBJECT_SIZE, REPLY};
use core::ops::Range;

/// What a reply to a GET means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GetVerdict {
    /// So many bytes were written to the front of the buffer.
    Moved {
        /// How many.
        bytes: u64,
        /// CRC-64/NVME of them in base64, if the server says it.
        checksum: Option<String>,
    },
    /// As many bytes were written, and nothing says that they are all of the object, which was asked for as a whole: a server of the field
    /// cuts it to the memory there is, and calls that success. They are if the object's size, which is to be asked for, is the same.
    Unsized {
        /// How many.
        bytes: u64,
        /// As above.
        checksum: Option<String>,
    },
    /// Declined: the bytes are in the body.
    Body,
    /// Declined, and there is nothing in the body: to be asked again without a token.
    Again,
    /// No word about the token: the bytes are in the body.
    Ignored,
    /// The server refused; the body is an error document, if anything.
    Refused,
    /// The server claims what it does not prove.
    Unproven(&'static str),
}

/// What a reply to a PUT means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PutVerdict {
    /// The buffer's bytes are stored.
    Stored,
    /// Declined, nothing was stored: to be sent again with a body.
    Declined,
    /// No word about the token: an empty object is stored now, to be replaced at once.
    Ignored,
    /// The server refused.
    Refused,
    /// The server claims what it does not prove.
    Unproven(&'static str),
}

/// The word of the reply's own header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    Absent,
    Success,
    Declined,
    Failure,
}

/// "200, 204, 206 success; 501 declined"; "ok", "err" and `200:<token>` are in the field too. Any other number, and any other word, is
/// a failure.
fn word(head: &ReplyHead) -> Word {
    let mut values = head.all(REPLY);
    let Some(value) = values.next() else { return Word::Absent };
    if values.next().is_some() {
        return Word::Failure;
    }
    let value = value.trim();
    match value.split_once(':').map_or(value, |(status, _)| status) {
        "200" | "204" | "206" | "ok" => Word::Success,
        "501" => Word::Declined,
        _ => Word::Failure,
    }
}

/// The number in a header that is there once.
fn number(head: &ReplyHead, name: &str) -> Option<u64> {
    let mut values = head.all(name);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

/// What `Content-Range: bytes <first>-<last>/<size>` names: the range, and the size if it is said.
fn content_range(head: &ReplyHead) -> Option<(Range<u64>, Option<u64>)> {
    let (range, size) = head.get("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let end = last.checked_add(1).filter(|end| *end > first)?;
    Some((first..end, size.parse().ok()))
}

/// Judges the reply to a GET. `room` is what was exposed; `wanted` the range that was asked for, if one was.
pub fn judge_get(head: &ReplyHead, room: u64, wanted: Option<&Range<u64>>) -> GetVerdict {
    let good = head.status / 100 == 2;
    match word(head) {
        Word::Absent if good => GetVerdict::Ignored,
        Word::Declined if good => GetVerdict::Body,
        Word::Declined if head.status == 501 => GetVerdict::Again,
        Word::Success if good => {
            let Some(bytes) = number(head, BYTES_TRANSFERRED) else {
                return GetVerdict::Unproven("no count of bytes");
            };
            if bytes > room {
                return GetVerdict::Unproven("more bytes than there is room for");
            }
            let checksum = head.get(BYTES_CHECKSUM).map(str::to_owned);
            match judge_extent(head, bytes, wanted) {
                Ok(Extent::Proven) => GetVerdict::Moved { bytes, checksum },
                Ok(Extent::Unsized) => GetVerdict::Unsized { bytes, checksum },
                Err(why) => GetVerdict::Unproven(why),
            }
        }
        _ => GetVerdict::Refused,
    }
}

/// Judges the reply to a GET whose `bytes` bytes are in its body; `wanted` is the range that was asked for, if one was.
///
/// # Errors
/// Why the body is not what was asked for: a server that knows no ranges answers with all of the object
/// (RFC 9110 §14.2, <https://www.rfc-editor.org/rfc/rfc9110#section-14.2>).
pub fn judge_body(head: &ReplyHead, bytes: u64, wanted: Option<&Range<u64>>) -> Result<(), &'static str> {
    if head.status == 206 && wanted.is_none() {
        return Err("a range where none was asked for");
    }
    // Of a whole object the length of the body is its size: HTTP knows no other 200.
    judge_extent(head, bytes, wanted).map(drop)
}

/// Whether bytes that came are all that was wanted.
enum Extent {
    /// They are.
    Proven,
    /// An object was wanted as a whole, and the reply does not say its size.
    Unsized,
}

/// Whether so many bytes are what was wanted, as far as the reply tells.
fn judge_extent(head: &ReplyHead, bytes: u64, wanted: Option<&Range<u64>>) -> Result<Extent, &'static str> {
    let named = content_range(head);
    if named.as_ref().is_some_and(|(range, _)| range.end - range.start != bytes) {
        return Err("another count than the range has");
    }
    match (wanted, named) {
        (Some(_), None) => Err("no range where one was asked for"),
        (Some(wanted), Some((range, size))) => {
            // One that is shorter has come to the object's end, and says so.
            let is_cut = range.end < wanted.end && size != Some(range.end);
            // Another beginning or a later end: a reply that belongs to another request.
            match range.start != wanted.start || range.end > wanted.end || is_cut {
                true => Err("another range than was asked for"),
                false => Ok(Extent::Proven),
            }
        }
        (None, Some((range, _))) if range.start != 0 => Err("a range where none was asked for"),
        (None, named) => {
            let said = match head.get(OBJECT_SIZE) {
                Some(_) => Some(number(head, OBJECT_SIZE).ok_or("a size that is none")?),
                None => None,
            };
            let sizes = [said, named.and_then(|(_, size)| size)];
            match sizes.iter().flatten().all(|size| *size == bytes) {
                true if sizes == [None, None] => Ok(Extent::Unsized),
                true => Ok(Extent::Proven),
                false => Err("not all of the object"),
            }
        }
    }
}

/// Judges the reply to a PUT of `bytes` bytes, whose CRC-64/NVME in base64 is `checksum` if it is known.
pub fn judge_put(head: &ReplyHead, bytes: u64, checksum: Option<&str>) -> PutVerdict {
    let good = head.status / 100 == 2;
    match word(head) {
        Word::Absent if good => PutVerdict::Ignored,
        Word::Declined if good || head.status == 501 => PutVerdict::Declined,
        Word::Success if good => {
            if head.get("etag").is_none_or(str::is_empty) {
                return PutVerdict::Unproven("no ETag");
            }
            let stored = head.get("x-amz-checksum-crc64nvme");
            match (number(head, BYTES_TRANSFERRED), stored.zip(checksum)) {
                (_, Some((stored, sent))) if stored != sent => PutVerdict::Unproven("another checksum"),
                (Some(taken), _) if taken == bytes => PutVerdict::Stored,
                (Some(_), _) => PutVerdict::Unproven("another count than was sent"),
                (None, Some(_)) => PutVerdict::Stored,
                (None, None) => PutVerdict::Unproven("neither a count nor a checksum"),
            }
        }
        _ => PutVerdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&str, &str)]) -> ReplyHead {
        ReplyHead::new(
            status,
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        )
    }

    #[test]
    fn a_body_is_the_range_that_was_asked_for() {
        // Shows what bodies are taken for: all of an object, and just the range, or what there is of it.
        let range = |text| [("content-range", text)];
        assert_eq!(judge_body(&head(200, &[]), 10, None), Ok(()));
        assert_eq!(judge_body(&head(206, &range("bytes 5-9/10")), 5, Some(&(5..10))), Ok(()));
        assert_eq!(judge_body(&head(206, &range("bytes 5-9/10")), 5, Some(&(5..90))), Ok(()));
        for (status, headers, bytes, wanted) in [
            (200, &[][..], 10, Some(5..10)),
            (206, &[], 5, Some(5..10)),
            (206, &range("bytes 5-9/10"), 5, None),
            (206, &range("bytes 0-4/10"), 5, Some(5..10)),
            (206, &range("bytes 5-9/20"), 5, Some(5..15)),
            (206, &range("bytes 5-9/10"), 4, Some(5..10)),
        ] {
            assert!(
                judge_body(&head(status, headers), bytes, wanted.as_ref()).is_err(),
                "{headers:?} {wanted:?}"
            );
        }
    }

    #[test]
    fn a_get_is_moved_only_with_word_count_and_range() {
        // Shows each thing that must be there, by leaving it out.
        let moved = |bytes| GetVerdict::Moved { bytes, checksum: None };
        let whole = [(REPLY, "200"), (BYTES_TRANSFERRED, "10"), (OBJECT_SIZE, "10")];
        assert_eq!(judge_get(&head(200, &whole), 10, None), moved(10));
        // Its size is to be asked for: a server that cuts it says the same.
        let unsized_10 = GetVerdict::Unsized { bytes: 10, checksum: None };
        for room in [10, 11] {
            assert_eq!(judge_get(&head(200, &whole[..2]), room, None), unsized_10);
        }
        let range = [(REPLY, "206"), (BYTES_TRANSFERRED, "5"), ("content-range", "bytes 5-9/10")];
        assert_eq!(judge_get(&head(206, &range), 10, Some(&(5..10))), moved(5));
        // A field server answers a range so.
        assert_eq!(judge_get(&head(200, &range), 10, Some(&(5..10))), moved(5));
        // More was asked for than the object has.
        assert_eq!(judge_get(&head(206, &range), 10, Some(&(5..90))), moved(5));
        let elsewhere = [(REPLY, "206"), (BYTES_TRANSFERRED, "5"), ("content-range", "bytes 5-9/20")];
        for unproven in [
            // Replies to other requests than this.
            judge_get(&head(206, &range), 10, Some(&(0..5))),
            judge_get(&head(206, &range), 10, Some(&(5..9))),
            judge_get(&head(206, &elsewhere), 10, Some(&(5..11))),
            // The object does not end there, or nobody says that it does.
            judge_get(
                &head(206, &[range[0], range[1], ("content-range", "bytes 5-9/*")]),
                10,
                Some(&(5..11)),
            ),
            judge_get(&head(200, &[whole[0], whole[1], (OBJECT_SIZE, "11")]), 10, None),
            judge_get(&head(200, &[whole[0], whole[1], (OBJECT_SIZE, "ten")]), 10, None),
            judge_get(&head(206, &range), 10, None),
            judge_get(&head(200, &[(REPLY, "200")]), 10, None),
            judge_get(&head(200, &whole), 9, None),
            judge_get(&head(200, &whole), 10, Some(&(5..10))),
            judge_get(&head(200, &[(REPLY, "200"), (BYTES_TRANSFERRED, "+10")]), 10, None),
            judge_get(
                &head(200, &[(REPLY, "200"), (BYTES_TRANSFERRED, "1"), (BYTES_TRANSFERRED, "2")]),
                10,
                None,
            ),
            judge_get(
                &head(206, &[(REPLY, "206"), (BYTES_TRANSFERRED, "4"), ("content-range", "bytes 5-9/10")]),
                10,
                Some(&(5..10)),
            ),
        ] {
            assert!(matches!(unproven, GetVerdict::Unproven(_)), "{unproven:?}");
        }
    }

    #[test]
    fn a_get_that_was_not_moved_is_told_apart() {
        // Shows where the bytes are then.
        assert_eq!(judge_get(&head(200, &[]), 10, None), GetVerdict::Ignored);
        assert_eq!(judge_get(&head(206, &[(REPLY, "501")]), 10, Some(&(5..10))), GetVerdict::Body);
        assert_eq!(judge_get(&head(501, &[(REPLY, "501")]), 10, None), GetVerdict::Again);
        for refused in [
            head(404, &[]),
            head(200, &[(REPLY, "500")]),
            head(500, &[(REPLY, "200")]),
            head(404, &[(REPLY, "501")]),
        ] {
            assert_eq!(judge_get(&refused, 10, None), GetVerdict::Refused, "{refused:?}");
        }
        for failure in ["err", "", "2000", "201", "-200"] {
            assert_eq!(
                judge_get(&head(200, &[(REPLY, failure)]), 10, None),
                GetVerdict::Refused,
                "{failure}"
            );
        }
    }

    #[test]
    fn a_put_is_stored_only_with_word_tag_and_proof() {
        // Shows that a plain server's 200, which stored an empty object, is no success, and what else is none.
        let all = [(REPLY, "200"), ("etag", "\"e\""), (BYTES_TRANSFERRED, "10")];
        assert_eq!(judge_put(&head(200, &all), 10, None), PutVerdict::Stored);
        let by_checksum = [(REPLY, "ok"), ("etag", "\"e\""), ("x-amz-checksum-crc64nvme", "abc")];
        assert_eq!(judge_put(&head(200, &by_checksum), 10, Some("abc")), PutVerdict::Stored);
        assert_eq!(judge_put(&head(200, &[("etag", "\"e\"")]), 10, None), PutVerdict::Ignored);
        assert_eq!(judge_put(&head(200, &[(REPLY, "501")]), 10, None), PutVerdict::Declined);
        assert_eq!(judge_put(&head(501, &[(REPLY, "501")]), 10, None), PutVerdict::Declined);
        for unproven in [
            judge_put(&head(200, &all), 11, None),
            judge_put(&head(200, &all[..2]), 10, None),
            judge_put(&head(200, &[all[0], all[2]]), 10, None),
            judge_put(&head(200, &by_checksum), 10, None),
            judge_put(&head(200, &by_checksum), 10, Some("abd")),
        ] {
            assert!(matches!(unproven, PutVerdict::Unproven(_)), "{unproven:?}");
        }
        for refused in
            [head(500, &[(REPLY, "500")]), head(404, &[]), head(200, &[(REPLY, "500"), ("etag", "\"e\"")])]
        {
            assert_eq!(judge_put(&refused, 10, None), PutVerdict::Refused);
        }
    }
}
