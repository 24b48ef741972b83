//! Reads the small documents of requests, element by element.
//!
//! Invariants: no document type, hence no entities but the five of XML itself and character references; depth and the
//! number of elements are bounded; memory follows the texts that the caller asks for, never what the document repeats.
//! Names are compared without prefix and namespace: clients send S3's namespace, none, or that of an older API.
#![deny(clippy::indexing_slicing)]

use crate::protocol::error::{ErrorCode, S3Error};
use quick_xml::Reader;
use quick_xml::events::Event;

/// How deep elements may lie in each other. The deepest document S3 reads has six levels.
const DEPTH_MAX: u32 = 16;

/// Pulls elements out of a document.
///
/// The caller holds a place inside an element and asks for its [`XmlReader::child`]ren; each child is consumed by
/// [`XmlReader::text`], [`XmlReader::skip`], or by asking for its own children until there are no more.
///
/// ```
/// use crossdock_s3::protocol::xml::XmlReader;
/// let mut xml = XmlReader::new(b"<Delete><Quiet> true </Quiet><New><X/></New></Delete>", 10)?;
/// xml.root("Delete")?;
/// while let Some(name) = xml.child()? {
///     match name {
///         "Quiet" => assert_eq!(xml.text()?.trim(), "true"),
///         _ => xml.skip()?,
///     }
/// }
/// xml.finish()?;
/// # Ok::<(), crossdock_s3::protocol::error::S3Error>(())
/// ```
#[derive(Debug)]
pub struct XmlReader<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    /// Elements open now.
    depth: u32,
    /// Elements that may still begin.
    elements_left: u32,
}

fn malformed() -> S3Error {
    ErrorCode::MalformedXml.into()
}

