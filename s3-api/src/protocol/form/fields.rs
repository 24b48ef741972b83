//! `multipart/form-data`, as far as a form with one file needs it (RFC 7578).

use crate::protocol::error::{ErrorCode, S3Error};
use memchr::memmem;

/// The most bytes in front of the file's content, its own headers on top: "The form data and boundaries (excluding the
/// contents of the file) cannot exceed 20 KB."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/HTTPPOSTForms.html>.)
pub const FIELDS_BYTES_MAX: usize = 32 << 10;
/// "boundary … no longer than 70 characters" (RFC 2046 §5.1.1); browsers stay far below.
const BOUNDARY_BYTES_MAX: usize = 70;

fn malformed() -> S3Error {
    ErrorCode::MalformedPost.into()
}

/// The boundary of a `Content-Type`.
///
/// # Errors
///
/// 412 `PreconditionFailed` if it is no form ("Bucket POST must be of the enclosure-type multipart/form-data"); 400
/// `MalformedPOSTRequest` without a boundary.
pub fn boundary_of(content_type: Option<&str>) -> Result<String, S3Error> {
    let not_form = || {
        let message = "Bucket POST must be of the enclosure-type multipart/form-data";
        S3Error::with_message(ErrorCode::PreconditionFailed, message)
    };
    let mut parts = content_type.ok_or_else(not_form)?.split(';');
    let kind = parts.next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return Err(not_form());
    }
    let boundary = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    });
    boundary.filter(|text| (1..=BOUNDARY_BYTES_MAX).contains(&text.len())).ok_or_else(malformed)
}

/// Everything in front of the file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormHead {
    /// Fields in their order: names in lower case, no name twice.
    pub fields: Vec<(String, String)>,
    /// The name that the file had where it comes from.
    pub filename: String,
    /// Bytes that this took.
    pub head_bytes: usize,
}

impl FormHead {
    /// Reads `bytes`, the beginning of a body. None: more is needed.
    ///
    /// "The file or content must be the last field in the form. Any fields below it are ignored."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/HTTPPOSTForms.html>, "HTML form fields".)
    ///
    /// # Errors
    ///
    /// 400 `MalformedPOSTRequest`; `MaxMessageLengthExceeded` if the fields are too long; `InvalidArgument` for a form without a file
    /// or with a field twice.
    pub fn parse(bytes: &[u8], boundary: &str) -> Result<Option<FormHead>, S3Error> {
        let parsed = FormHead::parse_parts(bytes, boundary);
        match parsed {
            Ok(None) if bytes.len() > FIELDS_BYTES_MAX => Err(ErrorCode::MaxMessageLengthExceeded.into()),
            parsed => parsed,
        }
    }

    fn parse_parts(bytes: &[u8], boundary: &str) -> Result<Option<FormHead>, S3Error> {
        let dashes = format!("--{boundary}");
        let mut head = FormHead::default();
        // A preamble is allowed (RFC 2046 §5.1.1), and nobody sends one.
        let Some(rest) = take(bytes, dashes.as_bytes())? else { return Ok(None) };
        let mut rest = rest;
        loop {
            let Some(behind) = take(rest, b"\r\n")? else {
                let closes = rest.starts_with(b"--");
                let message = "POST requires exactly one file upload per request.";
                return if closes { Err(S3Error::invalid_argument("file", "0", message)) } else { Ok(None) };
            };
            let Some(end) = memmem::find(behind, b"\r\n\r\n") else { return Ok(None) };
            let (header, content) = behind.split_at(end + 4);
            let (name, filename) = names(header)?;
            if name == "file" {
                head.filename = filename.unwrap_or_default();
                head.head_bytes = bytes.len() - content.len();
                return Ok(Some(head));
            }
            let delimiter = format!("\r\n{dashes}");
            let Some(end) = memmem::find(content, delimiter.as_bytes()) else { return Ok(None) };
            let (value, behind) = content.split_at(end);
            let value = core::str::from_utf8(value).map_err(|_| malformed())?;
            if head.fields.iter().any(|(known, _)| *known == name) {
                let message = format!("POST requires exactly one value of the field {name}.");
                return Err(S3Error::with_message(ErrorCode::InvalidArgument, message));
            }
            head.fields.push((name, value.to_owned()));
            rest = behind.get(delimiter.len()..).unwrap_or_default();
        }
    }

    /// The value of a field, whose name is in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is behind `prefix`; none if that is not all there yet.
fn take<'a>(bytes: &'a [u8], prefix: &[u8]) -> Result<Option<&'a [u8]>, S3Error> {
    match bytes.strip_prefix(prefix) {
        Some(rest) => Ok(Some(rest)),
        None if prefix.starts_with(bytes) => Ok(None),
        None if bytes.starts_with(b"--") => Ok(None),
        None => Err(malformed()),
    }
}

/// The names in `Content-Disposition: form-data; name="…"; filename="…"`, and the part's own type is the form's to say.
fn names(header: &[u8]) -> Result<(String, Option<String>), S3Error> {
    let text = core::str::from_utf8(header).map_err(|_| malformed())?;
    let line = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let line = line.ok_or_else(malformed)?;
    let (mut name, mut filename) = (None, None);
    for (key, value) in parameters(line) {
        match key.to_ascii_lowercase().as_str() {
            "name" => name = Some(value.to_ascii_lowercase()),
            // Some browsers send the whole path: "${filename}" is the name alone.
            "filename" => filename = value.rsplit(['/', '\\']).next().map(str::to_owned),
            _ => {}
        }
    }
    Ok((name.filter(|name| !name.is_empty()).ok_or_else(malformed)?, filename))
}

