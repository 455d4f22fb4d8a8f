//! Removes the secrets that were sent to a peer from its answers to a login: some servers repeat the command that they
//! refuse, and their words go into logs, status and reports. Every protocol passes such answers through here.
//!
//! A secret is looked for by its pieces, so that a cut echo shows nothing either: as it is, with quotes and escapes, in
//! either case, in other encodings of its letters, in Base64 wherever it begins there, and in hexadecimal.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::credentials::{Login, Proof};
use crate::model::secret::Secret;

/// The text that replaces a hidden secret.
const HIDDEN: &str = "[hidden]";
/// The longest secret that is looked for by short pieces, in bytes: a token would share such pieces with any text.
const SHORT_MAX: usize = 64;
/// Response codes by which a refusal is understood; any other code is treated as text.
const CODES: [&str; 24] = [
    "ALERT",
    "AUTH",
    "AUTHENTICATIONFAILED",
    "AUTHORIZATIONFAILED",
    "BADCHARSET",
    "CANNOT",
    "CAPABILITY",
    "CLIENTBUG",
    "CONTACTADMIN",
    "EXPIRED",
    "IN-USE",
    "INUSE",
    "LIMIT",
    "LOGIN-DELAY",
    "NONEXISTENT",
    "NOPERM",
    "OVERQUOTA",
    "PRIVACYREQUIRED",
    "SERVERBUG",
    "SYS/PERM",
    "SYS/TEMP",
    "THROTTLED",
    "TRYCREATE",
    "UNAVAILABLE",
];
/// The most of an answer that is looked through, in bytes; what is longer is cut, since nobody is shown more.
const ANSWER_MAX: usize = 16 * 1024;

/// Hides the secrets of a login.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    forms: Vec<Form>,
}

/// One way in which a secret may be repeated.
#[derive(Debug)]
struct Form {
    /// Its letters, brought into the form in which answers are compared.
    text: Secret,
    /// How many letters in a row give it away.
    piece: usize,
}

impl Cleaner {
    /// Hides what a login with a password sends. With tokens see [`Self::and`].
    pub(crate) fn of(login: &Login) -> Self {
        let name = [Some(login.user.as_str()), login.authzid.as_deref()];
        // A name is not secret, but nobody reads it in Base64, and the password is next to it.
        let forms = name.into_iter().flatten().flat_map(|name| in_base64(name.as_bytes())).collect();
        match &login.proof {
            Proof::Password(password) => Self { forms }.and(password),
            Proof::Token(_) => Self { forms },
        }
    }

    /// Hides a secret, whatever else is hidden.
    #[must_use]
    pub(crate) fn and(mut self, secret: &Secret) -> Self {
        let bytes = secret.expose().as_bytes();
        if bytes.is_empty() {
            return self;
        }
        let piece = if bytes.len() > SHORT_MAX { 8 } else { 4 };
        self.forms.push(Form::new(&letters_of(&compare(bytes)), piece));
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let digits: String = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        self.forms.push(Form::new(digits.as_bytes(), 8));
        self.forms.extend(in_base64(bytes));
        self
    }

    /// An answer without the secrets: every word that holds a piece of one is replaced. A known response code in front of it
    /// stays.
    pub(crate) fn clean<'a>(&self, answer: &'a [u8]) -> Cow<'a, [u8]> {
        let answer = &answer[..answer.len().min(ANSWER_MAX)];
        let letters = compare(answer);
        let text = letters_of(&letters);
        let mut hidden = vec![false; answer.len()];
        for (length, forms) in self.by_length() {
            let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
            for (at, piece) in text.windows(length).enumerate() {
                places.entry(piece).or_default().push(at);
            }
            for piece in forms.iter().flat_map(|form| form.windows(length)) {
                for at in places.get(piece).into_iter().flatten() {
                    hidden[letters[*at].from..letters[at + length - 1].to].fill(true);
                }
            }
        }
        hidden[..length_of_code(answer)].fill(false);
        if hidden.contains(&true) { Cow::Owned(replace(answer, &hidden)) } else { Cow::Borrowed(answer) }
    }

    /// As [`Self::clean`], for text.
    pub(crate) fn clean_text(&self, answer: &str) -> String {
        String::from_utf8_lossy(&self.clean(answer.as_bytes())).into_owned()
    }

    /// The forms by how many letters of them in a row are looked for. Of a very short one, all.
    fn by_length(&self) -> impl Iterator<Item = (usize, Vec<&[u8]>)> {
        let mut lengths: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
        for form in &self.forms {
            let text = form.text.expose().as_bytes();
            lengths.entry(form.piece.min(text.len())).or_default().push(text);
        }
        lengths.remove(&0);
        lengths.into_iter()
    }
}

