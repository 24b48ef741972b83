//! Byte ranges: which part of an object a request asks for.

use super::error::{ErrorCode, S3Error};

/// A range as the request named it, before the object's size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=first-last`, both included; `first <= last`.
    Closed {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// `bytes=first-`: from an offset to the end.
    From(u64),
    /// `bytes=-count`: the last bytes.
    Suffix(u64),
}

/// A range within an object of known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedRange {
    /// Offset of the first byte.
    pub offset: u64,
    /// How many bytes, at least one.
    pub bytes: u64,
}

/// Nothing of the object lies in the range: 416 `InvalidRange`, with `Content-Range: bytes */size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsatisfiable;

impl From<Unsatisfiable> for S3Error {
    fn from(_: Unsatisfiable) -> Self {
        ErrorCode::InvalidRange.into()
    }
}

impl ByteRange {
    /// Reads the value of `Range`. `None`, that is the whole object, if it is malformed, of another unit, or asks for
    /// several ranges.
    ///
    /// "Amazon S3 doesn't support retrieving multiple ranges of data per GET request."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, Range.) "An origin server MUST ignore a
    /// Range header field that contains a range unit it does not understand"; a malformed one it may ignore (RFC 9110 §14.2).
    pub fn parse(value: &[u8]) -> Option<ByteRange> {
        let text = core::str::from_utf8(value).ok()?.trim_ascii();
        let (unit, range) = text.split_once('=')?;
        let (first, last) = range.trim_ascii().split_once('-')?;
        if !unit.trim_ascii().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = (first.trim_ascii(), last.trim_ascii());
        match (first.is_empty(), last.is_empty()) {
            (true, true) => None,
            (true, false) => Some(ByteRange::Suffix(offset(last)?)),
            (false, true) => Some(ByteRange::From(offset(first)?)),
            (false, false) => {
                let (first, last) = (offset(first)?, offset(last)?);
                (first <= last).then_some(ByteRange::Closed { first, last })
            }
        }
    }

    /// The bytes of an object of `size` bytes that lie in the range. An end behind the object is cut to it.
    ///
    /// # Errors
    ///
    /// [`Unsatisfiable`] if there are none: always of an empty object.
    pub fn resolve(self, size: u64) -> Result<ResolvedRange, Unsatisfiable> {
        let (offset, end) = match self {
            ByteRange::Closed { first, last } => (first, last.saturating_add(1).min(size)),
            ByteRange::From(first) => (first, size),
            ByteRange::Suffix(count) => (size.saturating_sub(count), size),
        };
        match end.checked_sub(offset) {
            None | Some(0) => Err(Unsatisfiable),
            Some(bytes) => Ok(ResolvedRange { offset, bytes }),
        }
    }
}

impl ResolvedRange {
    /// `bytes first-last/size`, the value of `Content-Range` (RFC 9110 §14.4).
    pub fn content_range(&self, size: u64) -> String {
        let last = self.offset.saturating_add(self.bytes).saturating_sub(1);
        format!("bytes {}-{last}/{size}", self.offset)
    }
}

/// Reads the value of `x-amz-copy-source-range`, which unlike `Range` must be closed and well formed.
///
/// "The range value must use the form bytes=first-last, where the first and last are the zero-based byte offsets to
/// copy." (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>, x-amz-copy-source-range.)
///
/// # Errors
///
/// 400 `InvalidArgument`.
pub fn parse_copy_range(value: &[u8]) -> Result<ByteRange, S3Error> {
    match (value.starts_with(b"bytes="), ByteRange::parse(value)) {
        (true, Some(range @ ByteRange::Closed { .. })) => Ok(range),
        _ => Err(S3Error::invalid_argument(
            "x-amz-copy-source-range",
            String::from_utf8_lossy(value),
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy",
        )),
    }
}

