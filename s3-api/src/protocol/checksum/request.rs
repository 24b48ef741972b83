//! Which checksum a request brings.
//!
//! Each operation's page says so of its own headers, as
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html> of x-amz-sdk-checksum-algorithm and x-amz-checksum-crc32.
#![deny(clippy::indexing_slicing)]

use super::super::http::Headers;
use super::algorithm::Algorithm;
use super::value::{Checksum, ObjectChecksum};

/// The checksum of a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestChecksum {
    /// None was announced.
    #[default]
    None,
    /// The value came in a header.
    Header(Checksum),
    /// The value will follow the body, in the trailer that `x-amz-trailer` announced.
    Trailer(Algorithm),
}

impl RequestChecksum {
    /// The algorithm, if there is a checksum.
    pub fn algorithm(&self) -> Option<Algorithm> {
        match self {
            RequestChecksum::None => None,
            RequestChecksum::Header(checksum) => Some(checksum.algorithm()),
            RequestChecksum::Trailer(algorithm) => Some(*algorithm),
        }
    }
}

/// Why the checksum headers of a request were refused. S3: 400 `InvalidRequest`, but for
/// [`ChecksumError::UnsupportedAlgorithm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// The value is no base64 of the right length. "Value for x-amz-checksum-… header is invalid."
    #[error("the value of {} is invalid", .0.header())]
    InvalidValue(Algorithm),
    /// More than one value. "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
    #[error("more than one checksum")]
    Multiple,
    /// A checksum by an algorithm that is not spoken here. S3: 501 `NotImplemented`: to ignore it would be to promise
    /// a check that is not made.
    #[error("unsupported checksum algorithm")]
    UnsupportedAlgorithm,
    /// `x-amz-sdk-checksum-algorithm` names another algorithm than the value has, or none.
    /// "Value for x-amz-sdk-checksum-algorithm header is invalid."
    #[error("x-amz-sdk-checksum-algorithm does not match")]
    SdkAlgorithm,
    /// `x-amz-sdk-checksum-algorithm` without a value. "x-amz-sdk-checksum-algorithm specified, but no corresponding
    /// x-amz-checksum-* or x-amz-trailer headers were found."
    #[error("x-amz-sdk-checksum-algorithm without a checksum")]
    SdkAlgorithmAlone,
    /// `x-amz-trailer` is not the name of one checksum header. "The value specified in the x-amz-trailer header is not
    /// supported."
    #[error("unsupported x-amz-trailer")]
    UnsupportedTrailer,
}

/// Reads which checksum the body of a request brings: `x-amz-checksum-*`, `x-amz-trailer`,
/// `x-amz-sdk-checksum-algorithm`.
///
/// Not for CompleteMultipartUpload, whose `x-amz-checksum-*` describes the object: see [`object_checksum`].
///
/// # Errors
///
/// [`ChecksumError`].
pub fn request_checksum(headers: &Headers) -> Result<RequestChecksum, ChecksumError> {
    let header = value_header(headers)?;
    let mut trailers = headers.all("x-amz-trailer");
    let found = match (header, trailers.next()) {
        (None, None) => RequestChecksum::None,
        (Some((algorithm, value)), None) => RequestChecksum::Header(
            Checksum::parse(algorithm, value).ok_or(ChecksumError::InvalidValue(algorithm))?,
        ),
        (None, Some(name)) => RequestChecksum::Trailer(
            Algorithm::from_header(name.trim_ascii()).ok_or(ChecksumError::UnsupportedTrailer)?,
        ),
        (Some(_), Some(_)) => return Err(ChecksumError::Multiple),
    };
    if trailers.next().is_some() {
        return Err(ChecksumError::Multiple);
    }
    if let Some(sdk) = headers.first("x-amz-sdk-checksum-algorithm") {
        let named = core::str::from_utf8(sdk).ok().and_then(Algorithm::from_name);
        match (named, found.algorithm()) {
            (None, _) => return Err(ChecksumError::SdkAlgorithm),
            (Some(_), None) => return Err(ChecksumError::SdkAlgorithmAlone),
            (Some(named), Some(found)) if named != found => return Err(ChecksumError::SdkAlgorithm),
            _ => {}
        }
    }
    Ok(found)
}

