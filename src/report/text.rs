//! The table at the end of a run: domains, protocols, counts and findings, for a terminal of a given width.

use std::fmt::Write;

use super::causes::causes;
use super::rows::{FindingRow, Report};
use super::standing::{Standing, standing};
use super::words;
use crate::model::finding::{Severity, tell_together};
use crate::model::progress::MessageCounts;
use crate::model::text::printable;

/// Stands in a remedy for [`Style::inputs`], where whoever wrote it knew no files.
pub const UNTOLD_INPUTS: &str = "-f … --state …";

/// The abilities of the terminal, and the words of its user.
#[derive(Debug, Clone, Copy)]
pub struct Style<'a> {
    /// Its width in characters; from 40 on the table fits.
    pub columns: usize,
    /// Whether it shows colours.
    pub colour: bool,
    /// The options by which a further command finds the same migration.
    pub given: &'a Given,
}

/// The options of the user's command, for the commands that remedies name.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The manifests and the state, as in `-f contoso.yaml --state ./state`.
    pub inputs: String,
    /// The way to servers, for commands that connect: as in ` --ca own.pem`, else nothing.
    pub reach: String,
}

impl Given {
    /// A remedy whose commands work as they are typed.
    pub fn spell_out(&self, remedy: &str) -> String {
        let connecting = ["run", "verify"].into_iter().fold(remedy.to_owned(), |text, command| {
            let (untold, Self { inputs, reach }) = (format!("mailferry {command} {UNTOLD_INPUTS}"), self);
            text.replace(&untold, &format!("mailferry {command} {inputs}{reach}"))
        });
        connecting.replace(UNTOLD_INPUTS, &self.inputs)
    }
}

impl Style<'_> {
    /// A remedy whose commands work as they are typed.
    pub(super) fn spell_out(self, remedy: &str) -> String {
        self.given.spell_out(remedy)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The counts of one line, in the order of the equation.
fn figures(counts: &MessageCounts) -> [String; 5] {
    [counts.source, counts.copied, counts.excluded, counts.failed, counts.pending].map(words::count)
}

struct Line {
    cells: [String; 3],
    counts: MessageCounts,
    size: u64,
}

/// The summary of a report as text, ending with a line feed.
pub fn summary(report: &Report, style: Style<'_>) -> String {
    let totals = report.totals();
    let mut text = String::new();
    let title = format!(
        "{}  {}, {} → {} ({})",
        report.name,
        words::counted((report.domains.len() + report.unseen.len()) as u64, "domain", "domains"),
        words::counted(totals.mailboxes, "mailbox", "mailboxes"),
        report.destination.host,
        report.destination.kind,
    );
    wrap(&mut text, "", "  ", &title, style.columns);
    text.push('\n');
    let mut lines: Vec<Line> = report
        .domains
        .iter()
        .map(|row| {
            let sums = report.totals_of(&row.name);
            let mixed = if row.mixed { "mixed  " } else { "" };
            let unread = if row.unreadable == 0 || row.protocols.is_empty() {
                String::new()
            } else {
                format!(" · none {}", words::count(row.unreadable))
            };
            let protocols = format!("{mixed}{}{unread}", words::protocols(row));
            let cells = [row.name.to_string(), protocols, words::count(sums.mailboxes)];
            Line { cells, counts: sums.messages, size: sums.bytes }
        })
        .collect();
    let cells = ["total".to_owned(), String::new(), words::count(totals.mailboxes)];
    lines.push(Line { cells, counts: totals.messages, size: totals.bytes });
    table(&mut text, &lines, style);
    findings(&mut text, &report.findings, style);
    causes(&mut text, report, style);
    let [source, copied, excluded, failed, pending] = figures(&totals.messages);
    let equation = format!(
        "{source} at the source = {copied} copied + {excluded} excluded + {failed} failed + {pending} pending"
    );
    text.push('\n');
    let Standing { word, sentence, .. } = standing(report, &totals);
    wrap(&mut text, "", "  ", &format!("{word}. {sentence}"), style.columns);
    wrap(&mut text, "", "  ", &equation, style.columns);
    // Where something stands in the way, that comes next, and it is told above.
    let is_held =
        totals.unreadable > 0 || report.open_findings(Severity::Critical) > 0 || totals.messages.copied > 0;
    if report.stage == "Plan" && !is_held {
        let next = style.spell_out(&format!("next: `mailferry run {UNTOLD_INPUTS} --stage Sync` copies"));
        wrap(&mut text, "", "  ", &next, style.columns);
    }
    if totals.sizes_checked > 0 {
        let checked = format!(
            "compared as they arrived, in all passes: {} by size, {} of them byte by byte",
            words::count(totals.sizes_checked),
            words::count(totals.digests_checked)
        );
        wrap(&mut text, "", "  ", &checked, style.columns);
    }
    text
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// One line a domain where it fits; otherwise its counts stand in a line of their own, named.
fn table(text: &mut String, lines: &[Line], style: Style<'_>) {
    const HEADS: [&str; 9] =
        ["domain", "protocol", "mailboxes", "source", "copied", "excluded", "failed", "pending", "size"];
    let rows: Vec<[String; 9]> = lines
        .iter()
        .map(|line| {
            let [name, protocols, mailboxes] = line.cells.clone();
            let [source, copied, excluded, failed, pending] = figures(&line.counts);
            [name, protocols, mailboxes, source, copied, excluded, failed, pending, words::bytes(line.size)]
        })
        .collect();
    let widths: [usize; 9] = std::array::from_fn(|at| {
        rows.iter().map(|r| width(&r[at])).chain([HEADS[at].len()]).max().unwrap_or(0)
    });
    if widths.iter().sum::<usize>() + 2 * 9 > style.columns {
        for (line, row) in lines.iter().zip(&rows) {
            let [name, protocols, mailboxes, .., size] = row;
            let boxes = if mailboxes == "1" { "mailbox" } else { "mailboxes" };
            let head = [name.as_str(), protocols.as_str()].join("  ");
            wrap(
                text,
                "  ",
                "    ",
                &format!("{}  {mailboxes} {boxes}  {size}", head.trim_end()),
                style.columns,
            );
            let [source, copied, excluded, failed, pending] = figures(&line.counts);
            let equation = format!(
                "{source} = {copied} copied + {excluded} excluded + {failed} failed + {pending} pending"
            );
            wrap(text, "    ", "      ", &equation, style.columns);
        }
        return;
    }
    let head = HEADS.map(str::to_owned);
    for (at, row) in std::iter::once(&head).chain(&rows).enumerate() {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            let cell = if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            let loud = column == 6 && at > 0 && row[6] != "0";
            if loud { style.paint("31", &cell) } else { cell }
        });
        let line = format!("  {}", cells.collect::<Vec<_>>().join("  "));
        let line = line.trim_end();
        let framed = at == 0 || at == rows.len();
        let _ = writeln!(text, "{}", if framed { style.paint("1", line) } else { line.to_owned() });
    }
}

