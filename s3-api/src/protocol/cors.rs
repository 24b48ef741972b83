//! Cross-origin resource sharing: what a browser may do on behalf of pages of other origins.
//!
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html>.) The rules decide headers of replies and nothing
//! else: who may do what is decided elsewhere.

use super::error::{ErrorCode, S3Error};
use super::xml::{XmlReader, XmlWriter};

/// The longest document, bytes.
pub const CORS_BYTES_MAX: usize = 64 << 10;
/// "You can add up to 100 rules to the configuration." (*CORS configuration*, as above.)
const RULES_MAX: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsRule {
    /// Its name.
    pub id: Option<String>,
    /// Headers that a page may send: `*` stands for any characters, once.
    pub allowed_headers: Vec<String>,
    /// Methods that a page may use.
    pub allowed_methods: Vec<String>,
    /// Origins whose pages are meant: `*` stands for any characters, once.
    pub allowed_origins: Vec<String>,
    /// Headers of replies that a page may read.
    pub expose_headers: Vec<String>,
    /// How long a browser may rely on the answer to a preflight.
    pub max_age_seconds: Option<u32>,
}

/// A bucket's rules: at least one. The first that matches counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsConfiguration {
    /// The rules.
    pub rules: Vec<CorsRule>,
}

/// What a reply says to a browser, as headers.
pub type CorsHeaders = Vec<(&'static str, String)>;

impl CorsConfiguration {
    /// Reads a `CORSConfiguration`.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html>.)
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`; `InvalidRequest` for an unknown method or more than one wildcard.
    pub fn parse(document: &[u8]) -> Result<CorsConfiguration, S3Error> {
        let mut xml = XmlReader::new(document, 10_000)?;
        xml.root("CORSConfiguration")?;
        let mut rules = Vec::new();
        while let Some(name) = xml.child()? {
            match name {
                "CORSRule" if rules.len() >= RULES_MAX => return Err(ErrorCode::MalformedXml.into()),
                "CORSRule" => rules.push(rule(&mut xml)?),
                _ => xml.skip()?,
            }
        }
        xml.finish()?;
        if rules.is_empty() { Err(ErrorCode::MalformedXml.into()) } else { Ok(CorsConfiguration { rules }) }
    }

    /// The `CORSConfiguration`.
    pub fn document(&self) -> Vec<u8> {
        let mut xml = XmlWriter::root("CORSConfiguration");
        for rule in &self.rules {
            xml.open("CORSRule").optional("ID", rule.id.as_deref());
            let lists: [(&'static str, &Vec<String>); 4] = [
                ("AllowedHeader", &rule.allowed_headers),
                ("AllowedMethod", &rule.allowed_methods),
                ("AllowedOrigin", &rule.allowed_origins),
                ("ExposeHeader", &rule.expose_headers),
            ];
            for (name, values) in lists {
                for value in values {
                    xml.text(name, value);
                }
            }
            if let Some(seconds) = rule.max_age_seconds {
                xml.value("MaxAgeSeconds", seconds);
            }
            xml.close();
        }
        xml.finish()
    }

    /// What the reply to a request of `method` from a page of `origin` says; none if no rule is meant.
    pub fn actual(&self, origin: &str, method: &str) -> Option<CorsHeaders> {
        self.find(origin, method, &[]).map(|rule| rule.headers(origin))
    }

    /// The answer to a preflight for `method` with `headers` from a page of `origin`; none: it is refused.
    ///
    /// "For a rule to match, the following conditions must be met: The request's Origin header must match an AllowedOrigin
    /// element. The request method … must be one of the AllowedMethod elements. Every header listed in the request's
    /// Access-Control-Request-Headers header on the preflight request must match an AllowedHeader element."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html>, "How does Amazon S3 evaluate the CORS
    /// configuration on a bucket?".)
    pub fn preflight(&self, origin: &str, method: &str, headers: &str) -> Option<CorsHeaders> {
        let asked: Vec<&str> = headers.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let rule = self.find(origin, method, &asked)?;
        let mut answer = rule.headers(origin);
        if !asked.is_empty() {
            answer.push(("Access-Control-Allow-Headers", asked.join(", ").to_ascii_lowercase()));
        }
        if let Some(seconds) = rule.max_age_seconds {
            answer.push(("Access-Control-Max-Age", seconds.to_string()));
        }
        Some(answer)
    }

    fn find(&self, origin: &str, method: &str, headers: &[&str]) -> Option<&CorsRule> {
        self.rules.iter().find(|rule| {
            let allows = |name: &&str| {
                rule.allowed_headers
                    .iter()
                    .any(|allowed| matches(&allowed.to_ascii_lowercase(), &name.to_ascii_lowercase()))
            };
            rule.allowed_methods.iter().any(|allowed| allowed == method)
                && rule.allowed_origins.iter().any(|allowed| matches(allowed, origin))
                && headers.iter().all(allows)
        })
    }
}

impl CorsRule {
    /// An origin that only `*` allows is not named: the page may not send cookies then. One that is named varies.
    fn headers(&self, origin: &str) -> CorsHeaders {
        let anyone = self.allowed_origins.iter().any(|allowed| allowed == "*");
        let named = if anyone { "*" } else { origin };
        let mut headers = vec![
            ("Access-Control-Allow-Origin", named.to_owned()),
            ("Access-Control-Allow-Methods", self.allowed_methods.join(", ")),
        ];
        if !anyone {
            headers.push(("Access-Control-Allow-Credentials", "true".to_owned()));
        }
        if !self.expose_headers.is_empty() {
            headers.push(("Access-Control-Expose-Headers", self.expose_headers.join(", ")));
        }
        headers.push((
            "Vary",
            "Origin, Access-Control-Request-Headers, Access-Control-Request-Method".to_owned(),
        ));
        headers
    }
}

fn rule(xml: &mut XmlReader<'_>) -> Result<CorsRule, S3Error> {
    let mut rule = CorsRule::default();
    while let Some(name) = xml.child()? {
        match name {
            "ID" => rule.id = Some(xml.text()?),
            "AllowedHeader" => rule.allowed_headers.push(xml.text()?),
            "AllowedMethod" => rule.allowed_methods.push(xml.text()?),
            "AllowedOrigin" => rule.allowed_origins.push(xml.text()?),
            "ExposeHeader" => rule.expose_headers.push(xml.text()?),
            "MaxAgeSeconds" => {
                let seconds = xml.text()?.trim_ascii().parse().map_err(|_| ErrorCode::MalformedXml)?;
                rule.max_age_seconds = Some(seconds);
            }
            _ => xml.skip()?,
        }
    }
    if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
        return Err(ErrorCode::MalformedXml.into());
    }
    if let Some(method) = rule.allowed_methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
        let message = format!("Found unsupported HTTP method in CORS config. Unsupported method is {method}");
        return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
    }
    // All of it is told in headers of replies, where a line end would begin another header.
    let lists = [&rule.allowed_headers, &rule.allowed_origins, &rule.expose_headers];
    if lists.into_iter().flatten().any(|value| value.chars().any(char::is_control)) {
        return Err(ErrorCode::MalformedXml.into());
    }
    for (what, pattern) in rule
        .allowed_origins
        .iter()
        .map(|pattern| ("AllowedOrigin", pattern))
        .chain(rule.allowed_headers.iter().map(|pattern| ("AllowedHeader", pattern)))
    {
        if pattern.bytes().filter(|byte| *byte == b'*').count() > 1 {
            let message = format!("{what} \"{pattern}\" can not have more than one wildcard.");
            return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
        }
    }
    if rule.expose_headers.iter().any(|name| name.contains('*')) {
        let message =
            "ExposeHeader contains a wildcard. We currently do not support wildcard for ExposeHeader.";
        return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
    }
    Ok(rule)
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, behind)) => {
            text.len() >= before.len() + behind.len() && text.starts_with(before) && text.ends_with(behind)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(rules: &str) -> Result<CorsConfiguration, ErrorCode> {
        let document = format!("<CORSConfiguration>{rules}</CORSConfiguration>");
        CorsConfiguration::parse(document.as_bytes()).map_err(|error| error.code)
    }

    const RULE: &str = "<CORSRule><ID>r</ID><AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
         <AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
         <MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>";

    #[test]
    fn no_rule_breaks_out_of_its_header() {
        // A line end in what replies are to tell, written as a reference or as it is.
        for value in ["x&#13;&#10;Set-Cookie: a=b", "x\nSet-Cookie: a=b", "a\u{7f}"] {
            for element in ["AllowedOrigin", "ExposeHeader", "AllowedHeader"] {
                let rules = RULE.replacen("<MaxAge", &format!("<{element}>{value}</{element}><MaxAge"), 1);
                assert_eq!(configuration(&rules), Err(ErrorCode::MalformedXml), "{element} {value}");
            }
        }
    }

    #[test]
    fn the_first_rule_that_matches_answers() {
        // Origins, methods and headers; what is told, and that an origin is named only if a rule names it.
        let anyone =
            "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>";
        let cors = configuration(&format!("{RULE}{anyone}")).unwrap();
        assert_eq!(CorsConfiguration::parse(&cors.document()), Ok(cors.clone()));
        let value = |headers: &CorsHeaders, name: &str| {
            headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        };
        let origin = "Access-Control-Allow-Origin";
        let answer = cors.actual("https://a.example.com", "GET").unwrap();
        assert_eq!(value(&answer, origin).as_deref(), Some("https://a.example.com"));
        assert_eq!(value(&answer, "Access-Control-Expose-Headers").as_deref(), Some("ETag"));
        assert_eq!(value(&answer, "Access-Control-Max-Age"), None);
        let other = cors.actual("https://example.org", "GET").unwrap();
        assert_eq!(
            (value(&other, origin).as_deref(), value(&other, "Access-Control-Allow-Credentials")),
            (Some("*"), None)
        );
        assert_eq!(cors.actual("https://example.org", "PUT"), None);
        assert_eq!(cors.actual("https://.example.co", "PUT"), None);
        let asked = cors.preflight("https://a.example.com", "PUT", "X-Amz-Date, x-amz-acl").unwrap();
        assert_eq!(value(&asked, "Access-Control-Allow-Headers").as_deref(), Some("x-amz-date, x-amz-acl"));
        assert_eq!(value(&asked, "Access-Control-Max-Age").as_deref(), Some("60"));
        assert_eq!(cors.preflight("https://a.example.com", "PUT", "content-type"), None);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        // No rule, no origin, unknown methods, surplus wildcards, a negative age.
        for (bad, code) in [
            (String::new(), ErrorCode::MalformedXml),
            (RULE.repeat(101), ErrorCode::MalformedXml),
            (RULE.replace("AllowedOrigin", "Origin"), ErrorCode::MalformedXml),
            (RULE.replace("60", "-1"), ErrorCode::MalformedXml),
            (RULE.replace("PUT", "PATCH"), ErrorCode::InvalidRequest),
            (RULE.replace("https://*", "*://*"), ErrorCode::InvalidRequest),
            (RULE.replace("ETag", "x-*"), ErrorCode::InvalidRequest),
        ] {
            assert_eq!(configuration(&bad), Err(code), "{bad}");
        }
    }
}
