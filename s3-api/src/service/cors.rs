//! What browsers are told about pages of other origins.

use super::Service;
use crate::protocol::{
    error::{ErrorCode, S3Error},
    http::RequestHead,
    operation::Resource,
    reply::Reply,
};

/// What a browser says of the page that asks.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    bucket: String,
    origin: String,
    method: String,
}

impl Service {
    /// The page that a request comes from, if a browser sends it.
    pub(crate) fn page_of(&self, head: &RequestHead) -> Option<Page> {
        let origin = head.headers.text("origin")?.to_owned();
        let resource = self.resource(head).ok()?;
        // Where a client that is no browser says what it will ask for, that is answered: no browser lets a page send this.
        let asked = head.headers.text("access-control-request-method");
        let method = asked.unwrap_or(head.method.as_str()).to_owned();
        Some(Page { bucket: resource.bucket()?.to_owned(), origin, method })
    }

    /// Adds what the page may see of the reply, whether that is good or bad news.
    pub(crate) async fn add_cors(&self, page: &Page, mut reply: Reply) -> Reply {
        let Ok(bucket) = self.bucket(&page.bucket).await else { return reply };
        let headers = bucket.cors.as_ref().and_then(|cors| cors.actual(&page.origin, &page.method));
        for (name, value) in headers.into_iter().flatten() {
            reply = reply.header(name, value);
        }
        reply
    }

    /// Answers a preflight, which is not signed: the rules are no secret.
    ///
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTOPTIONSobject.html>.)
    ///
    /// # Errors
    /// 400 `BadRequest` if it is none; 403 `AccessForbidden` if no rule is meant.
    pub(super) async fn preflight(&self, head: &RequestHead, resource: &Resource) -> Result<Reply, S3Error> {
        let refuse = |message: &'static str| S3Error::with_message(ErrorCode::AccessForbidden, message);
        let missing = |name: &'static str| {
            S3Error::with_message(
                ErrorCode::BadRequest,
                format!("Insufficient information. {name} request header needed."),
            )
        };
        let origin = head.headers.text("origin").ok_or_else(|| missing("Origin"))?;
        let method = head.headers.text("access-control-request-method");
        let method = method.ok_or_else(|| missing("Access-Control-Request-Method"))?;
        let Some(name) = resource.bucket() else {
            return Err(refuse("CORSResponse: CORS is not enabled for this bucket."));
        };
        resource.check()?;
        let bucket = self.bucket(name).await?;
        let Some(cors) = &bucket.cors else {
            return Err(refuse("CORSResponse: CORS is not enabled for this bucket."));
        };
        let asked = head.headers.text("access-control-request-headers").unwrap_or_default();
        let Some(headers) = cors.preflight(origin, method, asked) else {
            return Err(refuse(
                "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, \
                 request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted \
                 by the resource's CORS spec.",
            ));
        };
        Ok(headers.into_iter().fold(Reply::new(200), |reply, (name, value)| reply.header(name, value)))
    }
}
