//! Access control lists: what an owner grants to other accounts and to everybody.
//!
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>.) A list says who owns the thing and who was granted what.
//! A request names one in three ways, and in one of them only: a canned list, headers, or a document.

use super::error::{ErrorCode, S3Error};
use super::http::Headers;
use super::xml::{XmlReader, XmlWriter};
use std::borrow::Cow;

/// The longest document, bytes.
pub const ACL_BYTES_MAX: usize = 64 << 10;
/// "An ACL can have up to 100 grants." (*Access control list overview*, as above.)
const GRANTS_MAX: usize = 100;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// What a grant permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// To list a bucket, or read an object.
    Read,
    /// To put objects into a bucket.
    Write,
    /// To read the list.
    ReadAcp,
    /// To write the list.
    WriteAcp,
    /// All of these.
    FullControl,
}

impl Permission {
    const ALL: [Permission; 5] = [
        Permission::Read,
        Permission::Write,
        Permission::ReadAcp,
        Permission::WriteAcp,
        Permission::FullControl,
    ];

    /// The name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Permission::Read => "READ",
            Permission::Write => "WRITE",
            Permission::ReadAcp => "READ_ACP",
            Permission::WriteAcp => "WRITE_ACP",
            Permission::FullControl => "FULL_CONTROL",
        }
    }

    const fn header(self) -> &'static str {
        match self {
            Permission::Read => "x-amz-grant-read",
            Permission::Write => "x-amz-grant-write",
            Permission::ReadAcp => "x-amz-grant-read-acp",
            Permission::WriteAcp => "x-amz-grant-write-acp",
            Permission::FullControl => "x-amz-grant-full-control",
        }
    }

    fn from_name(name: &str) -> Option<Permission> {
        Permission::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// Who is granted something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grantee {
    /// An account, by its identifier.
    Account(String),
    /// An account, by an address: only in requests, nothing is stored so.
    Email(String),
    /// Everybody, signed or not.
    AllUsers,
    /// Everybody who signs.
    AuthenticatedUsers,
    /// Who delivers logs.
    LogDelivery,
}

impl Grantee {
    fn from_uri(uri: &str) -> Option<Grantee> {
        Some(match uri {
            ALL_USERS => Grantee::AllUsers,
            AUTHENTICATED_USERS => Grantee::AuthenticatedUsers,
            LOG_DELIVERY => Grantee::LogDelivery,
            _ => return None,
        })
    }

    /// Whether it is a group that strangers are in.
    pub fn is_public(&self) -> bool {
        matches!(self, Grantee::AllUsers | Grantee::AuthenticatedUsers)
    }
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Who.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// A list as it is kept: accounts have identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The account that owns the bucket or the object.
    pub owner: String,
    /// What is granted.
    pub grants: Vec<Grant>,
}

impl Acl {
    /// The owner has full control, and nobody else anything.
    pub fn private(owner: &str) -> Acl {
        let permission = Permission::FullControl;
        Acl {
            owner: owner.to_owned(),
            grants: vec![Grant { grantee: Grantee::Account(owner.to_owned()), permission }],
        }
    }

    /// Whether it grants `permission` to `account`; none is whoever did not sign. Without `public`, grants to strangers are
    /// passed over.
    pub fn permits(&self, account: Option<&str>, permission: Permission, public: bool) -> bool {
        self.grants.iter().any(|grant| {
            let meant = match &grant.grantee {
                Grantee::Account(id) => account == Some(id),
                Grantee::AllUsers => public,
                Grantee::AuthenticatedUsers => public && account.is_some(),
                Grantee::Email(_) | Grantee::LogDelivery => false,
            };
            meant && (grant.permission == permission || grant.permission == Permission::FullControl)
        })
    }

