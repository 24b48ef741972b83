//! A request head, parsed and owned.
//!
//! Names are lower-cased once, here, so that every later look-up is a plain comparison. Values and the target
//! stay the exact bytes of the wire: SigV4 signs what was sent, not what it means.

/// The methods S3 uses. Any other is refused with `405 MethodNotAllowed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `PUT`
    Put,
    /// `POST`
    Post,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
}

impl Method {
    /// The method as it stands in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }
}

/// Header fields in the order they came; names in lower case, values with outer white space removed.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    fields: Vec<(Box<str>, Box<[u8]>)>,
}

impl Headers {
    /// Appends a field. The name is lower-cased; the value is kept as it is.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.fields.push((name.to_ascii_lowercase().into_boxed_str(), value.into()));
    }

    /// The first value of `name` (given in lower case), as bytes.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v)
    }

    /// The first value of `name` (given in lower case) if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.first(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// All fields in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(n, v)| (&**n, &**v))
    }

    /// How many times `name` (given in lower case) occurs.
    pub fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(n, _)| &**n == name).count()
    }
}

/// A request line and its header fields.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The path exactly as sent: still percent-encoded, starting with `/`, without the query.
    pub path: Box<str>,
    /// The query exactly as sent, without the `?`; empty if there was none.
    pub query: Box<str>,
    /// Minor version of HTTP/1: 0 or 1.
    pub version_minor: u8,
    /// The header fields.
    pub headers: Headers,
}
