//! What a request says about who sent it, before anything is believed.
//!
//! In a header: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html>,
//! "Overview". In the query: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>.
#![deny(clippy::indexing_slicing)]

use super::super::http::RequestHead;
use super::encoding::{decode_iter, query_pairs};
use super::error::{AuthError, ScopeFault};
use super::key::{Scope, Signature};
use super::payload::PayloadMode;
use super::timestamp::Timestamp;

/// The longest validity of a presigned request: "The minimum value you can set is 1, and the maximum is 604800 (seven days)."
/// (*Authenticating requests: using query parameters*, X-Amz-Expires.)
pub(super) const EXPIRES_SECONDS_MAX: u64 = 604_800;

/// More signed headers than a head may have fields; it bounds the work of a signature that is not verified yet.
const SIGNED_HEADERS_MAX: usize = 256;

const ALGORITHM_V4: &str = "AWS4-HMAC-SHA256";
const ALGORITHM_V4A: &str = "AWS4-ECDSA-P256-SHA256";

/// Where a signature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignaturePlace {
    /// In the `Authorization` header.
    Header,
    /// In the query: a presigned request.
    Query,
}

/// What [`authenticate`] found.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// The request carries no credentials. Its body is described by `x-amz-content-sha256` all the same.
    Anonymous {
        /// How the body is framed and checked. Never a mode with signed chunks: there is no key to sign with.
        payload: PayloadMode,
    },
    /// The request claims to be signed; see [`super::verify`].
    Signed(Box<Claim>),
}

/// The claims of a signed request, parsed and not yet verified.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The access key: look the secret up by it.
    pub access_key: Box<str>,
    /// The session token of temporary credentials, if one came. Whether it is good is the caller's to decide.
    pub session_token: Option<Box<str>>,
    /// Where the signature stands.
    pub place: SignaturePlace,
    /// When the request was signed.
    pub timestamp: Timestamp,
    /// The scope of the key it was signed with; its day is the day of `timestamp`.
    pub scope: Scope,
    /// The names of the signed headers, in lower case, divided by semicolons, in the order they were signed.
    pub signed_headers: Box<str>,
    /// The signature.
    pub signature: Signature,
    /// Seconds for which a presigned request is valid; `None` for [`SignaturePlace::Header`].
    pub expires_seconds: Option<u64>,
    /// How the body is framed and checked.
    pub payload: PayloadMode,
    /// The text that stood for the body when the request was signed.
    pub(super) payload_text: Box<str>,
}

/// Reads the claims of a request, or finds that it has none.
///
/// # Errors
///
/// [`AuthError`] if there are credentials that can not be read, of a kind we do not speak, or of two kinds. A
/// request that tries to authenticate is never treated as anonymous.
pub fn authenticate(head: &RequestHead) -> Result<Authentication, AuthError> {
    let in_header = head.headers.contains("authorization");
    let query = QueryAuthentication::find(&head.query)?;
    match (in_header, query) {
        (true, Some(_)) => Err(AuthError::MultipleMechanisms),
        (true, None) => from_header(head).map(|claim| Authentication::Signed(Box::new(claim))),
        (false, Some(query)) => query.into_claim(head).map(|claim| Authentication::Signed(Box::new(claim))),
        (false, None) => {
            let payload = match single(head, "x-amz-content-sha256") {
                Ok(None) => PayloadMode::Unsigned,
                Ok(Some(value)) => PayloadMode::parse(value)?,
                Err(Repeated) => return Err(AuthError::InvalidContentSha256),
            };
            if payload.has_signed_chunks() {
                return Err(AuthError::InvalidContentSha256);
            }
            Ok(Authentication::Anonymous { payload })
        }
    }
}

struct Repeated;

/// The value of a header that may occur once at most.
fn single<'a>(head: &'a RequestHead, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
    let mut values = head.headers.all(name);
    let first = values.next();
    if values.next().is_some() { Err(Repeated) } else { Ok(first) }
}