    /// Whether it grants anything to strangers.
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(|grant| grant.grantee.is_public())
    }

    /// Whether it grants anything to anybody but these accounts.
    pub fn reaches_beyond(&self, accounts: &[&str]) -> bool {
        self.grants.iter().any(|grant| match &grant.grantee {
            Grantee::Account(id) => !accounts.contains(&id.as_str()),
            _ => true,
        })
    }

    /// The bytes to store. [`Acl::decode`] reads them back.
    ///
    /// ```text
    ///   owner '\n' { letter of the permission, letter of the grantee, account if it is one, '\n' }
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut out = format!("{}\n", self.owner);
        for grant in &self.grants {
            out.push(match grant.permission {
                Permission::Read => 'r',
                Permission::Write => 'w',
                Permission::ReadAcp => 'R',
                Permission::WriteAcp => 'W',
                Permission::FullControl => 'f',
            });
            match &grant.grantee {
                Grantee::Account(id) => {
                    out.push('a');
                    out.push_str(id);
                }
                Grantee::AllUsers => out.push('*'),
                Grantee::AuthenticatedUsers => out.push('s'),
                Grantee::LogDelivery => out.push('l'),
                Grantee::Email(_) => unreachable!("an address is resolved before a list is stored"),
            }
            out.push('\n');
        }
        out.into_bytes()
    }

    /// Reads what [`Acl::encode`] wrote; none for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Acl> {
        let mut lines = core::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split('\n');
        let owner = lines.next()?.to_owned();
        let grants = lines.map(|line| {
            let mut letters = line.chars();
            let permission = match letters.next()? {
                'r' => Permission::Read,
                'w' => Permission::Write,
                'R' => Permission::ReadAcp,
                'W' => Permission::WriteAcp,
                'f' => Permission::FullControl,
                _ => return None,
            };
            let grantee = match (letters.next()?, letters.as_str()) {
                ('a', id) => Grantee::Account(id.to_owned()),
                ('*', "") => Grantee::AllUsers,
                ('s', "") => Grantee::AuthenticatedUsers,
                ('l', "") => Grantee::LogDelivery,
                _ => return None,
            };
            Some(Grant { grantee, permission })
        });
        Some(Acl { owner, grants: grants.collect::<Option<_>>()? })
    }

    /// The `AccessControlPolicy`. `name_of` says what an account is called.
    pub fn document<'a>(&self, name_of: impl Fn(&str) -> Option<Cow<'a, str>>) -> Vec<u8> {
        let mut xml = XmlWriter::root("AccessControlPolicy");
        let account = |xml: &mut XmlWriter, id: &str| {
            xml.text("ID", id).optional("DisplayName", name_of(id).as_deref());
        };
        xml.open("Owner");
        account(&mut xml, &self.owner);
        xml.close().open("AccessControlList");
        for grant in &self.grants {
            xml.open("Grant");
            let xsi = ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance");
            let kind = if matches!(grant.grantee, Grantee::Account(_)) { "CanonicalUser" } else { "Group" };
            xml.open_raw("Grantee", &[xsi, ("xsi:type", kind)]);
            match &grant.grantee {
                Grantee::Account(id) | Grantee::Email(id) => account(&mut xml, id),
                Grantee::AllUsers => {
                    xml.text("URI", ALL_USERS);
                }
                Grantee::AuthenticatedUsers => {
                    xml.text("URI", AUTHENTICATED_USERS);
                }
                Grantee::LogDelivery => {
                    xml.text("URI", LOG_DELIVERY);
                }
            }
            xml.close().text("Permission", grant.permission.name()).close();
        }
        xml.finish()
    }
}

/// A list that S3 has a name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of S3's list say what they are")]
pub enum CannedAcl {
    Private,
    PublicRead,
    PublicReadWrite,
    AuthenticatedRead,
    AwsExecRead,
    BucketOwnerRead,
    BucketOwnerFullControl,
    LogDeliveryWrite,
}

