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

    /// The method named by `token`, or `None` if S3 does not use it. Methods are case-sensitive (RFC 9110 §9.1).
    pub fn from_token(token: &str) -> Option<Method> {
        Some(match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "PUT" => Method::Put,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            _ => return None,
        })
    }
}

/// Header fields in the order they came; names in lower case, values with outer white space removed.
///
/// All names share one allocation and all values another, so a head of any number of fields costs three.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    names: String,
    values: Vec<u8>,
    /// Where each field's name and value end; each begins where the one before it ends.
    ends: Vec<(usize, usize)>,
}

impl Headers {
    /// No fields yet, with room for `fields` whose names and values take at most `bytes` altogether.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Headers {
            names: String::with_capacity(bytes / 2),
            values: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(fields),
        }
    }

    /// Appends a field. The name is lower-cased; the value is kept as it is.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let start = self.names.len();
        self.names.push_str(name);
        self.names[start..].make_ascii_lowercase();
        self.values.extend_from_slice(value);
        self.ends.push((self.names.len(), self.values.len()));
    }

    /// Replaces every field called `name` (given in lower case) by one with `value`, at the end of the list.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.push(name, value);
    }

    /// Removes every field called `name` (given in lower case).
    pub fn remove(&mut self, name: &str) {
        if self.contains(name) {
            let mut kept = Headers::default();
            for (other, value) in self.iter().filter(|(other, _)| *other != name) {
                kept.push(other, value);
            }
            *self = kept;
        }
    }

    /// The first value of `name` (given in lower case), as bytes.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The first value of `name` (given in lower case) if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.first(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Every value of `name` (given in lower case), in the order they came.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let (mut name_start, mut value_start) = (0, 0);
        self.ends.iter().filter_map(move |&(name_end, value_end)| {
            // Bytes, not text: slicing text would look for character boundaries in every field.
            let found = self.names.as_bytes()[name_start..name_end] == *name.as_bytes();
            let value = &self.values[value_start..value_end];
            (name_start, value_start) = (name_end, value_end);
            found.then_some(value)
        })
    }

    /// All fields in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let (mut name_start, mut value_start) = (0, 0);
        self.ends.iter().map(move |&(name_end, value_end)| {
            let name = &self.names[name_start..name_end];
            let value = &self.values[value_start..value_end];
            (name_start, value_start) = (name_end, value_end);
            (name, value)
        })
    }

    /// How many times `name` (given in lower case) occurs.
    pub fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }

    /// Whether `name` (given in lower case) occurs.
    pub fn contains(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether a field `name` (given in lower case) holds `token` in its comma-separated list, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|&b| b == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Whether a field can have this name: a token (RFC 9110 §5.6.2).
pub fn is_field_name(name: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_tchar)
}

/// Whether a field can have this value: no control byte but a tab (RFC 9110 §5.5). Bytes above 127 pass.
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

/// A request line and its header fields.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The path exactly as sent: still percent-encoded, starting with `/`, without the query.
    /// `OPTIONS *` has the path `*`, the only one without a slash.
    pub path: Box<str>,
    /// The query exactly as sent, without the `?`; empty if there was none.
    pub query: Box<str>,
    /// Minor version of HTTP/1: 0 or 1.
    pub version_minor: u8,
    /// The header fields.
    pub headers: Headers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_order_and_answer_by_name() {
        // Fields come back in order, look-ups see lower-cased names, and set/remove touch only their name.
        let mut headers = Headers::default();
        headers.push("X-Amz-Meta-A", b"1");
        headers.push("Host", b"h");
        headers.push("x-amz-meta-a", b"2\xff");
        assert_eq!(headers.first("x-amz-meta-a"), Some(&b"1"[..]));
        assert_eq!(headers.count("x-amz-meta-a"), 2);
        headers.set("host", b"other");
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("x-amz-meta-a", &b"1"[..]), ("x-amz-meta-a", b"2\xff"), ("host", b"other")]);
        headers.remove("x-amz-meta-a");
        assert_eq!(headers.len(), 1);
        assert_eq!(headers.text("host"), Some("other"));
    }
}