/// `; key="value"` one after the other. In quotes a backslash stands for the character behind it only if that is a quote.
fn parameters(line: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some((_, behind)) = rest.split_once(';') {
        let Some((key, value)) = behind.split_once('=') else { break };
        let key = key.trim().to_owned();
        let Some(quoted) = value.trim_start().strip_prefix('"') else {
            let end = value.find(';').unwrap_or(value.len());
            let (value, behind) = value.split_at(end);
            found.push((key, value.trim().to_owned()));
            rest = behind;
            continue;
        };
        let (mut text, mut end, mut escaped) = (String::new(), quoted.len(), false);
        for (at, character) in quoted.char_indices() {
            match character {
                '"' if escaped => {
                    text.pop();
                    text.push('"');
                    escaped = false;
                }
                '"' => {
                    end = at + 1;
                    break;
                }
                character => {
                    escaped = character == '\\' && !escaped;
                    text.push(character);
                }
            }
        }
        found.push((key, text));
        rest = quoted.get(end..).unwrap_or_default();
    }
    found
}

/// Finds the end of the file in a stream: what may be the beginning of the boundary is held back.
#[derive(Clone, Debug)]
pub struct FileScanner {
    delimiter: Vec<u8>,
    /// Bytes that came and are not known to be the file's.
    held: Vec<u8>,
    finished: bool,
}

impl FileScanner {
    /// Of a file behind a [`FormHead`] of the same boundary.
    pub fn new(boundary: &str) -> FileScanner {
        FileScanner { delimiter: format!("\r\n--{boundary}").into_bytes(), held: Vec::new(), finished: false }
    }

    /// Takes the next bytes in and appends to `content` what is the file's. What comes behind its end is ignored.
    pub fn push(&mut self, bytes: &[u8], content: &mut Vec<u8>) {
        if self.finished {
            return;
        }
        self.held.extend_from_slice(bytes);
        if let Some(end) = memmem::find(&self.held, &self.delimiter) {
            content.extend(self.held.drain(..end));
            self.held.clear();
            self.finished = true;
            return;
        }
        let certain = self.held.len().saturating_sub(self.delimiter.len() - 1);
        content.extend(self.held.drain(..certain));
    }

    /// Whether the end was found.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"Key\"; filename=\"Key\"\r\n\r\nk/${filename}\r\n--b\r\n\
        content-disposition: form-data; name=\"x\"\r\nContent-Type: text/plain\r\n\r\na\r\nb\r\n--b\r\n\
        Content-Disposition: form-data; filename=\"C:\\dir\\a \\\"q\\\".txt\"; name=\"file\"\r\n\r\n";

    #[test]
    fn fields_come_before_the_file() {
        // Names in lower case, values as they are, and the file's own name without its path.
        let text = format!("{FORM}content");
        let head = FormHead::parse(text.as_bytes(), "b").unwrap().unwrap();
        assert_eq!(head.field("key"), Some("k/${filename}"));
        assert_eq!(head.field("x"), Some("a\r\nb"));
        assert_eq!((head.filename.as_str(), head.head_bytes), ("a \"q\".txt", FORM.len()));
        for cut in 0..FORM.len() {
            assert_eq!(FormHead::parse(&FORM.as_bytes()[..cut], "b"), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        // No file, no name, a field twice, endless fields, another type, no boundary.
        let code = |text: &str| FormHead::parse(text.as_bytes(), "b").map_err(|error| error.code);
        let field = "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nv\r\n";
        assert_eq!(code(&format!("{field}--b--\r\n")), Err(ErrorCode::InvalidArgument));
        assert_eq!(code(&field.repeat(3)), Err(ErrorCode::InvalidArgument));
        assert_eq!(code("--b\r\nContent-Disposition: form-data\r\n\r\n"), Err(ErrorCode::MalformedPost));
        assert_eq!(code("junk"), Err(ErrorCode::MalformedPost));
        let endless = format!("{}{}", field.trim_end_matches("v\r\n"), "v".repeat(FIELDS_BYTES_MAX));
        assert_eq!(code(&endless), Err(ErrorCode::MaxMessageLengthExceeded));
        assert_eq!(boundary_of(Some("multipart/form-data; Boundary=\"x y\"")).as_deref(), Ok("x y"));
        assert_eq!(boundary_of(Some("text/plain")).unwrap_err().code, ErrorCode::PreconditionFailed);
        assert_eq!(boundary_of(Some("multipart/form-data")).unwrap_err().code, ErrorCode::MalformedPost);
    }

    proptest! {
        #[test]
        fn a_file_ends_wherever_it_is_cut(
            content in "[-b\r\n]{0,40}", sizes in proptest::collection::vec(1usize..9, 1..60),
        ) {
            // The content is found whatever pieces it comes in, and however much it looks like a boundary.
            prop_assume!(!content.contains("\r\n--b"));
            let whole = format!("{content}\r\n--b--\r\nmore");
            let (mut scanner, mut found, mut rest) = (FileScanner::new("b"), Vec::new(), whole.as_bytes());
            for size in sizes.into_iter().chain([whole.len()]) {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                scanner.push(piece, &mut found);
                rest = behind;
            }
            prop_assert!(scanner.is_finished());
            // What the content ends with may itself be the beginning of the delimiter.
            let end = whole.find("\r\n--b").unwrap();
            prop_assert_eq!(found, &whole.as_bytes()[..end]);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[-b\r\n:;=\"a-z]{0,80}") {
            // Any bytes are a form, the beginning of one, or none.
            let _ = FormHead::parse(&bytes, "b");
            let _ = FormHead::parse(format!("--b\r\n{text}").as_bytes(), "b");
        }
    }
}
