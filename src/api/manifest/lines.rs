//! The line of a file that each field is on, and input that `serde_yaml` would swallow or choke on: a key that is there
//! twice, nesting without end, anchors that multiply. `serde_yaml` itself tells lines only for broken syntax, so the
//! events of a second parser are read for their marks; no value comes from here.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::api::schema::{Path, Step};
use crate::model::failure::Failure;
use crate::model::text::printable;

/// The deepest nesting that is read; our kinds need nine levels.
const DEPTH_MAX: usize = 64;
/// The most nodes of a file once every alias is written out; 10,000 mailboxes in each of 10 domains need a tenth.
const NODES_MAX: u64 = 4_000_000;

/// A node's line and the lines of what is in it.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The line that the node begins on, from 1; for a field, the line of its key.
    pub line: usize,
    /// The line that the text of a literal block (`|`) begins on.
    text: Option<usize>,
    fields: BTreeMap<String, Self>,
    items: Vec<Self>,
}

impl Lines {
    /// The line that a text begins on whose lines are lines of the file.
    pub(super) fn text_line(&self, path: &Path) -> Option<usize> {
        let mut at = self;
        for step in &path.0 {
            at = at.step(step)?;
        }
        at.text
    }

    fn step(&self, step: &Step) -> Option<&Self> {
        match step {
            Step::Key(key) => self.fields.get(key),
            Step::Item(item) => self.items.get(*item),
        }
    }

    /// The line of a path, or of the nearest node above it that is in the file.
    pub(super) fn of(&self, path: &Path) -> usize {
        let mut at = self;
        for step in &path.0 {
            match at.step(step) {
                Some(next) => at = next,
                None => break,
            }
        }
        at.line
    }
}

/// The lines of each document of a file.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Lines>, Failure> {
    let mut reader =
        Reader { file, text, parser: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    while let Some(event) = reader.next()? {
        if matches!(event.0, Event::DocumentStart(_)) {
            let first = reader.expect()?;
            documents.push(reader.node(first, 0)?);
            reader.anchors.clear();
        }
    }
    Ok(documents)
}

type Marked<'a> = (Event<'a>, Span);

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// How many nodes each anchor stands for.
    anchors: BTreeMap<usize, u64>,
    nodes: u64,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<Marked<'a>>, Failure> {
        self.parser.next_event().transpose().map_err(|error| self.broken(&error))
    }

    fn expect(&mut self) -> Result<Marked<'a>, Failure> {
        let next = self.next()?;
        next.ok_or_else(|| self.fail(self.text.lines().count(), "the file ends in the middle of a value"))
    }

    fn fail(&self, line: usize, what: impl Into<String>) -> Failure {
        Failure::configuration(what).at(format!("{}:{line}", self.file))
    }

    fn broken(&self, error: &ScanError) -> Failure {
        let line = error.marker().line().max(1);
        let indent = |at: usize| {
            let text = self.text.lines().nth(at.saturating_sub(1)).unwrap_or_default();
            text[..text.len() - text.trim_start().len()].contains('\t')
        };
        // A parser trips over a tab on the line itself or on the one before.
        if let Some(tab) = [line, line.saturating_sub(1)].into_iter().find(|&at| at > 0 && indent(at)) {
            return self.fail(tab, "a tab stands in the indentation").hint("YAML is indented with spaces");
        }
        self.fail(line, format!("this is not YAML: {}", printable(error.info())))
            .hint("look at the indentation, the colons and the quotes of this line and the one before")
    }

    fn node(&mut self, (event, span): Marked<'a>, depth: usize) -> Result<Lines, Failure> {
        let line = span.start.line();
        if depth > DEPTH_MAX {
            return Err(self.fail(line, format!("it is nested deeper than {DEPTH_MAX} levels")));
        }
        if let Event::Scalar(_, _, _, Some(tag))
        | Event::SequenceStart(_, Some(tag))
        | Event::MappingStart(_, Some(tag)) = &event
            && !tag.is_yaml_core_schema()
        {
            return Err(self
                .fail(line, "a tag (a word that begins with !) stands before the value")
                .hint("take it out, or put quotes around the value if it begins with !"));
        }
        let before = self.nodes;
        self.nodes += 1;
        let text = matches!(event, Event::Scalar(_, ScalarStyle::Literal, ..)).then_some(line);
        let mut lines = Lines { line, text, ..Lines::default() };
        let anchor = match event {
            Event::Alias(anchor) => {
                // The text behind an alias is counted again each time; this is what keeps a bomb from going off.
                self.nodes += self.anchors.get(&anchor).copied().unwrap_or(0);
                0
            }
            Event::Scalar(_, _, anchor, _) => anchor,
            Event::SequenceStart(anchor, _) => loop {
                let next = self.expect()?;
                if next.0 == Event::SequenceEnd {
                    break anchor;
                }
                lines.items.push(self.node(next, depth + 1)?);
            },
            Event::MappingStart(anchor, _) => {
                self.fields(&mut lines, depth)?;
                anchor
            }
            _ => return Err(self.fail(line, "this is not YAML")),
        };
        if self.nodes > NODES_MAX {
            return Err(self
                .fail(line, format!("it is larger than {NODES_MAX} values once its aliases are written out"))
                .hint("write the values without anchors and aliases"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, self.nodes - before);
        }
        Ok(lines)
    }

    fn fields(&mut self, lines: &mut Lines, depth: usize) -> Result<(), Failure> {
        loop {
            let (key, span) = self.expect()?;
            let at = span.start.line();
            let key = match key {
                Event::MappingEnd => return Ok(()),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(self.fail(at, "a key must be a plain text")),
            };
            let value = self.expect()?;
            let mut value = self.node(value, depth + 1)?;
            value.line = at;
            // A literal block begins below its sign, be its first lines blank.
            value.text = value.text.map(|_| at + 1);
            if let Some(first) = lines.fields.insert(key.clone(), value) {
                let what = format!("{} stands twice, first in line {}", printable(&key), first.line);
                return Err(self.fail(at, what).hint("keep one of the two"));
            }
        }
    }
}
