//! Writes one XML document, element by element.

use super::NAMESPACE;
use core::fmt::{self, Write as _};

/// What every document begins with.
pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// An XML document being written. Elements are closed in the order they were opened, [`XmlWriter::finish`] closes
/// what is left, so every document is well formed.
///
/// Text may be any string: what XML reserves is escaped, and what XML 1.0 can not hold (most control characters) is
/// written as a character reference, as S3 does; clients that store such keys list them with `encoding-type=url`.
///
/// ```
/// use crossdock_s3::protocol::xml::XmlWriter;
/// let mut xml = XmlWriter::new();
/// xml.open("Error").text("Code", "NoSuchKey").text("Message", "a < b");
/// assert_eq!(
///     xml.finish(),
///     b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>a &lt; b</Message></Error>"
/// );
/// ```
#[derive(Debug)]
pub struct XmlWriter {
    out: String,
    open: Vec<&'static str>,
}

impl Default for XmlWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl XmlWriter {
    /// A document that holds its declaration only.
    pub fn new() -> Self {
        let mut out = String::with_capacity(512);
        out.push_str(DECLARATION);
        XmlWriter { out, open: Vec::with_capacity(4) }
    }

    /// Opens the root element `name` in the namespace of S3.
    pub fn root(name: &'static str) -> Self {
        let mut xml = XmlWriter::new();
        xml.open_raw(name, &[("xmlns", NAMESPACE)]);
        xml
    }

    /// Opens element `name`.
    pub fn open(&mut self, name: &'static str) -> &mut Self {
        self.open_raw(name, &[])
    }

    /// Opens element `name` with attributes, whose values are escaped.
    pub fn open_raw(&mut self, name: &'static str, attributes: &[(&str, &str)]) -> &mut Self {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            push_escaped(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('>');
        self.open.push(name);
        self
    }

    /// Closes the element opened last; nothing happens if none is open.
    pub fn close(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push('>');
        }
        self
    }

    /// Writes `<name>value</name>`, escaped.
    pub fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.open(name);
        push_escaped(&mut self.out, value);
        self.close()
    }

    /// Writes `<name attributes>value</name>`, escaped.
    pub fn text_with(&mut self, name: &'static str, attributes: &[(&str, &str)], value: &str) -> &mut Self {
        self.open_raw(name, attributes);
        push_escaped(&mut self.out, value);
        self.close()
    }

    /// Writes `<name>value</name>` for bytes that should be UTF-8; others become U+FFFD.
    pub fn bytes(&mut self, name: &'static str, value: &[u8]) -> &mut Self {
        self.text(name, &String::from_utf8_lossy(value))
    }

    /// Writes `<name>value</name>` if there is a value.
    pub fn optional(&mut self, name: &'static str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// Writes `<name>value</name>` for a number or a truth value.
    pub fn value(&mut self, name: &'static str, value: impl fmt::Display) -> &mut Self {
        self.open(name);
        // Writing to a string does not fail unless `Display` itself does.
        let _ = write!(self.out, "{value}");
        self.close()
    }

    /// The document, with every open element closed.
    pub fn finish(mut self) -> Vec<u8> {
        while !self.open.is_empty() {
            self.close();
        }
        self.out.into_bytes()
    }
}

/// Appends `text`, escaped for element content and for attributes in double quotes.
///
/// A carriage return is written as a reference, as a reader would turn a bare one into a line feed (XML 1.0 §2.11).
fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(character),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "&#x{:x};", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quick_xml::{Reader, events::Event};

    #[test]
    fn control_characters_become_references() {
        // What XML 1.0 can not hold, and the carriage return it would change, are written as references.
        let mut xml = XmlWriter::new();
        xml.text("K", "a\u{1}\r\n\u{ffff}\"");
        let document = String::from_utf8(xml.finish()).unwrap();
        assert!(document.ends_with("<K>a&#x1;&#xd;\n&#xffff;&quot;</K>"), "{document}");
    }

    #[test]
    fn finish_closes_what_is_open() {
        // A document left half-way is still well formed, and closing too much is harmless.
        let mut xml = XmlWriter::root("A");
        xml.open("B").value("C", 7).optional("D", None).close().close().close();
        let document = String::from_utf8(xml.finish()).unwrap();
        assert!(document.ends_with(&format!("<A xmlns=\"{NAMESPACE}\"><B><C>7</C></B></A>")), "{document}");
    }

    proptest! {
        #[test]
        fn a_reader_reads_back_what_was_written(text in "[^\\p{Cc}\u{fffe}\u{ffff}]{0,40}") {
            // Any printable text survives escaping and an independent reader.
            let mut xml = XmlWriter::new();
            xml.open("A").text("B", &text);
            let document = String::from_utf8(xml.finish()).unwrap();
            let mut reader = Reader::from_str(&document);
            let mut seen = String::new();
            loop {
                match reader.read_event().unwrap() {
                    Event::Text(piece) => seen.push_str(&piece),
                    Event::GeneralRef(reference) => {
                        let escaped = format!("&{};", &*reference);
                        seen.push_str(&quick_xml::escape::unescape(&escaped).unwrap());
                    }
                    Event::Eof => break,
                    _ => {}
                }
            }
            // The line end behind the declaration is text as well.
            prop_assert_eq!(seen.strip_prefix('\n').unwrap(), &text);
        }
    }
}