fn from_header(head: &RequestHead) -> Result<Claim, AuthError> {
    const PLACE: SignaturePlace = SignaturePlace::Header;
    const MALFORMED: AuthError = AuthError::Malformed { place: PLACE };
    let Ok(Some(value)) = single(head, "authorization") else { return Err(MALFORMED) };
    let value = core::str::from_utf8(value).map_err(|_| MALFORMED)?;
    let (scheme, fields) = value.split_once(' ').unwrap_or((value, ""));
    match scheme {
        ALGORITHM_V4 => {}
        ALGORITHM_V4A => return Err(AuthError::SignatureV4a),
        "AWS" => return Err(AuthError::SignatureV2),
        _ => return Err(AuthError::UnsupportedAlgorithm),
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in fields.split(',') {
        let (name, value) = field.trim().split_once('=').ok_or(MALFORMED)?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(MALFORMED),
        };
        if slot.replace(value).is_some() {
            return Err(MALFORMED);
        }
    }
    let (Some(credential), Some(signed_headers), Some(signature)) = (credential, signed_headers, signature)
    else {
        return Err(MALFORMED);
    };
    let signature = Signature::parse(signature.as_bytes()).ok_or(MALFORMED)?;
    let signed_headers = parse_signed_headers(signed_headers, PLACE)?;

    let timestamp = match (single(head, "x-amz-date"), single(head, "date")) {
        (Ok(Some(value)), _) | (Ok(None), Ok(Some(value))) => {
            Timestamp::parse_basic(value).or_else(|| Timestamp::parse_http_date(value))
        }
        (Ok(None), Ok(None)) => return Err(AuthError::MissingDate),
        (Err(Repeated), _) | (_, Err(Repeated)) => None,
    }
    .ok_or(AuthError::MalformedDate { place: PLACE })?;
    let (access_key, scope) = parse_credential(credential, timestamp, PLACE)?;

    let payload_value = match single(head, "x-amz-content-sha256") {
        Ok(Some(value)) => value,
        Ok(None) => return Err(AuthError::MissingContentSha256),
        Err(Repeated) => return Err(AuthError::InvalidContentSha256),
    };
    let session_token = match single(head, "x-amz-security-token") {
        Ok(value) => value.map(text).transpose().map_err(|_| MALFORMED)?,
        Err(Repeated) => return Err(MALFORMED),
    };
    Ok(Claim {
        access_key,
        session_token,
        place: PLACE,
        timestamp,
        scope,
        signed_headers,
        signature,
        expires_seconds: None,
        payload: PayloadMode::parse(payload_value)?,
        payload_text: text(payload_value).map_err(|_| AuthError::InvalidContentSha256)?,
    })
}

fn text(value: &[u8]) -> Result<Box<str>, core::str::Utf8Error> {
    core::str::from_utf8(value).map(Into::into)
}

/// The parameters of a presigned request, decoded, as far as they were given.
#[derive(Default)]
struct QueryAuthentication {
    algorithm: Option<String>,
    credential: Option<String>,
    date: Option<String>,
    expires: Option<String>,
    signed_headers: Option<String>,
    signature: Option<String>,
    content_sha256: Option<String>,
    security_token: Option<String>,
}

impl QueryAuthentication {
    const PLACE: SignaturePlace = SignaturePlace::Query;
    const MALFORMED: AuthError = AuthError::Malformed { place: Self::PLACE };

    /// Collects the parameters; `None` if the query does not try to authenticate.
    fn find(query: &str) -> Result<Option<Self>, AuthError> {
        let mut found = Self::default();
        let (mut access_key_v2, mut signature_v2, mut region_set) = (false, false, false);
        for (name, value) in query_pairs(query) {
            // Every parameter of interest is of unreserved bytes; an escaped spelling of its name is still its name.
            let decoded_name;
            let name = if name.contains(['%', '+']) {
                decoded_name = decode_iter(name.as_bytes(), true).collect::<Vec<_>>();
                core::str::from_utf8(&decoded_name).unwrap_or("")
            } else {
                name
            };
            let slot = match name {
                "X-Amz-Algorithm" => &mut found.algorithm,
                "X-Amz-Credential" => &mut found.credential,
                "X-Amz-Date" => &mut found.date,
                "X-Amz-Expires" => &mut found.expires,
                "X-Amz-SignedHeaders" => &mut found.signed_headers,
                "X-Amz-Signature" => &mut found.signature,
                "X-Amz-Content-Sha256" => &mut found.content_sha256,
                "X-Amz-Security-Token" => &mut found.security_token,
                "AWSAccessKeyId" => {
                    access_key_v2 = true;
                    continue;
                }
                "Signature" => {
                    signature_v2 = true;
                    continue;
                }
                "X-Amz-Region-Set" => {
                    region_set = true;
                    continue;
                }
                _ => continue,
            };
            let value = decode_iter(value.as_bytes(), true).collect();
            let value = String::from_utf8(value).map_err(|_| Self::MALFORMED)?;
            // Two values for one parameter would leave it open which one is meant.
            if slot.replace(value).is_some() {
                return Err(Self::MALFORMED);
            }
        }
        if found.algorithm.is_some() || found.credential.is_some() || found.signature.is_some() {
            if found.algorithm.as_deref() == Some(ALGORITHM_V4A) || region_set {
                return Err(AuthError::SignatureV4a);
            }
            return Ok(Some(found));
        }
        if access_key_v2 && signature_v2 {
            return Err(AuthError::SignatureV2);
        }
        Ok(None)
    }

