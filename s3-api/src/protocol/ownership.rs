//! Who owns objects, and whether anything here may be public: ownership controls and the public access block.

use super::error::{ErrorCode, S3Error};
use super::http::Headers;
use super::xml::{XmlReader, XmlWriter};

/// The longest of these documents, bytes.
pub const OWNERSHIP_BYTES_MAX: usize = 4 << 10;

/// Who owns an object that another account puts into a bucket.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectOwnership {
    /// The bucket's owner owns every object, and access control lists have no say.
    BucketOwnerEnforced,
    /// The bucket's owner, if the writer says `bucket-owner-full-control`; else the writer.
    BucketOwnerPreferred,
    /// The writer. What buckets without ownership controls have.
    ObjectWriter,
}

impl ObjectOwnership {
    const ALL: [ObjectOwnership; 3] = [
        ObjectOwnership::BucketOwnerEnforced,
        ObjectOwnership::BucketOwnerPreferred,
        ObjectOwnership::ObjectWriter,
    ];

    /// The name in documents and in `x-amz-object-ownership`.
    pub const fn name(self) -> &'static str {
        match self {
            ObjectOwnership::BucketOwnerEnforced => "BucketOwnerEnforced",
            ObjectOwnership::BucketOwnerPreferred => "BucketOwnerPreferred",
            ObjectOwnership::ObjectWriter => "ObjectWriter",
        }
    }

    fn from_name(name: &[u8]) -> Option<ObjectOwnership> {
        ObjectOwnership::ALL.into_iter().find(|known| known.name().as_bytes() == name)
    }

    /// Reads `x-amz-object-ownership` of CreateBucket.
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument`.
    pub fn from_headers(headers: &Headers) -> Result<Option<ObjectOwnership>, S3Error> {
        const NAME: &str = "x-amz-object-ownership";
        let Some(value) = headers.first(NAME) else { return Ok(None) };
        let known = ObjectOwnership::from_name(value);
        known.map(Some).ok_or_else(|| {
            S3Error::invalid_argument(
                NAME,
                String::from_utf8_lossy(value),
                "Invalid x-amz-object-ownership header",
            )
        })
    }

    /// Reads an `OwnershipControls` document: one rule.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketOwnershipControls.html>.)
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`.
    pub fn parse(document: &[u8]) -> Result<ObjectOwnership, S3Error> {
        let malformed = || S3Error::from(ErrorCode::MalformedXml);
        let mut xml = XmlReader::new(document, 16)?;
        xml.root("OwnershipControls")?;
        let mut found = None;
        while let Some(name) = xml.child()? {
            if name != "Rule" {
                xml.skip()?;
                continue;
            }
            while let Some(name) = xml.child()? {
                if name != "ObjectOwnership" {
                    xml.skip()?;
                    continue;
                }
                let text = xml.text()?;
                let known = ObjectOwnership::from_name(text.trim_ascii().as_bytes()).ok_or_else(malformed)?;
                if found.replace(known).is_some() {
                    return Err(malformed());
                }
            }
        }
        xml.finish()?;
        found.ok_or_else(malformed)
    }

    /// The `OwnershipControls` document.
    pub fn document(self) -> Vec<u8> {
        let mut xml = XmlWriter::root("OwnershipControls");
        xml.open("Rule").text("ObjectOwnership", self.name());
        xml.finish()
    }
}

/// What a bucket keeps from the public, whatever its policy and its lists say.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html>, "Block public access
/// settings".)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicAccessBlock {
    /// Refuses lists that grant something to the public.
    pub block_public_acls: bool,
    /// Ignores what lists grant to the public.
    pub ignore_public_acls: bool,
    /// Refuses policies that are public.
    pub block_public_policy: bool,
    /// A policy that is public serves the owner's account only.
    pub restrict_public_buckets: bool,
}

impl PublicAccessBlock {
    /// Everything: what new buckets have.
    pub const ALL: PublicAccessBlock = PublicAccessBlock {
        block_public_acls: true,
        ignore_public_acls: true,
        block_public_policy: true,
        restrict_public_buckets: true,
    };

    /// Reads a `PublicAccessBlockConfiguration`; what it does not name is off.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`.
    pub fn parse(document: &[u8]) -> Result<PublicAccessBlock, S3Error> {
        let mut xml = XmlReader::new(document, 32)?;
        xml.root("PublicAccessBlockConfiguration")?;
        let mut block = PublicAccessBlock::default();
        while let Some(name) = xml.child()? {
            let flag = match name {
                "BlockPublicAcls" => &mut block.block_public_acls,
                "IgnorePublicAcls" => &mut block.ignore_public_acls,
                "BlockPublicPolicy" => &mut block.block_public_policy,
                "RestrictPublicBuckets" => &mut block.restrict_public_buckets,
                // A flag not understood here might be one that somebody relies on.
                _ => return Err(ErrorCode::MalformedXml.into()),
            };
            *flag = match xml.text()?.trim_ascii() {
                text if text.eq_ignore_ascii_case("true") => true,
                text if text.eq_ignore_ascii_case("false") => false,
                _ => return Err(ErrorCode::MalformedXml.into()),
            };
        }
        xml.finish()?;
        Ok(block)
    }

    /// The `PublicAccessBlockConfiguration`.
    pub fn document(self) -> Vec<u8> {
        let mut xml = XmlWriter::root("PublicAccessBlockConfiguration");
        xml.value("BlockPublicAcls", self.block_public_acls)
            .value("IgnorePublicAcls", self.ignore_public_acls)
            .value("BlockPublicPolicy", self.block_public_policy)
            .value("RestrictPublicBuckets", self.restrict_public_buckets);
        xml.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_as_they_are_written() {
        // Every value of both, and what is none.
        for ownership in ObjectOwnership::ALL {
            assert_eq!(ObjectOwnership::parse(&ownership.document()), Ok(ownership));
        }
        for bits in 0..16u8 {
            let block = PublicAccessBlock {
                block_public_acls: bits & 1 != 0,
                ignore_public_acls: bits & 2 != 0,
                block_public_policy: bits & 4 != 0,
                restrict_public_buckets: bits & 8 != 0,
            };
            assert_eq!(PublicAccessBlock::parse(&block.document()), Ok(block));
        }
        let rule = "<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>";
        for bad in ["".into(), rule.repeat(2), rule.replace("Writer", "Reader")] {
            let document = format!("<OwnershipControls>{bad}</OwnershipControls>");
            assert!(ObjectOwnership::parse(document.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["<BlockPublicAcls>maybe</BlockPublicAcls>", "<BlockAll>true</BlockAll>"] {
            let document = format!("<PublicAccessBlockConfiguration>{bad}</PublicAccessBlockConfiguration>");
            assert!(PublicAccessBlock::parse(document.as_bytes()).is_err(), "{bad}");
        }
    }
}