impl CannedAcl {
    const ALL: [(CannedAcl, &'static str); 8] = [
        (CannedAcl::Private, "private"),
        (CannedAcl::PublicRead, "public-read"),
        (CannedAcl::PublicReadWrite, "public-read-write"),
        (CannedAcl::AuthenticatedRead, "authenticated-read"),
        (CannedAcl::AwsExecRead, "aws-exec-read"),
        (CannedAcl::BucketOwnerRead, "bucket-owner-read"),
        (CannedAcl::BucketOwnerFullControl, "bucket-owner-full-control"),
        (CannedAcl::LogDeliveryWrite, "log-delivery-write"),
    ];

    /// Reads the value of `x-amz-acl`.
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument`.
    pub fn parse(value: &[u8]) -> Result<CannedAcl, S3Error> {
        let known = CannedAcl::ALL.into_iter().find(|(_, name)| name.as_bytes() == value);
        known.map(|(acl, _)| acl).ok_or_else(|| {
            S3Error::invalid_argument("x-amz-acl", String::from_utf8_lossy(value), "No such canned ACL.")
        })
    }

    /// The grants of the list (*Access control list overview*, "Canned ACL"), groups first.
    fn grants(self, owner: &str, bucket_owner: &str) -> Vec<Grant> {
        use Permission as P;
        let to = |grantee, permission| Grant { grantee, permission };
        let account = |id: &str| Grantee::Account(id.to_owned());
        let mut grants = match self {
            CannedAcl::PublicRead => vec![to(Grantee::AllUsers, P::Read)],
            CannedAcl::PublicReadWrite => {
                vec![to(Grantee::AllUsers, P::Read), to(Grantee::AllUsers, P::Write)]
            }
            CannedAcl::AuthenticatedRead => vec![to(Grantee::AuthenticatedUsers, P::Read)],
            CannedAcl::LogDeliveryWrite => {
                vec![to(Grantee::LogDelivery, P::Write), to(Grantee::LogDelivery, P::ReadAcp)]
            }
            // What AWS's EC2 reads images by has no counterpart here.
            CannedAcl::Private | CannedAcl::AwsExecRead => Vec::new(),
            CannedAcl::BucketOwnerRead | CannedAcl::BucketOwnerFullControl if owner == bucket_owner => {
                Vec::new()
            }
            CannedAcl::BucketOwnerRead => vec![to(account(bucket_owner), P::Read)],
            CannedAcl::BucketOwnerFullControl => vec![to(account(bucket_owner), P::FullControl)],
        };
        grants.push(to(account(owner), P::FullControl));
        grants
    }
}

/// A list as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclRequest {
    /// By its name.
    Canned(CannedAcl),
    /// Grant by grant. A document names the owner, too.
    Grants {
        /// The owner that the document names.
        owner: Option<String>,
        /// The grants.
        grants: Vec<Grant>,
    },
}

impl AclRequest {
    /// Reads `x-amz-acl` and `x-amz-grant-*`.
    ///
    /// "You can use either a canned ACL or specify access permissions explicitly. You cannot do both."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html>, "Permissions".)
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument`, `InvalidRequest`.
    pub fn from_headers(headers: &Headers) -> Result<Option<AclRequest>, S3Error> {
        let canned = headers.first("x-amz-acl").map(CannedAcl::parse).transpose()?;
        let mut grants = Vec::new();
        for permission in Permission::ALL {
            for value in headers.all(permission.header()) {
                for grantee in grantees(value, permission.header())? {
                    grants.push(Grant { grantee, permission });
                }
            }
        }
        match (canned, grants.is_empty()) {
            (Some(canned), true) => Ok(Some(AclRequest::Canned(canned))),
            (Some(_), false) => {
                let message = "Specifying both Canned ACLs and Header Grants is not allowed";
                Err(S3Error::with_message(ErrorCode::InvalidRequest, message))
            }
            (None, true) => Ok(None),
            (None, false) => Ok(Some(AclRequest::Grants { owner: None, grants })),
        }
    }

    /// Reads the `AccessControlPolicy` of a PutBucketAcl or PutObjectAcl.
    ///
    /// # Errors
    ///
    /// 400 `MalformedACLError`, `MalformedXML`.
    pub fn parse(document: &[u8]) -> Result<AclRequest, S3Error> {
        let malformed = || S3Error::from(ErrorCode::MalformedAcl);
        let mut xml = XmlReader::new(document, 2_000)?;
        xml.root("AccessControlPolicy")?;
        let (mut owner, mut grants) = (None, None);
        while let Some(name) = xml.child()? {
            match name {
                "Owner" => {
                    while let Some(name) = xml.child()? {
                        match name {
                            "ID" => owner = Some(xml.text()?),
                            _ => xml.skip()?,
                        }
                    }
                }
                "AccessControlList" => {
                    let found = grants.get_or_insert_with(Vec::new);
                    while let Some(name) = xml.child()? {
                        match name {
                            "Grant" if found.len() >= GRANTS_MAX => return Err(malformed()),
                            "Grant" => found.push(grant(&mut xml)?),
                            _ => return Err(malformed()),
                        }
                    }
                }
                _ => return Err(malformed()),
            }
        }
        xml.finish()?;
        match (owner, grants) {
            (Some(owner), Some(grants)) => Ok(AclRequest::Grants { owner: Some(owner), grants }),
            _ => Err(malformed()),
        }
    }

    /// The list to keep for what `owner` owns, in a bucket of `bucket_owner`. `account_of` finds the account of an address,
    /// `is_account` says whether there is one of that identifier.
    ///
    /// # Errors
    ///
    /// 400 `UnresolvableGrantByEmailAddress`; `InvalidArgument` for an account there is not; 403 `AccessDenied` if the document
    /// names another owner.
    pub fn resolve(
        &self,
        owner: &str,
        bucket_owner: &str,
        account_of: impl Fn(&str) -> Option<String>,
        is_account: impl Fn(&str) -> bool,
    ) -> Result<Acl, S3Error> {
        let (named, grants) = match self {
            AclRequest::Canned(canned) => {
                return Ok(Acl { owner: owner.to_owned(), grants: canned.grants(owner, bucket_owner) });
            }
            AclRequest::Grants { owner, grants } => (owner, grants),
        };
        // Ownership is not handed over by a list.
        if named.as_ref().is_some_and(|named| named != owner) {
            return Err(ErrorCode::AccessDenied.into());
        }
        let grants = grants.iter().map(|grant| {
            let grantee = match &grant.grantee {
                Grantee::Email(address) => {
                    let account = account_of(address).ok_or_else(|| {
                        S3Error::new(ErrorCode::UnresolvableGrantByEmailAddress)
                            .field("EmailAddress", address.clone())
                    });
                    Grantee::Account(account?)
                }
                Grantee::Account(id) if !is_account(id) => {
                    return Err(S3Error::invalid_argument("CanonicalUser/ID", id.clone(), "Invalid id"));
                }
                grantee => grantee.clone(),
            };
            Ok(Grant { grantee, permission: grant.permission })
        });
        let mut grants = grants.collect::<Result<Vec<_>, S3Error>>()?;
        // Groups first, as in the canned lists.
        grants.sort_by_key(|grant| matches!(grant.grantee, Grantee::Account(_)));
        Ok(Acl { owner: owner.to_owned(), grants })
    }
}

/// `id="…", emailAddress="…", uri="…"`.
fn grantees(value: &[u8], header: &'static str) -> Result<Vec<Grantee>, S3Error> {
    let refuse = || {
        S3Error::invalid_argument(header, String::from_utf8_lossy(value), "Argument format not recognized")
    };
    let text = core::str::from_utf8(value).map_err(|_| refuse())?;
    let pieces: Vec<&str> = text.split(',').map(str::trim).filter(|piece| !piece.is_empty()).collect();
    if pieces.is_empty() || pieces.len() > GRANTS_MAX {
        return Err(refuse());
    }
    pieces
        .into_iter()
        .map(|piece| {
            let (kind, value) = piece.split_once('=').ok_or_else(refuse)?;
            let value = value.trim().trim_matches('"');
            match kind.trim().to_ascii_lowercase().as_str() {
                "id" if is_name(value) => Ok(Grantee::Account(value.to_owned())),
                "emailaddress" if is_name(value) => Ok(Grantee::Email(value.to_owned())),
                "uri" => Grantee::from_uri(value)
                    .ok_or_else(|| S3Error::invalid_argument(header, value, "Invalid group uri")),
                _ => Err(refuse()),
            }
        })
        .collect()
}

/// What can stand in a line of the stored form.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control)
}