    fn into_claim(self, head: &RequestHead) -> Result<Claim, AuthError> {
        let (
            Some(algorithm),
            Some(credential),
            Some(date),
            Some(expires),
            Some(signed_headers),
            Some(signature),
        ) = (self.algorithm, self.credential, self.date, self.expires, self.signed_headers, self.signature)
        else {
            return Err(AuthError::QueryIncomplete);
        };
        if algorithm != ALGORITHM_V4 {
            return Err(Self::MALFORMED);
        }
        let expires = super::super::http::parse_decimal(expires.as_bytes()).ok_or(AuthError::BadExpires)?;
        if !(1..=EXPIRES_SECONDS_MAX).contains(&expires) {
            return Err(AuthError::BadExpires);
        }
        let timestamp =
            Timestamp::parse_basic(date.as_bytes()).ok_or(AuthError::MalformedDate { place: Self::PLACE })?;
        let (access_key, scope) = parse_credential(&credential, timestamp, Self::PLACE)?;
        let signature = Signature::parse(signature.as_bytes()).ok_or(Self::MALFORMED)?;
        let signed_headers = parse_signed_headers(&signed_headers, Self::PLACE)?;

        // What was signed decides: the header if it is among the signed ones, else the parameter (which always is).
        // Only if neither was signed may an unsigned header describe the body: whoever holds the URL may send any
        // body anyway.
        let header =
            single(head, "x-amz-content-sha256").map_err(|Repeated| AuthError::InvalidContentSha256)?;
        let header = header.map(text).transpose().map_err(|_| AuthError::InvalidContentSha256)?;
        let header_signed = signed_headers.split(';').any(|name| name == "x-amz-content-sha256");
        let (payload_text, payload) = match (header, self.content_sha256) {
            (Some(header), _) if header_signed => (header.clone(), header),
            (_, Some(parameter)) => (parameter.clone().into(), parameter.into()),
            (Some(header), None) => ("UNSIGNED-PAYLOAD".into(), header),
            (None, None) => ("UNSIGNED-PAYLOAD".into(), "UNSIGNED-PAYLOAD".into()),
        };
        let session_token = match self.security_token {
            Some(token) => Some(token.into()),
            None => match single(head, "x-amz-security-token") {
                Ok(value) => value.map(text).transpose().map_err(|_| Self::MALFORMED)?,
                Err(Repeated) => return Err(Self::MALFORMED),
            },
        };
        Ok(Claim {
            access_key,
            session_token,
            place: Self::PLACE,
            timestamp,
            scope,
            signed_headers,
            signature,
            expires_seconds: Some(expires),
            payload: PayloadMode::parse(payload.as_bytes())?,
            payload_text,
        })
    }
}

/// The key and the scope of a form's `x-amz-credential`, made at `date`.
///
/// # Errors
///
/// The date is none, or the credential is malformed or of another day.
pub(crate) fn scope_of_credential(credential: &str, date: &str) -> Result<(Box<str>, Scope), AuthError> {
    let place = SignaturePlace::Query;
    let timestamp = Timestamp::parse_basic(date.as_bytes()).ok_or(AuthError::MalformedDate { place })?;
    parse_credential(credential, timestamp, place)
}

/// `access-key/day/region/s3/aws4_request`. Read from the right, so that an access key may hold slashes.
fn parse_credential(
    credential: &str,
    timestamp: Timestamp,
    place: SignaturePlace,
) -> Result<(Box<str>, Scope), AuthError> {
    let fail = |fault| AuthError::Scope { place, fault };
    let mut parts = credential.trim().rsplitn(5, '/');
    let (Some(terminator), Some(service), Some(region), Some(day), Some(access_key)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(fail(ScopeFault::Shape));
    };
    if access_key.is_empty() {
        return Err(fail(ScopeFault::Shape));
    }
    if terminator != "aws4_request" {
        return Err(fail(ScopeFault::Terminator));
    }
    if service != "s3" {
        return Err(fail(ScopeFault::Service));
    }
    if !timestamp.is_on(day) {
        return Err(fail(ScopeFault::Date));
    }
    Ok((access_key.into(), Scope { day: day.into(), region: region.into() }))
}

/// `host;x-amz-date`: names in lower case, none twice, `host` among them.
fn parse_signed_headers(list: &str, place: SignaturePlace) -> Result<Box<str>, AuthError> {
    let list = list.trim();
    let mut names: Vec<&str> = Vec::with_capacity(24);
    names.extend(list.split(';').take(SIGNED_HEADERS_MAX + 1));
    let ascends = |names: &[&str]| names.is_sorted_by(|a, b| a < b);
    if !ascends(&names) {
        names.sort_unstable();
    }
    let malformed = names.len() > SIGNED_HEADERS_MAX
        || names.iter().any(|name| name.is_empty())
        || list.bytes().any(|byte| byte.is_ascii_uppercase())
        || !ascends(&names);
    if malformed {
        return Err(AuthError::Malformed { place });
    }
    if names.binary_search(&"host").is_err() {
        return Err(AuthError::UnsignedHeader);
    }
    Ok(list.into())
}
