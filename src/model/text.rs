//! Text that a peer wrote, made safe to show: in a terminal, a status, a log line or a report.

/// The longest piece of peer text that is shown anywhere, in bytes (FAULTS 52).
pub const SHOWN_MAX: usize = 1024;

/// Makes text from a peer printable: control characters become `\u{..}` escapes, invisible direction overrides are
/// escaped as well, and the result is cut to [`SHOWN_MAX`] bytes on a character boundary.
pub fn printable(raw: &str) -> String {
    let mut shown = String::with_capacity(raw.len().min(SHOWN_MAX));
    for c in raw.trim_end_matches(['\r', '\n']).chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        let width = if hidden { 10 } else { c.len_utf8() };
        if shown.len() + width > SHOWN_MAX - 3 {
            shown.push('…');
            break;
        }
        if hidden {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// [`printable`] for bytes: what is not UTF-8 is shown with replacement characters.
pub fn printable_bytes(raw: &[u8]) -> String {
    // Twice the limit is enough to fill the limit, however the bytes decode.
    printable(&String::from_utf8_lossy(&raw[..raw.len().min(2 * SHOWN_MAX)]))
}

/// Cuts text to at most `max` bytes on a character boundary, marking the cut.
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A text as a sentence of its own: with a capital letter, unless it begins with a name (a host, an address, a field, a file),
/// which is not spelt otherwise.
pub fn whole_sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = text.split_whitespace().next().unwrap_or_default();
    let is_word = !first.is_empty() && first.chars().all(|c| c.is_ascii_lowercase() || c == '\'');
    match letters.next().filter(|_| is_word) {
        Some(letter) => letter.to_ascii_uppercase().to_string() + letters.as_str(),
        None => text.to_owned(),
    }
}

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// `21950` as `21,950`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun, `1 mailbox` or `6 mailboxes`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// Bytes in decimal units, as disks and providers count: `1.5 GB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (unit, name) in UNITS {
        if n >= unit {
            let tenths = n / (unit / 10);
            return if tenths >= 1_000 {
                format!("{} {name}", count(tenths / 10))
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            };
        }
    }
    counted(n, "byte", "bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_begins_with_a_capital_letter_and_a_name_stays_as_it_is() {
        for (text, wanted) in [
            ("the destination is away", "The destination is away"),
            ("imap.a.test:993 refused the login", "imap.a.test:993 refused the login"),
            ("anna@a.test is full", "anna@a.test is full"),
            ("spec.domains[0].name: is none", "spec.domains[0].name: is none"),
            ("contoso: is away", "contoso: is away"),
            ("1 of 2", "1 of 2"),
            ("", ""),
        ] {
            assert_eq!(whole_sentence(text), wanted);
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\x1b[31mred\r\n"), "a\\u{1b}[31mred");
        assert_eq!(printable("ok\r\nfake: line"), "ok\\u{d}\\u{a}fake: line");
        assert_eq!(printable("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
    }

    #[test]
    fn long_text_is_cut_on_a_character_boundary() {
        let shown = printable(&"é".repeat(5000));
        assert!(shown.len() <= SHOWN_MAX && shown.ends_with('…'));
        assert_eq!(cut("äöü", 5), "ä…");
    }
}