fn grant(xml: &mut XmlReader<'_>) -> Result<Grant, S3Error> {
    let malformed = || S3Error::from(ErrorCode::MalformedAcl);
    let (mut grantee, mut permission) = (None, None);
    while let Some(name) = xml.child()? {
        match name {
            // Which kind it is, the elements say as well as the attribute.
            "Grantee" => {
                while let Some(name) = xml.child()? {
                    let found = match name {
                        "ID" => Grantee::Account(xml.text()?),
                        "EmailAddress" => Grantee::Email(xml.text()?),
                        "URI" => {
                            let uri = xml.text()?;
                            let group = Grantee::from_uri(&uri);
                            group.ok_or_else(|| {
                                S3Error::invalid_argument("Group/URI", uri, "Invalid group uri")
                            })?
                        }
                        _ => {
                            xml.skip()?;
                            continue;
                        }
                    };
                    grantee = Some(found);
                }
            }
            "Permission" => permission = Permission::from_name(xml.text()?.trim_ascii()),
            _ => xml.skip()?,
        }
    }
    let named = |grantee: &Grantee| match grantee {
        Grantee::Account(name) | Grantee::Email(name) => is_name(name),
        _ => true,
    };
    match (grantee.filter(named), permission) {
        (Some(grantee), Some(permission)) => Ok(Grant { grantee, permission }),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Result<Option<AclRequest>, ErrorCode> {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
        AclRequest::from_headers(&headers).map_err(|error| error.code)
    }

    fn resolved(request: &AclRequest) -> Result<Acl, ErrorCode> {
        let account_of = |address: &str| (address == "b@x").then(|| "b".to_owned());
        request.resolve("a", "o", account_of, |id| id.len() == 1).map_err(|error| error.code)
    }

    #[test]
    fn canned_lists_grant() {
        // Who may do what under each, and that the owner always may.
        let acl =
            |name: &str| resolved(&AclRequest::Canned(CannedAcl::parse(name.as_bytes()).unwrap())).unwrap();
        for (name, _) in CannedAcl::ALL.map(|(_, name)| (name, ())) {
            assert!(acl(name).permits(Some("a"), Permission::WriteAcp, false), "{name}");
            assert_eq!(acl(name).is_public(), name.starts_with("public") || name.starts_with("auth"));
        }
        let read = Permission::Read;
        assert!(
            acl("public-read").permits(None, read, true) && !acl("public-read").permits(None, read, false)
        );
        assert!(!acl("public-read").permits(None, Permission::Write, true));
        assert!(acl("authenticated-read").permits(Some("z"), read, true));
        assert!(!acl("authenticated-read").permits(None, read, true));
        assert!(acl("bucket-owner-read").permits(Some("o"), read, true));
        assert!(!acl("bucket-owner-read").permits(Some("o"), Permission::ReadAcp, true));
        assert!(CannedAcl::parse(b"world").is_err());
    }

    #[test]
    fn headers_and_documents_name_grants() {
        // Accounts, addresses, groups; a document is read as it is written.
        let asked = request(&[
            ("x-amz-grant-read", "id=\"b\", uri=\"http://acs.amazonaws.com/groups/global/AllUsers\""),
            ("x-amz-grant-full-control", "emailAddress=\"b@x\""),
        ]);
        let acl = resolved(&asked.unwrap().unwrap()).unwrap();
        assert_eq!(acl.grants.len(), 3);
        assert_eq!(Acl::decode(&acl.encode()), Some(acl.clone()));
        let document = acl.document(|id| (id == "a").then(|| "Ann".into()));
        assert!(String::from_utf8_lossy(&document).contains("<ID>a</ID><DisplayName>Ann</DisplayName>"));
        let again = AclRequest::parse(&document).unwrap();
        assert_eq!(resolved(&again), Ok(acl));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        // Both ways at once, unknown accounts, addresses and groups, another owner, stored bytes that are none.
        assert_eq!(
            request(&[("x-amz-acl", "private"), ("x-amz-grant-read", "id=b")]),
            Err(ErrorCode::InvalidRequest)
        );
        for bad in ["b", "id=", "uri=x", ""] {
            assert_eq!(request(&[("x-amz-grant-read", bad)]), Err(ErrorCode::InvalidArgument), "{bad}");
        }
        let of = |value| resolved(&request(&[("x-amz-grant-read", value)]).unwrap().unwrap());
        assert_eq!(of("id=none"), Err(ErrorCode::InvalidArgument));
        assert_eq!(of("emailAddress=none"), Err(ErrorCode::UnresolvableGrantByEmailAddress));
        let other = Acl::private("z").document(|_| None);
        assert_eq!(resolved(&AclRequest::parse(&other).unwrap()), Err(ErrorCode::AccessDenied));
        let code = |text: &str| AclRequest::parse(text.as_bytes()).unwrap_err().code;
        assert_eq!(code("<AccessControlPolicy/>"), ErrorCode::MalformedAcl);
        assert_eq!(code("<Other/>"), ErrorCode::MalformedXml);
        for bad in [&b"a"[..], b"a\nx*\n", b"a\nr*x\n", b"\xff\n"] {
            assert_eq!(Acl::decode(bad), None);
        }
    }
}