impl Form {
    fn new(letters: &[u8], piece: usize) -> Self {
        // The compared text is ASCII.
        Self { text: Secret::new(String::from_utf8_lossy(letters)), piece }
    }
}

/// A secret in Base64 as it reads wherever in a longer text it begins; nothing of its neighbours.
fn in_base64(bytes: &[u8]) -> Vec<Form> {
    let at = |before: usize| {
        let padded = [&vec![0; before], bytes].concat();
        let encoded = STANDARD_NO_PAD.encode(&padded);
        // The letters at both ends hold bits of the adjacent text.
        let begin = (before * 8).div_ceil(6);
        let end = padded.len() * 8 / 6;
        let own = encoded.get(begin..end).unwrap_or_default().as_bytes();
        Form::new(&letters_of(&compare(own)), 6)
    };
    // Few letters of Base64 would be found in any text.
    (0..3).map(at).filter(|form| form.text.expose().len() >= 4).collect()
}

/// A letter as it is compared, and where in the text it was.
#[derive(Debug, Clone, Copy)]
struct Letter {
    is: u8,
    from: usize,
    to: usize,
}

fn letters_of(letters: &[Letter]) -> Vec<u8> {
    letters.iter().map(|letter| letter.is).collect()
}

/// Brings text into the form in which it is compared: lower case, without escapes; letters beyond ASCII, which each server
/// writes in its own way, as one question mark; Base64 in its usual alphabet.
fn compare(text: &[u8]) -> Vec<Letter> {
    let mut letters: Vec<Letter> = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (letter, length) = match text[at] {
            b'\\' => (None, 1),
            b'%' => match text.get(at + 1..at + 3).and_then(read_hex) {
                Some(byte) => (Some(byte), 3),
                None => (Some(b'%'), 1),
            },
            byte => (Some(byte), 1),
        };
        let letter = letter.map(|letter| match letter {
            b'-' => b'+',
            b'_' => b'/',
            letter if !letter.is_ascii() => b'?',
            letter => letter.to_ascii_lowercase(),
        });
        let (from, to) = (at, at + length);
        at = to;
        match (letter, letters.last_mut()) {
            (Some(b'?'), Some(last)) if last.is == b'?' => last.to = to,
            (Some(letter), _) => letters.push(Letter { is: letter, from, to }),
            (None, _) => {}
        }
    }
    letters
}

