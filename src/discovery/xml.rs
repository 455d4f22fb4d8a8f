//! A walk over a small XML document from a stranger: no DTD, no entities but XML's own, and bounds on everything. The meaning
//! of the elements is for the one who asked for the document.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::model::failure::{Failure, Result};
use crate::model::text::printable;

/// How deep elements may lie in each other.
const DEPTH_MAX: usize = 32;
/// The longest text of one element, in bytes; a longer one counts as none.
pub(super) const TEXT_MAX: usize = 1024;

/// The things met on the way, in the order of the document. Names are without their prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met<'a> {
    /// An element begins.
    Start {
        name: &'a str,
        /// Its attribute `type`.
        kind: Option<&'a str>,
    },
    /// An element has ended.
    End {
        name: &'a str,
        /// The element around it; empty at the outermost.
        parent: &'a str,
        /// The text since the last tag, trimmed; empty when it is longer than [`TEXT_MAX`].
        text: &'a str,
    },
}

/// Walks over a document whose outermost element is `root`, in capitals or not. `called` names the document in failures.
///
/// # Errors
/// A protocol failure when it is not XML, has another root or a DTD, uses an entity that is not XML's own, lies too
/// deep or ends too early.
pub(super) fn walk(text: &str, called: &str, root: &str, mut meet: impl FnMut(Met<'_>)) -> Result<()> {
    let malformed =
        |why: &str| Failure::protocol(format!("the {called} document cannot be read: {}", printable(why)));
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut path: Vec<String> = Vec::new();
    let mut value = Value::default();
    let check_root = |start: &BytesStart<'_>| {
        let name = start.local_name();
        if name.as_ref().eq_ignore_ascii_case(root) {
            return Ok(());
        }
        Err(malformed(&format!("its outermost element is <{}> and not <{root}>", name.as_ref())))
    };
    loop {
        match reader.read_event().map_err(|e| malformed(&e.to_string()).caused_by(&e))? {
            Event::DocType(_) => return Err(malformed("it has a DTD, which is not allowed here")),
            Event::Start(start) => {
                if path.is_empty() {
                    check_root(&start)?;
                }
                if path.len() >= DEPTH_MAX {
                    return Err(malformed("its elements lie too deep in each other"));
                }
                let name = start.local_name().as_ref().to_owned();
                let kind = start.try_get_attribute("type").map_err(|e| malformed(&e.to_string()))?;
                meet(Met::Start { name: &name, kind: kind.as_ref().map(|kind| kind.value.as_ref()) });
                path.push(name);
                value = Value::default();
            }
            Event::End(_) => {
                let name = path.pop().unwrap_or_default();
                let parent = path.last().map_or("", String::as_str);
                meet(Met::End { name: &name, parent, text: value.text.trim() });
                value = Value::default();
            }
            Event::Text(piece) => value.push(&piece.xml10_content()),
            Event::CData(piece) => value.push(&piece.xml10_content()),
            Event::GeneralRef(reference) => value.push(&resolve(&reference).map_err(|why| malformed(&why))?),
            Event::Empty(start) if path.is_empty() => check_root(&start)?,
            Event::Eof if path.is_empty() => return Ok(()),
            Event::Eof => return Err(malformed("it ends too early")),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

/// The text of an element while it is read.
#[derive(Default)]
struct Value {
    text: String,
    is_too_long: bool,
}

impl Value {
    fn push(&mut self, piece: &str) {
        // The room between two elements is not a text.
        let piece = if self.text.is_empty() { piece.trim_start() } else { piece };
        self.is_too_long |= self.text.len() + piece.len() > TEXT_MAX && !piece.trim().is_empty();
        if self.is_too_long {
            self.text.clear();
        } else if self.text.len() + piece.len() <= TEXT_MAX {
            self.text.push_str(piece);
        }
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, String> {
    if let Some(c) = reference.resolve_char_ref().map_err(|e| e.to_string())? {
        return Ok(c.to_string());
    }
    match reference.as_ref() {
        "amp" => Ok("&".to_owned()),
        "lt" => Ok("<".to_owned()),
        "gt" => Ok(">".to_owned()),
        "quot" => Ok("\"".to_owned()),
        "apos" => Ok("'".to_owned()),
        other => Err(format!("it uses the entity &{other};")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements with a text, as `parent/name=text`.
    fn texts(document: &str) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        walk(document, "test", "doc", |met| {
            if let Met::End { name, parent, text } = met
                && !text.is_empty()
            {
                seen.push(format!("{parent}/{name}={text}"));
            }
        })?;
        Ok(seen)
    }

    #[test]
    fn texts_are_read_with_references_and_without_their_surroundings() {
        let long = "x".repeat(TEXT_MAX);
        for (document, expected) in [
            ("<doc><a> pop&#46;c&#x2e;example </a></doc>".to_owned(), vec!["doc/a=pop.c.example".to_owned()]),
            (
                "<Doc><n:a>1 &lt; 2 &amp;&quot;&apos;</n:a></Doc>".to_owned(),
                vec!["Doc/a=1 < 2 &\"'".to_owned()],
            ),
            (
                "\u{feff}<?xml version='1.0'?><doc><!-- no --><a><![CDATA[<b>]]></a><c/></doc>".to_owned(),
                vec!["doc/a=<b>".to_owned()],
            ),
            (
                format!("<doc><a>{long}</a>{}<b>1</b></doc>", " ".repeat(2000)),
                vec![format!("doc/a={long}"), "doc/b=1".to_owned()],
            ),
            // No part of what is too long is taken for the whole.
            (format!("<doc><a>short&#46;{long}&#46;end</a><b>1</b></doc>"), vec!["doc/b=1".to_owned()]),
            ("<doc/>".to_owned(), vec![]),
        ] {
            assert_eq!(texts(&document).unwrap(), expected, "{document:.80}");
        }
    }

    #[test]
    fn the_kind_of_an_element_is_told_as_it_begins() {
        let mut seen = Vec::new();
        walk(r#"<doc><a type="imap" n="1"/><b type='pop3'>x</b><c>y</c></doc>"#, "test", "doc", |met| {
            if let Met::Start { name, kind } = met {
                seen.push(format!("{name} {}", kind.unwrap_or("-")));
            }
        })
        .unwrap();
        assert_eq!(seen, ["doc -", "b pop3", "c -"]);
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = format!("<doc>{}", "<a>".repeat(100));
        for (text, why) in [
            ("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><doc/>", "DTD"),
            ("<doc><a>&e;</a></doc>", "entity &e;"),
            ("<doc><a>&#1114112;</a></doc>", "cannot be read"),
            ("<html><body>Not found</body></html>", "<html> and not <doc>"),
            ("<html/>", "<html> and not <doc>"),
            ("<doc><a>", "too early"),
            ("<doc></b>", "cannot be read"),
            (&deep, "too deep"),
        ] {
            let failure = texts(text).unwrap_err();
            assert!(failure.what.contains(why), "{text:.60}: {}", failure.what);
            assert!(failure.what.starts_with("the test document cannot be read: "), "{}", failure.what);
        }
    }
}