/// Reads the checksum that CompleteMultipartUpload names for the whole object, `base64` or `base64-N`.
///
/// # Errors
///
/// [`ChecksumError::InvalidValue`], [`ChecksumError::Multiple`], [`ChecksumError::UnsupportedAlgorithm`].
pub fn object_checksum(headers: &Headers) -> Result<Option<ObjectChecksum>, ChecksumError> {
    value_header(headers)?
        .map(|(algorithm, value)| {
            ObjectChecksum::parse(algorithm, value).ok_or(ChecksumError::InvalidValue(algorithm))
        })
        .transpose()
}

fn value_header(headers: &Headers) -> Result<Option<(Algorithm, &[u8])>, ChecksumError> {
    let mut found = None;
    for (name, value) in headers.iter() {
        let Some(word) = name.strip_prefix("x-amz-checksum-") else { continue };
        if matches!(word, "mode" | "algorithm" | "type") {
            continue;
        }
        let algorithm = Algorithm::from_header(name.as_bytes()).ok_or(ChecksumError::UnsupportedAlgorithm)?;
        if found.replace((algorithm, value)).is_some() {
            return Err(ChecksumError::Multiple);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::hasher::Hasher;
    use super::*;

    fn of(fields: &[(&str, &str)]) -> Result<RequestChecksum, ChecksumError> {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name, value.as_bytes());
        }
        request_checksum(&headers)
    }

    #[test]
    fn what_clients_send_is_read() {
        // The captures of real clients: none; a header with the SDK's word; a trailer; words about answers.
        let crc = Hasher::checksum(Algorithm::Crc32, b"");
        assert_eq!(of(&[]), Ok(RequestChecksum::None));
        assert_eq!(of(&[("x-amz-checksum-mode", "ENABLED")]), Ok(RequestChecksum::None));
        let sdk = ("x-amz-sdk-checksum-algorithm", "CRC32");
        assert_eq!(of(&[sdk, ("x-amz-checksum-crc32", "AAAAAA==")]), Ok(RequestChecksum::Header(crc)));
        let trailer = ("x-amz-trailer", "x-amz-checksum-crc32");
        assert_eq!(of(&[sdk, trailer]), Ok(RequestChecksum::Trailer(Algorithm::Crc32)));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        // Two values, a wrong length, an unknown algorithm, a word without a value: each has its error.
        let crc32 = ("x-amz-checksum-crc32", "AAAAAA==");
        let sdk = |name| ("x-amz-sdk-checksum-algorithm", name);
        assert_eq!(of(&[crc32, ("x-amz-checksum-crc32c", "AAAAAA==")]), Err(ChecksumError::Multiple));
        assert_eq!(of(&[crc32, crc32]), Err(ChecksumError::Multiple));
        assert_eq!(of(&[crc32, ("x-amz-trailer", "x-amz-checksum-crc32")]), Err(ChecksumError::Multiple));
        let short = ("x-amz-checksum-sha256", "AAAAAA==");
        assert_eq!(of(&[short]), Err(ChecksumError::InvalidValue(Algorithm::Sha256)));
        assert_eq!(of(&[("x-amz-checksum-md4", "AAAAAA==")]), Err(ChecksumError::UnsupportedAlgorithm));
        assert_eq!(of(&[crc32, sdk("SHA1")]), Err(ChecksumError::SdkAlgorithm));
        assert_eq!(of(&[crc32, sdk("FOO")]), Err(ChecksumError::SdkAlgorithm));
        assert_eq!(of(&[sdk("SHA1")]), Err(ChecksumError::SdkAlgorithmAlone));
        for bad in ["content-type", "x-amz-checksum-crc32, x-amz-checksum-sha1", ""] {
            assert_eq!(of(&[("x-amz-trailer", bad)]), Err(ChecksumError::UnsupportedTrailer), "{bad}");
        }
    }

    #[test]
    fn a_complete_request_names_the_objects_checksum() {
        // The value may carry a part count there.
        let mut headers = Headers::default();
        assert_eq!(object_checksum(&headers), Ok(None));
        headers.push("x-amz-checksum-crc32", b"AAAAAA==-3");
        assert_eq!(object_checksum(&headers).unwrap().unwrap().part_count, Some(3));
        headers.set("x-amz-checksum-crc32", b"AAAAAA==-x");
        assert_eq!(object_checksum(&headers), Err(ChecksumError::InvalidValue(Algorithm::Crc32)));
    }
}