/// The bytes that `range` (from [`parse_copy_range`]) names of a source of `size` bytes. Unlike a read, a copy is not
/// cut to the source: it must lie within.
///
/// # Errors
///
/// 416 `InvalidRange`.
pub fn resolve_copy_range(range: ByteRange, size: u64) -> Result<ResolvedRange, S3Error> {
    match range {
        ByteRange::Closed { last, .. } if last >= size => Err(S3Error::with_message(
            ErrorCode::InvalidRange,
            format!("The range is not valid for a source object of {size} bytes."),
        )),
        _ => Ok(range.resolve(size)?),
    }
}

/// A decimal offset. More digits than 64 bits hold mean "behind every object", not "malformed".
fn offset(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolved(text: &str, size: u64) -> Option<Result<(u64, u64), Unsatisfiable>> {
        let range = ByteRange::parse(text.as_bytes())?;
        Some(range.resolve(size).map(|range| (range.offset, range.bytes)))
    }

    #[test]
    fn the_forms_of_a_range() {
        // Closed, open and suffix ranges of a ten-byte object, cut to it or out of it.
        assert_eq!(resolved("bytes=0-0", 10), Some(Ok((0, 1))));
        assert_eq!(resolved("bytes=4-7", 10), Some(Ok((4, 4))));
        assert_eq!(resolved("bytes=4-99999999999999999999999", 10), Some(Ok((4, 6))));
        assert_eq!(resolved("Bytes = 4-", 10), Some(Ok((4, 6))));
        assert_eq!(resolved("bytes=-3", 10), Some(Ok((7, 3))));
        assert_eq!(resolved("bytes=-30", 10), Some(Ok((0, 10))));
        assert_eq!(resolved("bytes=10-", 10), Some(Err(Unsatisfiable)));
        assert_eq!(resolved("bytes=-0", 10), Some(Err(Unsatisfiable)));
        assert_eq!(resolved("bytes=0-8388607", 0), Some(Err(Unsatisfiable)));
        assert_eq!(ByteRange::Suffix(3).resolve(10).unwrap().content_range(10), "bytes 7-9/10");
    }

    #[test]
    fn what_is_no_single_range_means_the_whole_object() {
        // Several ranges, other units and nonsense are ignored.
        for text in [
            "bytes=0-1,3-4",
            "bytes=5-4",
            "bytes=",
            "bytes=-",
            "items=0-1",
            "bytes 0-1",
            "bytes=a-b",
            "bytes=+1-2",
        ] {
            assert_eq!(resolved(text, 10), None, "{text}");
        }
    }

    #[test]
    fn a_copy_range_is_closed_and_within() {
        // Copies refuse what reads ignore or cut.
        for text in ["0-1", "bytes=0-", "bytes=-1", "bytes=0-1,2-3", "Bytes=0-1"] {
            assert_eq!(
                parse_copy_range(text.as_bytes()).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{text}"
            );
        }
        let range = parse_copy_range(b"bytes=2-9").unwrap();
        assert_eq!(resolve_copy_range(range, 10).unwrap(), ResolvedRange { offset: 2, bytes: 8 });
        assert_eq!(resolve_copy_range(range, 9).unwrap_err().code, ErrorCode::InvalidRange);
    }

    proptest! {
        #[test]
        fn a_resolved_range_lies_within(bytes in proptest::collection::vec(any::<u8>(), 0..40), a in any::<u64>(), b in any::<u64>(), size in any::<u64>()) {
            // Whatever is asked for, what is answered is not empty and inside the object.
            let candidates = [
                ByteRange::parse(&bytes), ByteRange::parse(format!("bytes={a}-{b}").as_bytes()),
                Some(ByteRange::From(a)), Some(ByteRange::Suffix(a)),
            ];
            for range in candidates.into_iter().flatten() {
                if let Ok(range) = range.resolve(size) {
                    prop_assert!(range.bytes > 0 && range.offset.checked_add(range.bytes).unwrap() <= size);
                }
            }
        }
    }
}
