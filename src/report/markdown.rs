//! Text as Markdown holds it: what a peer or a customer wrote stays text, and begins neither a picture nor a link, an emphasis,
//! a heading, a list or a piece of HTML, and does not end the cell of a table.

use serde_json::Value;

use crate::model::text::printable;

/// A value as a person writes it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| format!("{name}: {}", shown(field)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

/// Text that is nothing but text, wherever it is in a line (`CommonMark` 0.31 §2.4; GFM §6.9 makes links of addresses
/// that stand by themselves).
pub(super) fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Before the first letter, and before a character that is not a digit either: there rules and lists begin.
    let (mut begins, mut counts) = (true, true);
    for (at, c) in text.char_indices() {
        match c {
            '\\' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '#' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A text that looks like an entity would be shown as another letter.
            '&' if is_entity(&text[at..]) => out.push_str("&amp;"),
            '`' => out.push('\''),
            '-' | '+' | '=' if begins => {
                out.push('\\');
                out.push(c);
            }
            '.' | ')' if counts && !begins && !text[at + 1..].starts_with(|c: char| c != ' ') => {
                out.push('\\');
                out.push(c);
            }
            ':' if text[at..].starts_with("://") => out.push_str("&#58;"),
            '.' if text[..at].to_ascii_lowercase().ends_with("www") => out.push_str("&#46;"),
            c => out.push(c),
        }
        begins &= c == ' ';
        counts &= begins || c.is_ascii_digit();
    }
    out
}

fn is_entity(text: &str) -> bool {
    let name = text[1..].split(';').next().filter(|name| name.len() < text.len() - 1);
    name.is_some_and(|name| {
        let name = name.strip_prefix('#').unwrap_or(name);
        (1..=32).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text_and_nothing_else() {
        let table = [
            ("![x](https://evil.test/p.png)", "\\!\\[x\\](https&#58;//evil.test/p.png)"),
            ("[your bank](http://evil.test)", "\\[your bank\\](http&#58;//evil.test)"),
            ("see WWW.evil.test", "see WWW&#46;evil.test"),
            ("<img src=x>", "&lt;img src=x&gt;"),
            ("<https://evil.test>", "&lt;https&#58;//evil.test&gt;"),
            ("a | b \\| c", "a \\| b \\\\\\| c"),
            ("**bold** __bold__ ~~gone~~", "\\*\\*bold\\*\\* \\_\\_bold\\_\\_ \\~\\~gone\\~\\~"),
            ("# head", "\\# head"),
            ("- item", "\\- item"),
            ("2027-02-01", "2027-02-01"),
            ("5.0 GB", "5.0 GB"),
            ("1. item", "1\\. item"),
            ("12) item", "12\\) item"),
            ("=", "\\="),
            ("&lt;b&gt; &#60;", "&amp;lt;b&amp;gt; &amp;\\#60;"),
            ("`code`", "'code'"),
            (
                "Contoso & Sons Ltd; 5.0 GB - all of it (imap.a.test:993)",
                "Contoso & Sons Ltd; 5.0 GB - all of it (imap.a.test:993)",
            ),
        ];
        for (text, shown) in table {
            assert_eq!(cell(text), shown, "{text}");
        }
    }
}
