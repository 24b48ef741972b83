//! The checksum algorithms of S3 and the types of checksum each may make.
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>, "Full object and composite checksum
//! types", the table under "Multipart uploads".)

/// A checksum algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// CRC-32 as in ISO 3309 and zlib: 4 bytes.
    Crc32 = 1,
    /// CRC-32C (Castagnoli) as in iSCSI: 4 bytes.
    Crc32c = 2,
    /// CRC-64/NVME: 8 bytes. S3's default.
    Crc64Nvme = 3,
    /// SHA-1: 20 bytes.
    Sha1 = 4,
    /// SHA-256: 32 bytes.
    Sha256 = 5,
    /// SHA-512: 64 bytes.
    Sha512 = 6,
    /// MD5: 16 bytes.
    Md5 = 7,
    /// XXH64, seed 0: 8 bytes.
    XxHash64 = 8,
    /// The 64-bit XXH3, seed 0: 8 bytes.
    XxHash3 = 9,
    /// The 128-bit XXH3, seed 0: 16 bytes.
    XxHash128 = 10,
}

/// Bytes of the longest value.
pub(super) const DIGEST_BYTES_MAX: usize = 64;

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 10] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
        Algorithm::Sha512,
        Algorithm::Md5,
        Algorithm::XxHash64,
        Algorithm::XxHash3,
        Algorithm::XxHash128,
    ];

    /// The name in `x-amz-checksum-algorithm` and in XML.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
            Algorithm::Sha512 => "SHA512",
            Algorithm::Md5 => "MD5",
            Algorithm::XxHash64 => "XXHASH64",
            Algorithm::XxHash3 => "XXHASH3",
            Algorithm::XxHash128 => "XXHASH128",
        }
    }

    /// The algorithm of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The header or trailer that carries a value.
    pub fn header(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "x-amz-checksum-crc32",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Sha1 => "x-amz-checksum-sha1",
            Algorithm::Sha256 => "x-amz-checksum-sha256",
            Algorithm::Sha512 => "x-amz-checksum-sha512",
            Algorithm::Md5 => "x-amz-checksum-md5",
            Algorithm::XxHash64 => "x-amz-checksum-xxhash64",
            Algorithm::XxHash3 => "x-amz-checksum-xxhash3",
            Algorithm::XxHash128 => "x-amz-checksum-xxhash128",
        }
    }

    /// The XML element that carries a value.
    pub fn element(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "ChecksumCRC32",
            Algorithm::Crc32c => "ChecksumCRC32C",
            Algorithm::Crc64Nvme => "ChecksumCRC64NVME",
            Algorithm::Sha1 => "ChecksumSHA1",
            Algorithm::Sha256 => "ChecksumSHA256",
            Algorithm::Sha512 => "ChecksumSHA512",
            Algorithm::Md5 => "ChecksumMD5",
            Algorithm::XxHash64 => "ChecksumXXHASH64",
            Algorithm::XxHash3 => "ChecksumXXHASH3",
            Algorithm::XxHash128 => "ChecksumXXHASH128",
        }
    }

    /// The algorithm whose [`Algorithm::header`] this is, in any case.
    pub fn from_header(header: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| header.eq_ignore_ascii_case(algorithm.header().as_bytes()))
    }

    /// Bytes of a value, before base64.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme | Algorithm::XxHash64 | Algorithm::XxHash3 => 8,
            Algorithm::Md5 | Algorithm::XxHash128 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => DIGEST_BYTES_MAX,
        }
    }

    /// Whether checksums of adjoining pieces can be combined without the bytes.
    pub const fn is_crc(self) -> bool {
        matches!(self, Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme)
    }

    /// Whether a multipart object may have a checksum of this type.
    pub const fn allows(self, kind: ChecksumType) -> bool {
        match kind {
            ChecksumType::FullObject => self.is_crc(),
            ChecksumType::Composite => !matches!(self, Algorithm::Crc64Nvme),
        }
    }

    /// The type a multipart upload gets if it names none.
    pub const fn default_type(self) -> ChecksumType {
        match self {
            Algorithm::Crc64Nvme => ChecksumType::FullObject,
            _ => ChecksumType::Composite,
        }
    }
}

/// What a checksum covers. An object put in one piece always has the full-object type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumType {
    /// The bytes of the object.
    FullObject,
    /// The checksums of its parts, one behind the other.
    Composite,
}

impl ChecksumType {
    /// The name in `x-amz-checksum-type` and in XML.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumType::FullObject => "FULL_OBJECT",
            ChecksumType::Composite => "COMPOSITE",
        }
    }

    /// The type of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        [ChecksumType::FullObject, ChecksumType::Composite]
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_defaults_are_allowed() {
        // Each spelling leads back to its algorithm, and no algorithm defaults to a type it does not allow.
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(&algorithm.name().to_lowercase()), Some(algorithm));
            assert_eq!(Algorithm::from_header(algorithm.header().to_uppercase().as_bytes()), Some(algorithm));
            assert!(algorithm.allows(algorithm.default_type()));
        }
        assert!(!Algorithm::Crc64Nvme.allows(ChecksumType::Composite));
        for hash in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_crc()) {
            assert!(
                !hash.allows(ChecksumType::FullObject) && hash.allows(ChecksumType::Composite),
                "{hash:?}"
            );
        }
        assert!(Algorithm::Crc32c.allows(ChecksumType::FullObject));
        assert_eq!(ChecksumType::from_name("full_object"), Some(ChecksumType::FullObject));
        assert_eq!(Algorithm::from_header(b"x-amz-checksum-mode"), None);
    }
}
