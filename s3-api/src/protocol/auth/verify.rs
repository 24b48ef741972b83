//! Is a claim true?
//!
//! Which headers must be signed: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>,
//! "Task 1: Create a canonical request". How old a request may be:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html>, "Time stamp requirement".

use super::super::http::RequestHead;
use super::canonical::{self, PathForm, string_to_sign};
use super::claim::{Claim, SignaturePlace};
use super::error::AuthError;
use super::key::{ChunkSigner, Signature, SigningKey};
use super::payload::PayloadMode;

/// How far a request's time may lie from the server's, either way: "the client timestamp included with an authenticated
/// request must be within 15 minutes of the Amazon S3 system time when the request is received" (as above).
pub const SKEW_SECONDS_MAX: u64 = 15 * 60;

/// Clients sign no more headers than this, user metadata aside.
const SIGNED_HEADERS_USUAL: usize = 24;

/// What is known once a claim has been verified.
#[derive(Clone, Debug)]
pub struct Verified {
    /// How the body is framed and checked.
    pub payload: PayloadMode,
    /// The chain that signs the chunks of the body, if it has signed chunks.
    pub chunk_signer: Option<ChunkSigner>,
    /// What was verified; none for an anonymous request.
    pub signed: Option<Signed>,
}

/// A signature that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The signature.
    pub signature: Signature,
    /// Where it was.
    pub place: SignaturePlace,
    /// When it says that it was made, in seconds since 1970.
    pub at_seconds: u64,
    /// Whether it covers [`Verified::payload`]. Beside a presigned request that says nothing of its body anybody may describe it.
    pub covers_payload: bool,
}

impl Verified {
    /// What is known of an anonymous request's body.
    pub fn anonymous(payload: PayloadMode) -> Self {
        Verified { payload, chunk_signer: None, signed: None }
    }
}

/// Verifies `claim`, which [`super::authenticate`] read from `head`, with the secret of its access key.
///
/// `now_seconds` is the server's time in seconds since 1970-01-01T00:00:00Z.
///
/// # Errors
///
/// [`AuthError::Skew`], [`AuthError::Expired`], [`AuthError::NotYetValid`], [`AuthError::UnsignedHeader`],
/// [`AuthError::SignatureMismatch`].
pub fn verify(
    claim: &Claim,
    head: &RequestHead,
    secret: &str,
    now_seconds: u64,
) -> Result<Verified, AuthError> {
    verify_with_key(claim, head, &SigningKey::derive(secret, &claim.scope), now_seconds)
}

/// [`verify`] with a signing key derived earlier for `claim.scope` and the secret of `claim.access_key`.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_with_key(
    claim: &Claim,
    head: &RequestHead,
    key: &SigningKey,
    now_seconds: u64,
) -> Result<Verified, AuthError> {
    check_time(claim, now_seconds)?;
    check_signed_headers(claim, head)?;
    let holds = |path| {
        let request = canonical::build(head, path, &claim.signed_headers, &claim.payload_text);
        key.verify(&string_to_sign(&request, claim.timestamp, &claim.scope), &claim.signature)
    };
    if !holds(PathForm::Encoded) && !holds(PathForm::Raw) {
        return Err(AuthError::SignatureMismatch);
    }
    let chunk_signer = claim
        .payload
        .has_signed_chunks()
        .then(|| ChunkSigner::new(key.clone(), claim.timestamp, claim.scope.clone(), claim.signature));
    let (signature, place, at_seconds) = (claim.signature, claim.place, claim.timestamp.seconds());
    let covers_payload = place == SignaturePlace::Header
        || PayloadMode::parse(claim.payload_text.as_bytes()).is_ok_and(|signed| signed == claim.payload);
    let signed = Some(Signed { signature, place, at_seconds, covers_payload });
    Ok(Verified { payload: claim.payload, chunk_signer, signed })
}

fn check_time(claim: &Claim, now_seconds: u64) -> Result<(), AuthError> {
    let signed = claim.timestamp.seconds();
    match claim.expires_seconds {
        None if signed.abs_diff(now_seconds) > SKEW_SECONDS_MAX => Err(AuthError::Skew),
        Some(_) if signed > now_seconds.saturating_add(SKEW_SECONDS_MAX) => Err(AuthError::NotYetValid),
        Some(expires) if now_seconds > signed.saturating_add(expires) => Err(AuthError::Expired),
        _ => Ok(()),
    }
}

/// "The CanonicalHeaders list must include the following: HTTP host header. If the Content-Type header is present in the
/// request, you must add it to the CanonicalHeaders list. Any x-amz-* headers that you plan to include in your request
/// must also be added." (Task 1): a header that changes what is done must not be added on the way. `Content-Type` is
/// left out because S3 itself takes it unsigned, and browsers add it.
fn check_signed_headers(claim: &Claim, head: &RequestHead) -> Result<(), AuthError> {
    let must_be_signed = |name: &str| match claim.place {
        SignaturePlace::Header => name == "host" || name == "content-md5" || name.starts_with("x-amz-"),
        // A presigned request may describe its body in a header that its signer did not know of: it can only make
        // the server stricter.
        SignaturePlace::Query => {
            name == "host" || (name.starts_with("x-amz-") && name != "x-amz-content-sha256")
        }
    };
    let mut signed = Vec::with_capacity(SIGNED_HEADERS_USUAL);
    signed.extend(claim.signed_headers.split(';'));
    if head.headers.iter().any(|(name, _)| must_be_signed(name) && !signed.contains(&name)) {
        return Err(AuthError::UnsignedHeader);
    }
    // A header that was signed and did not arrive was taken away; an empty value in its place must not pass for it.
    if signed.iter().any(|name| !head.headers.contains(name)) {
        return Err(AuthError::SignatureMismatch);
    }
    Ok(())
}