fn read_hex(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// How long the known response code in front of an answer is, with its bracket; 0 when there is none.
fn length_of_code(answer: &[u8]) -> usize {
    let Some(inside) = answer.strip_prefix(b"[") else { return 0 };
    let Some(end) = inside.iter().position(|byte| matches!(byte, b']' | b' ')) else { return 0 };
    let known = CODES.iter().any(|code| inside[..end].eq_ignore_ascii_case(code.as_bytes()));
    if known { end + 2 } else { 0 }
}

/// Replaces each word that is hidden in part, and several in a row by one mark.
fn replace(answer: &[u8], hidden: &[bool]) -> Vec<u8> {
    let mut cleaned: Vec<u8> = Vec::with_capacity(answer.len());
    let mut at = 0;
    let mut after_mark = false;
    while at < answer.len() {
        let blank = answer[at].is_ascii_whitespace();
        let length = answer[at..].iter().position(|byte| byte.is_ascii_whitespace() != blank);
        let end = length.map_or(answer.len(), |length| at + length);
        let secret = hidden[at..end].contains(&true);
        match (secret, blank) {
            (true, _) if after_mark => {
                let kept = cleaned.trim_ascii_end().len();
                cleaned.truncate(kept);
            }
            (true, _) => cleaned.extend_from_slice(HIDDEN.as_bytes()),
            (false, _) => cleaned.extend_from_slice(&answer[at..end]),
        }
        after_mark = secret || (blank && after_mark);
        at = end;
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn cleaned(password: &str, answer: &str) -> String {
        Cleaner::of(&Login::own("alice".to_owned(), Secret::new(password))).clean_text(answer)
    }

    #[test]
    fn a_repeated_command_shows_nothing_of_the_password() {
        let plain = STANDARD.encode("\0alice\0hunter2");
        for (password, answer, expected) in [
            (
                "hunter2",
                "unrecognized: LOGIN \"alice\" \"hunter2\"",
                "unrecognized: LOGIN \"alice\" [hidden]",
            ),
            ("hunter2", "unrecognized: LOGIN ALICE HUNTER2", "unrecognized: LOGIN ALICE [hidden]"),
            ("hunter2", "line cut: LOGIN \"alice\" \"hunte", "line cut: LOGIN \"alice\" [hidden]"),
            ("hunter2", "68756e74657232?", "[hidden]"),
            ("hunter2", &format!("bad: AUTHENTICATE PLAIN {plain}"), "bad: AUTHENTICATE PLAIN [hidden]"),
            ("hunter2", &format!("bad: {}", &plain[..17]), "bad: [hidden]"),
            ("a\"b\\cd", "LOGIN alice \"a\\\"b\\\\cd\"", "LOGIN alice [hidden]"),
            ("a\"b\\cd", "LOGIN alice {6} a\"b\\cd now", "LOGIN alice {6} [hidden] now"),
            ("correct horse of 9", "no: correct horse of 9, sir", "no: [hidden] sir"),
            ("correct horse of 9", "token \"horse\" is odd", "token [hidden] is odd"),
            ("p\u{e4}55w\u{f6}rt", "no p?55w?rt", "no [hidden]"),
            ("50%off&x", "no 50%25off%26x", "no [hidden]"),
            ("abc", "LOGIN alice abc", "LOGIN alice [hidden]"),
            ("hunter2", "[AUTHENTICATIONFAILED] Authentication failed.", ""),
            ("failedtest", "[AUTHENTICATIONFAILED] It failed", "[AUTHENTICATIONFAILED] It [hidden]"),
            ("hunter2", "[HUNTER2] no", "[hidden] no"),
            ("", "LOGIN failed", ""),
        ] {
            let expected = if expected.is_empty() { answer } else { expected };
            assert_eq!(cleaned(password, answer), expected, "{password}: {answer}");
        }
    }

    #[test]
    fn a_token_is_hidden_and_shares_no_piece_with_words() {
        let token = Secret::new(format!("ya29.{}", "AuthenticationFailedxYz0".repeat(40)));
        let cleaner = Cleaner::default().and(&token);
        let sent = STANDARD.encode(format!("user=a@a.test\u{1}auth=Bearer {}\u{1}\u{1}", token.expose()));
        assert_eq!(cleaner.clean_text(&format!("BAD {sent}")), "BAD [hidden]");
        assert_eq!(cleaner.clean_text(&format!("BAD {}", &sent[60..90])), "BAD [hidden]");
        assert_eq!(cleaner.clean_text("Bearer ya29.AuthenticationFai"), "Bearer [hidden]");
        assert_eq!(cleaner.clean_text("LOGIN failed, not authorised"), "LOGIN failed, not authorised");
    }

    proptest! {
        #[test]
        fn no_echo_shows_four_letters_in_a_row(
            password in "[!-$&->@-\\[\\]-~]{6,24}", before in "\\PC{0,12}", after in "\\PC{0,12}", cut in 4_usize..24,
        ) {
            let part = &password[..password.len().min(cut)];
            for echo in [part.to_owned(), STANDARD.encode(format!("{before}{password}"))] {
                let shown = cleaned(&password, &format!("no {echo} {after}"));
                prop_assert!(!shown.contains(&echo), "{shown}");
            }
        }

        #[test]
        fn cleaning_never_panics(password in any::<String>(), answer in proptest::collection::vec(any::<u8>(), 0..200)) {
            let login = Login::own("a".to_owned(), Secret::new(password));
            let _ = Cleaner::of(&login).clean(&answer);
        }
    }
}
