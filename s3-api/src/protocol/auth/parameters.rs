//! Headers that a signer moved into the query of a presigned request.
//!
//! A presigner has no say in the headers that will be sent, so some put `x-amz-*` headers into the query, where they
//! are signed: Amazon's SDK for JavaScript moves all of them, `x-amz-acl`, `x-amz-meta-*` and `x-amz-checksum-crc32`
//! among them. S3 takes them for headers.
#![deny(clippy::indexing_slicing)]

use super::super::http::{RequestHead, is_field_name, is_field_value};
use super::claim::{Claim, SignaturePlace};
use super::encoding::{decode_iter, query_pairs};
use super::error::AuthError;

/// The parameters that are about the signature itself, in lower case.
const OWN: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Adds the `x-amz-*` parameters of a presigned request to the headers of `head`, where everything behind looks for
/// them. A header that was sent (and therefore signed) keeps its value. Nothing is done for a signature in a header.
///
/// Call it once `claim` has been verified: before, the parameters are anybody's word, and the added headers would
/// be taken for unsigned ones.
///
/// # Errors
///
/// [`AuthError::Malformed`] if a name or a value could not stand in a header, or a parameter came twice.
pub fn adopt_parameters(claim: &Claim, head: &mut RequestHead) -> Result<(), AuthError> {
    const MALFORMED: AuthError = AuthError::Malformed { place: SignaturePlace::Query };
    if claim.place != SignaturePlace::Query {
        return Ok(());
    }
    let mut adopted: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in query_pairs(&head.query) {
        let name: Vec<u8> =
            decode_iter(name.as_bytes(), true).map(|byte| byte.to_ascii_lowercase()).collect();
        if !name.starts_with(b"x-amz-") {
            continue;
        }
        // Behind this everything takes names for those of headers, and stores some of them.
        let name =
            String::from_utf8(name).ok().filter(|name| is_field_name(name.as_bytes())).ok_or(MALFORMED)?;
        if OWN.contains(&&*name) || head.headers.contains(&name) {
            continue;
        }
        let value: Vec<u8> = decode_iter(value.as_bytes(), true).collect();
        if !is_field_value(&value) || adopted.iter().any(|(other, _)| *other == name) {
            return Err(MALFORMED);
        }
        adopted.push((name, value));
        if adopted.len() > PARAMETERS_MAX {
            return Err(MALFORMED);
        }
    }
    for (name, value) in adopted {
        head.headers.push(&name, value.trim_ascii());
    }
    Ok(())
}

/// More parameters than a head may have fields.
const PARAMETERS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::super::super::http::Method;
    use super::super::{Authentication, Signer, authenticate, verify};
    use super::*;

    const NOW: u64 = 1_369_353_600;
    const SIGNER: Signer<'_> =
        Signer { access_key: "A", secret: "s", region: "us-east-1", session_token: Some("t") };

    fn adopt(query: &str, fields: &[(&str, &str)]) -> Result<RequestHead, AuthError> {
        let mut head = RequestHead::for_client(Method::Put, "/b/k", query, "h");
        for (name, value) in fields {
            head.headers.push(name, value.as_bytes());
        }
        SIGNER.presign(&mut head, 60, NOW);
        let Authentication::Signed(claim) = authenticate(&head)? else { panic!() };
        verify(&claim, &head, "s", NOW)?;
        adopt_parameters(&claim, &mut head).map(|()| head)
    }

    #[test]
    fn moved_headers_are_found_among_the_headers() {
        // Parameters become headers, in any case and encoding; sent headers win; the signature's own stay away.
        let query =
            "x-id=PutObject&X-Amz-Acl=private&x-amz-meta-a=caf%C3%A9+b&x-amz-meta-s=query&versionId=1";
        let head = adopt(query, &[("x-amz-meta-s", "header")]).unwrap();
        let fields: Vec<_> = head.headers.iter().collect();
        let expected: [(&str, &[u8]); 4] = [
            ("host", b"h"),
            ("x-amz-meta-s", b"header"),
            ("x-amz-acl", b"private"),
            ("x-amz-meta-a", "caf\u{e9} b".as_bytes()),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn what_cannot_be_a_header_is_refused() {
        // Names that are no tokens, line ends and doubled parameters never become headers.
        let malformed = AuthError::Malformed { place: SignaturePlace::Query };
        for bad in [
            "x-amz-meta-a=%0D%0AX:y",
            "x-amz-meta-a=1&X-Amz-Meta-A=2",
            "x-amz-meta-a%00b=1",
            "x-amz-meta-%ff=1",
        ] {
            assert_eq!(adopt(bad, &[]).unwrap_err(), malformed, "{bad}");
        }
    }
}