/// Findings that are open, those of one code together; what was acknowledged is counted.
fn findings(text: &mut String, rows: &[FindingRow], style: Style<'_>) {
    let open: Vec<&FindingRow> = rows.iter().filter(|row| row.acknowledged.is_none()).collect();
    let accepted = rows.len() - open.len();
    if rows.is_empty() {
        return;
    }
    text.push_str("\nFindings\n");
    for group in open.chunk_by(|a, b| a.code == b.code) {
        let Some(first) = group.first() else { continue };
        let (word, code) = match first.severity {
            Severity::Critical => ("CRITICAL", "1;31"),
            Severity::Warning => ("WARNING", "33"),
            Severity::Advisory => ("ADVISORY", "2"),
        };
        let mut domains: Vec<String> =
            group.iter().filter_map(|row| row.domain.as_ref()).map(ToString::to_string).collect();
        domains.dedup();
        // The others are in the report.
        let facts = group.iter().map(|row| (row.fact.0.as_str(), row.fact.1));
        let (told, _) = tell_together(first.code, facts);
        let said = format!("{}  {}  {}", first.code, words::some_of(&domains, 4), printable(&told));
        let label = format!("  {word:<8}  ");
        let from = text.len() + 2;
        wrap(text, &label, "            ", &said, style.columns);
        text.replace_range(from..from + word.len(), &style.paint(code, word));
        wrap(text, "            → ", "              ", &style.spell_out(first.remedy), style.columns);
    }
    if accepted > 0 {
        let _ = writeln!(
            text,
            "  {}",
            words::counted(accepted as u64, "finding is acknowledged", "findings are acknowledged")
        );
    }
}

/// Writes words in lines of at most `columns` characters; a word that is longer gets a line of its own.
pub fn wrap(text: &mut String, first: &str, next: &str, said: &str, columns: usize) {
    let mut line = first.to_owned();
    let mut begun = false;
    // Two blanks part the pieces of a line, and are kept.
    for word in said.split(' ') {
        if begun && width(&line) + 1 + width(word) > columns {
            let _ = writeln!(text, "{}", line.trim_end());
            next.clone_into(&mut line);
            begun = false;
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun |= !word.is_empty();
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn the_summary_fits_the_terminal_and_says_everything() {
        let report = fixture::report();
        for columns in [40, 60, 80, 100, 120, 200] {
            let text = summary(&report, Style { columns, colour: false, given: &Given::default() });
            for line in text.lines() {
                let single = !line.trim().contains(' ');
                assert!(width(line) <= columns || single, "{columns}: {line}");
            }
            let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in [
                "3 domains, 7 mailboxes → imap.new.example (IMAP)",
                "mixed IMAP 1 · POP3 1 · none 1",
                "PopMailboxesPresent",
                "1 finding is acknowledged",
                "21,950 at the source = 21,848 copied + 6 excluded + 4 failed + 92 pending",
            ] {
                assert!(flat.contains(part), "{columns}: no \"{part}\" in\n{text}");
            }
            assert!(!text.contains('\u{1b}'), "no colour by itself");
        }
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let report = fixture::report();
        let plain = summary(&report, Style { columns: 120, colour: false, given: &Given::default() });
        let painted = summary(&report, Style { columns: 120, colour: true, given: &Given::default() });
        assert!(painted.contains("\u{1b}[1;31mCRITICAL\u{1b}[0m"));
        let mut bare = String::new();
        let mut escape = false;
        for c in painted.chars() {
            match c {
                '\u{1b}' => escape = true,
                'm' if escape => escape = false,
                _ if escape => {}
                c => bare.push(c),
            }
        }
        assert_eq!(bare, plain);
    }
}