/// `Char` of XML 1.0 §2.2.
fn is_character(character: char) -> bool {
    !matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

fn local_name(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}

impl<'a> XmlReader<'a> {
    /// A reader at the start of `document`, which may hold `elements_max` elements. Its size is the caller's to bound.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML` if the document is not UTF-8.
    pub fn new(document: &'a [u8], elements_max: u32) -> Result<Self, S3Error> {
        let text = core::str::from_utf8(document).map_err(|_| malformed())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        // `<a/>` reads as `<a></a>`, and a bare `&` is an error.
        config.expand_empty_elements = true;
        config.allow_dangling_amp = false;
        config.check_end_names = true;
        Ok(XmlReader { text, reader, depth: 0, elements_left: elements_max })
    }

    /// Enters the root element, which must be called `name`.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML` if it is not, or comes behind anything but a declaration, comments and white space.
    pub fn root(&mut self, name: &str) -> Result<(), S3Error> {
        debug_assert_eq!(self.depth, 0, "the root is entered once");
        match self.child()? {
            Some(found) if found == name => Ok(()),
            _ => Err(malformed()),
        }
    }

    /// Enters the next child of the element the reader is in and tells its local name; `None` leaves the element,
    /// which has no more.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML` if there is text between the children, the document breaks off, or a limit is reached.
    pub fn child(&mut self) -> Result<Option<&'a str>, S3Error> {
        loop {
            let offset = self.reader.buffer_position();
            match self.reader.read_event().map_err(|_| malformed())? {
                Event::Start(start) => {
                    self.enter()?;
                    // The event's name does not outlive the event; the same bytes of the document do.
                    let offset = usize::try_from(offset).map_err(|_| malformed())?;
                    let tag = self.text.get(offset..).and_then(|rest| rest.strip_prefix('<'));
                    let name = tag.and_then(|tag| tag.get(..start.name().into_inner().len()));
                    debug_assert_eq!(name, Some(start.name().into_inner()));
                    return name.map(local_name).map(Some).ok_or_else(malformed);
                }
                Event::End(_) => {
                    self.depth = self.depth.checked_sub(1).ok_or_else(malformed)?;
                    return Ok(None);
                }
                Event::Text(text) if text.trim_ascii().is_empty() => {}
                Event::Comment(_) | Event::PI(_) => {}
                Event::Decl(_) if self.depth == 0 => {}
                _ => return Err(malformed()),
            }
        }
    }

    /// The text of the element entered last, which is left. White space is kept as it is.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML` if the element has children, a character that no document may hold (XML 1.0 §2.2) or an entity that XML
    /// does not define, or the document breaks off.
    pub fn text(&mut self) -> Result<String, S3Error> {
        // What is stored is written again, and must be read again.
        let text = self.key()?;
        if text.chars().all(is_character) { Ok(text) } else { Err(malformed()) }
    }

    /// As [`XmlReader::text`] for the key of an object, which may hold any character: SDKs send it as it is.
    ///
    /// # Errors
    ///
    /// As [`XmlReader::text`] but for the characters.
    pub fn key(&mut self) -> Result<String, S3Error> {
        let mut out = String::new();
        loop {
            match self.reader.read_event().map_err(|_| malformed())? {
                Event::Text(text) => out.push_str(&text.xml10_content()),
                Event::CData(text) => out.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref().map_err(|_| malformed())? {
                        Some(character) => character,
                        None => match &*reference.into_inner() {
                            "amp" => '&',
                            "lt" => '<',
                            "gt" => '>',
                            "quot" => '"',
                            "apos" => '\'',
                            _ => return Err(malformed()),
                        },
                    };
                    out.push(character);
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::End(_) => {
                    self.depth = self.depth.checked_sub(1).ok_or_else(malformed)?;
                    return Ok(out);
                }
                _ => return Err(malformed()),
            }
        }
    }

    /// Leaves the element entered last, whatever it holds.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML` if the document breaks off or a limit is reached.
    pub fn skip(&mut self) -> Result<(), S3Error> {
        let target = self.depth.checked_sub(1).ok_or_else(malformed)?;
        while self.depth > target {
            match self.reader.read_event().map_err(|_| malformed())? {
                Event::Start(_) => self.enter()?,
                Event::End(_) => self.depth -= 1,
                Event::DocType(_) | Event::Eof => return Err(malformed()),
                _ => {}
            }
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), S3Error> {
        self.depth += 1;
        self.elements_left = self.elements_left.checked_sub(1).ok_or_else(malformed)?;
        if self.depth > DEPTH_MAX { Err(malformed()) } else { Ok(()) }
    }

    /// Checks that nothing but comments and white space comes behind the root, which has been left.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`.
    pub fn finish(mut self) -> Result<(), S3Error> {
        if self.depth != 0 {
            return Err(malformed());
        }
        loop {
            match self.reader.read_event().map_err(|_| malformed())? {
                Event::Eof => return Ok(()),
                Event::Text(text) if text.trim_ascii().is_empty() => {}
                Event::Comment(_) | Event::PI(_) => {}
                _ => return Err(malformed()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::xml::XmlWriter;
    use proptest::prelude::*;

    /// The document as `name(text)` and `name[children]`, which are told apart by the names in lower case.
    fn outline(document: &[u8]) -> Result<String, S3Error> {
        fn inside(xml: &mut XmlReader<'_>, out: &mut String) -> Result<(), S3Error> {
            while let Some(name) = xml.child()? {
                out.push_str(name);
                if name.starts_with(|first: char| first.is_ascii_lowercase()) {
                    out.push_str(&format!("({})", xml.text()?));
                } else if name == "Skip" {
                    xml.skip()?;
                } else {
                    out.push('[');
                    inside(xml, out)?;
                    out.push(']');
                }
            }
            Ok(())
        }
        let mut xml = XmlReader::new(document, 20)?;
        xml.root("R")?;
        let mut out = String::new();
        inside(&mut xml, &mut out)?;
        xml.finish()?;
        Ok(out)
    }

    #[test]
    fn all_spellings_of_a_document_read_alike() {
        // Declaration, byte order mark, namespaces, prefixes, comments, CDATA, references and white space do not matter.
        let table: &[(&str, &str)] = &[
            ("<R/>", ""),
            (
                "\u{feff}<?xml version='1.0' encoding='UTF-8'?>\n<!-- c --><R xmlns='u'>\n <a>x</a>\n</R>\n<!-- d -->",
                "a(x)",
            ),
            ("<s:R xmlns:s='u'><s:A><s:b> x </s:b></s:A></s:R>", "A[b( x )]"),
            ("<R><a>&#34;1&quot;&amp;&lt;&gt;&apos;&#x41;&#13;</a><a/></R>", "a(\"1\"&<>'A\r)a()"),
            ("<R><a>x<!-- c -->y<![CDATA[<&]]>\r\nz</a></R>", "a(xy<&\nz)"),
            ("<R><Skip q='>'>t<R><a/></R>&unknown;</Skip><B/></R>", "SkipB[]"),
        ];
        for (document, expected) in table {
            assert_eq!(outline(document.as_bytes()).as_deref(), Ok(*expected), "{document}");
        }
    }

    #[test]
    fn what_is_no_document_is_malformed() {
        // Every fault is the same 400: broken structure, stray text, entities, a document type, limits.
        let deep = format!("<R>{}{}</R>", "<A>".repeat(16), "</A>".repeat(16));
        let many = format!("<R>{}</R>", "<A/>".repeat(20));
        let deep_skipped = format!("<R><Skip>{}{}</Skip></R>", "<A>".repeat(16), "</A>".repeat(16));
        let table = [
            "",
            " ",
            "x",
            "<R>",
            "<R></r>",
            "<R><a></R></a>",
            "</R>",
            "<R/><R/>",
            "<R/>x",
            "x<R/>",
            "<r/>",
            "<Q/>",
            "<R>x</R>",
            "<R><a><B/></a></R>",
            "<R><a>&e;</a></R>",
            "<R>&amp;</R>",
            "<R><a>&#0;</a></R>",
            "<R><a>&#1;</a></R>",
            "<R><a>\x01</a></R>",
            "<R><a>\u{ffff}</a></R>",
            "<R><a>&x</a></R>",
            "<!DOCTYPE R><R/>",
            "<!DOCTYPE R [<!ENTITY e 'x'>]><R><a>&e;</a></R>",
            "<R><Skip></R>",
            "<R><?xml version='1.0'?></R>",
            &deep,
            &many,
            &deep_skipped,
        ];
        for document in table {
            assert_eq!(
                outline(document.as_bytes()).map_err(|e| e.code),
                Err(ErrorCode::MalformedXml),
                "{document}"
            );
        }
        assert!(outline(b"<R><a>\xff</a></R>").is_err());
        assert!(outline(format!("<R>{}</R>", "<A/>".repeat(19)).as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[<>/RSkipaA&;! \"?-]{0,40}") {
            // Any bytes, also such as look like XML, are read or refused.
            let _ = outline(&bytes);
            let _ = outline(&[b"<R>", &bytes[..], b"</R>"].concat());
            let _ = outline(format!("<R>{text}</R>").as_bytes());
        }

        #[test]
        fn what_is_written_is_read(text in "[^\0-\x08\x0b\x0c\x0e-\x1f\u{fffe}\u{ffff}]*") {
            // Any text survives the writer and the reader.
            let mut xml = XmlWriter::root("R");
            xml.text("a", &text);
            prop_assert_eq!(outline(&xml.finish()), Ok(format!("a({text})")));
        }
    }
}
