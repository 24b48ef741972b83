//! Object checksums: algorithms, values, composition of parts, and what a request asks for.
//!
//! Rules: *Checking object integrity for data uploads in Amazon S3*,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>.
//!
//! ```text
//!              type of a multipart object's checksum          one part after another
//!   CRC64NVME  FULL_OBJECT                                    combine
//!   CRC32(C)   COMPOSITE (default) or FULL_OBJECT             hash of part checksums, or combine
//!   others     COMPOSITE                                      hash of part checksums
//! ```

mod algorithm;
mod hasher;
mod request;
mod value;

pub use algorithm::{Algorithm, ChecksumType};
pub use hasher::Hasher;
pub use request::{ChecksumError, RequestChecksum, object_checksum, request_checksum};
pub use value::{Checksum, ObjectChecksum, combine, composite, full_object};
