//! Signing requests: the client's side.

use super::super::http::{Method, RequestHead};
use super::canonical::{self, PathForm, string_to_sign};
use super::claim::EXPIRES_SECONDS_MAX;
use super::encoding::encode_query;
use super::key::{ChunkSigner, Scope, SigningKey};
use super::payload::PayloadMode;
use super::timestamp::Timestamp;

/// Signs requests with one set of credentials.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The access key.
    pub access_key: &'a str,
    /// The secret access key.
    pub secret: &'a str,
    /// The region: any token the server's operator agreed on; `us-east-1` if unknown.
    pub region: &'a str,
    /// The session token of temporary credentials.
    pub session_token: Option<&'a str>,
}

impl core::fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Signer")
            .field("access_key", &self.access_key)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Signer<'_> {
    /// Signs `head` in its `Authorization` header, as of `now_seconds` since 1970-01-01T00:00:00Z.
    ///
    /// Sets `x-amz-date`, `x-amz-content-sha256`, `x-amz-security-token` and `authorization`, replacing what was
    /// there. `head` must have its `host` and every other header that is to be signed: all are, but those that
    /// proxies change. The returned chain signs the chunks of the body, for a `payload` with signed chunks.
    pub fn sign_header(
        &self,
        head: &mut RequestHead,
        payload: &PayloadMode,
        now_seconds: u64,
    ) -> ChunkSigner {
        let timestamp = Timestamp::from_seconds(now_seconds);
        let payload = payload.text();
        head.headers.remove("authorization");
        head.headers.set("x-amz-date", timestamp.to_string().as_bytes());
        head.headers.set("x-amz-content-sha256", payload.as_bytes());
        if let Some(token) = self.session_token {
            head.headers.set("x-amz-security-token", token.as_bytes());
        }
        let scope = self.scope(timestamp);
        let key = SigningKey::derive(self.secret, &scope);
        let signed_headers = signed_headers(head);
        let request = canonical::build(head, PathForm::Encoded, &signed_headers, &payload);
        let signature = key.sign(&string_to_sign(&request, timestamp, &scope));
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={},Signature={signature}",
            self.access_key, signed_headers,
        );
        head.headers.set("authorization", value.as_bytes());
        ChunkSigner::new(key, timestamp, scope, signature)
    }

    /// Signs `head` in its query, so that anyone can send it for `expires_seconds` (1 to 604,800; other values are
    /// moved into the range) from `now_seconds` since 1970-01-01T00:00:00Z, with any body.
    ///
    /// Appends the parameters to `head.query`. The sender must send the headers of `head` unchanged; usually `host`
    /// is the only one.
    pub fn presign(&self, head: &mut RequestHead, expires_seconds: u64, now_seconds: u64) {
        let timestamp = Timestamp::from_seconds(now_seconds);
        let scope = self.scope(timestamp);
        let signed_headers = signed_headers(head);
        let mut query = String::from(&*head.query);
        let mut push = |name: &str, value: &str| {
            let divider = if query.is_empty() { "" } else { "&" };
            query.push_str(&format!("{divider}{name}={}", encode_query(value)));
        };
        push("X-Amz-Algorithm", "AWS4-HMAC-SHA256");
        push("X-Amz-Credential", &format!("{}/{scope}", self.access_key));
        push("X-Amz-Date", &timestamp.to_string());
        push("X-Amz-Expires", &expires_seconds.clamp(1, EXPIRES_SECONDS_MAX).to_string());
        if let Some(token) = self.session_token {
            push("X-Amz-Security-Token", token);
        }
        push("X-Amz-SignedHeaders", &signed_headers);
        head.query = query.into();
        let payload = match head.headers.text("x-amz-content-sha256") {
            Some(value) => value.to_owned(),
            None => "UNSIGNED-PAYLOAD".to_owned(),
        };
        let request = canonical::build(head, PathForm::Encoded, &signed_headers, &payload);
        let key = SigningKey::derive(self.secret, &scope);
        let signature = key.sign(&string_to_sign(&request, timestamp, &scope));
        head.query = format!("{}&X-Amz-Signature={signature}", head.query).into();
    }

    fn scope(&self, timestamp: Timestamp) -> Scope {
        Scope { day: timestamp.day().into(), region: self.region.into() }
    }
}

/// The headers worth signing, sorted: all but those that a proxy may change or remove.
fn signed_headers(head: &RequestHead) -> String {
    const UNSIGNED: &[&str] =
        &["authorization", "connection", "expect", "keep-alive", "te", "transfer-encoding", "user-agent"];
    let mut names: Vec<&str> =
        head.headers.iter().map(|(name, _)| name).filter(|name| !UNSIGNED.contains(name)).collect();
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

impl RequestHead {
    /// A head for a client to fill: HTTP/1.1, `path` already percent-encoded (see [`super::encode_path`]), and `host`.
    pub fn for_client(method: Method, path: &str, query: &str, host: &str) -> Self {
        let mut head = RequestHead {
            method,
            path: path.into(),
            query: query.into(),
            version_minor: 1,
            headers: Default::default(),
        };
        head.headers.push("host", host.as_bytes());
        head
    }
}
