//! The commands of an IMAP server for messages: FETCH, SEARCH, STORE, EXPUNGE and APPEND.

use std::sync::Arc;

use super::imap::{Said, Says, Session, argument, done, has_word, text_of};
use super::store::{Folder, Letter};
use super::values::{Value, in_set, set_of};

impl Session {
    /// Carries out a command that needs an open folder.
    pub(super) fn perform_in_folder(&mut self, verb: &str, arguments: &[Value]) -> Says {
        let by_uid = verb.starts_with("UID ");
        if self.folder.is_none() {
            return Err("BAD no folder is open".to_owned());
        }
        match verb.trim_start_matches("UID ") {
            "FETCH" => self.fetch(by_uid, arguments),
            "SEARCH" => self.search(by_uid, arguments),
            "STORE" => self.store_flags(by_uid, arguments),
            "EXPUNGE" if by_uid && !self.shared.offers("UIDPLUS") => Err("BAD unknown command".to_owned()),
            "EXPUNGE" => {
                if self.read_only {
                    return Err("NO the folder is open for reading".to_owned());
                }
                let set = text_of(arguments, 0);
                self.remove_deleted(|uid| !by_uid || in_set(&set, uid, u32::MAX));
                done([])
            }
            _ => Err("BAD unknown command".to_owned()),
        }
    }

    /// Does something with the open folder and the UIDs that the client knows to be in it.
    fn inside<T>(&mut self, work: impl FnOnce(&mut Folder, &[u32]) -> T) -> Option<T> {
        let shared = Arc::clone(&self.shared);
        let mut store = shared.store();
        let folder = store.find(self.folder.as_deref()?)?;
        Some(work(folder, &self.known))
    }

    /// The responses that tell the client about changes in the open folder, ahead of a command's end: never about
    /// removals while it counts messages by their numbers (RFC 3501 §7.4.1).
    pub(super) fn news(&mut self, verb: &str) -> Vec<Vec<u8>> {
        let (known, resyncs) = (self.known.clone(), self.resyncs);
        let now = self.inside(|folder, _| folder.letters.iter().map(|letter| letter.uid).collect::<Vec<_>>());
        let Some(now) = now else { return Vec::new() };
        let mut lines = Vec::new();
        if !matches!(verb, "FETCH" | "STORE" | "SEARCH") {
            let gone: Vec<u32> = known.iter().copied().filter(|uid| !now.contains(uid)).collect();
            if resyncs && !gone.is_empty() {
                lines.push(format!("* VANISHED {}", set_of(&gone)).into_bytes());
            }
            for uid in gone {
                let at = self.known.iter().position(|known| *known == uid).expect("it was known");
                self.known.remove(at);
                if !resyncs {
                    lines.push(format!("* {} EXPUNGE", at + 1).into_bytes());
                }
            }
        }
        let before = self.known.len();
        let last = self.known.last().copied().unwrap_or(0);
        self.known.extend(now.into_iter().filter(|uid| *uid > last));
        if self.known.len() > before {
            lines.push(format!("* {} EXISTS", self.known.len()).into_bytes());
        }
        lines
    }

    fn fetch(&mut self, by_uid: bool, arguments: &[Value]) -> Says {
        let set = text_of(arguments, 0);
        let items: Vec<String> = arguments.get(1).map(Value::words).unwrap_or_default();
        let modifiers = arguments.get(2).map(Value::items).unwrap_or_default();
        let since = modifiers
            .iter()
            .position(|it| it.text().eq_ignore_ascii_case("CHANGEDSINCE"))
            .and_then(|at| modifiers.get(at + 1)?.text().parse::<u64>().ok());
        if since.is_some() && !self.shared.offers("CONDSTORE") && !self.shared.offers("QRESYNC") {
            return Err("BAD unknown modifier".to_owned());
        }
        let vanished = has_word(&modifiers, "VANISHED");
        if vanished && !self.resyncs {
            return Err("BAD QRESYNC was not enabled".to_owned());
        }
        let marks =
            !self.read_only && items.iter().any(|item| item.to_ascii_uppercase().starts_with("BODY["));
        let fetched = self.inside(|folder, known| {
            let mut lines = Vec::new();
            if let Some(since) = since.filter(|_| vanished) {
                lines.extend(folder.vanished_since(since, Some(&set)));
            }
            let most = most_of(by_uid, known);
            for (at, uid) in known.iter().enumerate() {
                let number = u32::try_from(at).expect("a number") + 1;
                let Some(letter) = folder.letters.iter_mut().find(|letter| letter.uid == *uid) else {
                    continue;
                };
                if in_set(&set, if by_uid { *uid } else { number }, most)
                    && since.is_none_or(|since| letter.modseq > since)
                {
                    if marks && !letter.has_flag("\\Seen") {
                        letter.flags.push("\\Seen".to_owned());
                    }
                    lines.push(fetched(number, letter, &items, by_uid, since.is_some()));
                }
            }
            lines
        });
        done(fetched.unwrap_or_default())
    }

    fn search(&mut self, by_uid: bool, arguments: &[Value]) -> Says {
        let mut keys = arguments;
        let mut returns = None;
        if argument(keys, 0).eq_ignore_ascii_case(b"RETURN") {
            if !self.shared.offers("ESEARCH") {
                return Err("BAD unknown search key".to_owned());
            }
            returns = keys.get(1).map(Value::items);
            keys = keys.get(2..).unwrap_or_default();
        }
        if argument(keys, 0).eq_ignore_ascii_case(b"CHARSET") {
            keys = keys.get(2..).unwrap_or_default();
        }
        let found = self.inside(|folder, known| {
            let most_uid = known.last().copied().unwrap_or(0);
            let most = u32::try_from(known.len()).expect("a number");
            let mut found = Vec::new();
            for (number, uid) in (1..).zip(known) {
                let Some(letter) = folder.letters.iter().find(|letter| letter.uid == *uid) else { continue };
                if fits(letter, number, (most_uid, most), keys)? {
                    found.push(if by_uid { *uid } else { number });
                }
            }
            Some(found)
        });
        let Some(found) = found.unwrap_or_default() else { return Err("BAD unknown search key".to_owned()) };
        let mut words = vec!["*".to_owned()];
        if let Some(returns) = returns {
            words.push(if by_uid { "ESEARCH UID" } else { "ESEARCH" }.to_owned());
            let wants = |word: &str| has_word(&returns, word);
            if let (Some(first), Some(last)) = (found.first(), found.last()) {
                words.extend(wants("MIN").then(|| format!("MIN {first}")));
                words.extend(wants("MAX").then(|| format!("MAX {last}")));
                words.extend((wants("ALL") || returns.is_empty()).then(|| format!("ALL {}", set_of(&found))));
            }
            words.extend(wants("COUNT").then(|| format!("COUNT {}", found.len())));
        } else {
            words.push("SEARCH".to_owned());
            words.extend(found.iter().map(u32::to_string));
        }
        done([words.join(" ").into_bytes()])
    }

    fn store_flags(&mut self, by_uid: bool, arguments: &[Value]) -> Says {
        if self.read_only {
            return Err("NO the folder is open for reading".to_owned());
        }
        let set = text_of(arguments, 0);
        let rest = if matches!(arguments.get(1), Some(Value::List(_))) { 2 } else { 1 };
        let what = text_of(arguments, rest).to_ascii_uppercase();
        let flags: Vec<String> =
            arguments.get(rest + 1..).unwrap_or_default().iter().flat_map(Value::words).collect();
        let lines = self.inside(|folder, known| {
            let mut lines = Vec::new();
            let most = most_of(by_uid, known);
            for (number, uid) in (1..).zip(known) {
                if !in_set(&set, if by_uid { *uid } else { number }, most) {
                    continue;
                }
                let Some(letter) = folder.letters.iter().find(|letter| letter.uid == *uid) else { continue };
                let mut kept = letter.flags.clone();
                let is_named = |flag: &String| flags.iter().any(|it| it.eq_ignore_ascii_case(flag));
                match what.chars().next() {
                    Some('-') => kept.retain(|flag| !is_named(flag)),
                    Some('+') => {
                        kept.retain(|flag| !is_named(flag));
                        kept.extend(flags.iter().cloned());
                    }
                    _ => kept.clone_from(&flags),
                }
                folder.set_flags(*uid, &kept.iter().map(String::as_str).collect::<Vec<_>>());
                if !what.ends_with(".SILENT") {
                    lines.push(fetched(number, folder.letter(*uid), &["FLAGS".to_owned()], by_uid, false));
                }
            }
            lines
        });
        done(lines.unwrap_or_default())
    }

    /// Removes for good what is marked as deleted.
    pub(super) fn remove_deleted(&mut self, is_meant: impl Fn(u32) -> bool) {
        self.inside(|folder, _| {
            let marked =
                folder.letters.iter().filter(|letter| letter.has_flag("\\Deleted") && is_meant(letter.uid));
            for uid in marked.map(|letter| letter.uid).collect::<Vec<_>>() {
                folder.remove(uid);
            }
        });
    }

    pub(super) fn append(&mut self, arguments: &[Value]) -> Says {
        let mut messages: Vec<(Vec<String>, Option<String>, Vec<u8>)> = Vec::new();
        let (mut flags, mut date) = (Vec::new(), None);
        for value in arguments.get(1..).unwrap_or_default() {
            match value {
                Value::List(_) if flags.is_empty() && date.is_none() => flags = value.words(),
                Value::Text(_) if date.is_none() => date = Some(value.text()),
                Value::Literal(bytes) => {
                    messages.push((std::mem::take(&mut flags), date.take(), bytes.clone()));
                }
                _ => return Err("BAD that is no message".to_owned()),
            }
        }
        if !flags.is_empty() || date.is_some() {
            return Err("BAD something is behind the message".to_owned());
        }
        if messages.is_empty() || messages.len() > 1 && !self.shared.offers("MULTIAPPEND") {
            return Err("BAD that is no message".to_owned());
        }
        if messages.iter().any(|(_, _, bytes)| bytes.is_empty()) {
            return Err("NO the message is empty".to_owned());
        }
        let mut store = self.shared.store();
        let Some(folder) = store.find(argument(arguments, 0)).filter(|folder| folder.can_be_opened()) else {
            return Err("NO [TRYCREATE] no such folder".to_owned());
        };
        let mut uids = Vec::new();
        for (flags, date, bytes) in messages {
            let date = date.unwrap_or_else(|| "01-Jan-2026 00:00:00 +0000".to_owned());
            uids.push(folder.receive(flags, date, bytes));
        }
        let ending = if self.shared.offers("UIDPLUS") {
            format!("[APPENDUID {} {}] stored", folder.uidvalidity, set_of(&uids))
        } else {
            "stored".to_owned()
        };
        Ok(Said { untagged: Vec::new(), ending })
    }
}

impl Folder {
    pub(super) fn can_be_opened(&self) -> bool {
        let closes = |word: &str| self.attributes.iter().any(|it| it.eq_ignore_ascii_case(word));
        !closes("\\Noselect") && !closes("\\NonExistent")
    }

    /// The messages removed after a change, among these UIDs.
    pub(super) fn vanished_since(&self, since: u64, among: Option<&str>) -> Option<Vec<u8>> {
        let is_asked = |uid: u32| among.is_none_or(|set| in_set(set, uid, u32::MAX));
        let gone = self.vanished.iter().filter(|(uid, modseq)| *modseq > since && is_asked(*uid));
        let mut gone: Vec<u32> = gone.map(|(uid, _)| *uid).collect();
        gone.sort_unstable();
        (!gone.is_empty()).then(|| format!("* VANISHED (EARLIER) {}", set_of(&gone)).into_bytes())
    }

    /// The flags of what changed after a change.
    pub(super) fn changed_since(&self, since: u64) -> Vec<Vec<u8>> {
        let changed = (1..).zip(&self.letters).filter(|(_, letter)| letter.modseq > since);
        changed.map(|(number, letter)| fetched(number, letter, &["FLAGS".to_owned()], true, true)).collect()
    }
}

impl Letter {
    pub(super) fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|it| it.eq_ignore_ascii_case(flag))
    }
}

/// The meaning of `*`.
fn most_of(by_uid: bool, known: &[u32]) -> u32 {
    if by_uid { known.last().copied().unwrap_or(0) } else { u32::try_from(known.len()).expect("a number") }
}

/// One FETCH response without its line end.
fn fetched(number: u32, letter: &Letter, items: &[String], by_uid: bool, with_modseq: bool) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    if by_uid || items.iter().any(|item| item.eq_ignore_ascii_case("UID")) {
        parts.push(format!("UID {}", letter.uid).into_bytes());
    }
    for item in items {
        let item = item.to_ascii_uppercase();
        let part = match item.as_str() {
            "FLAGS" => format!("FLAGS ({})", letter.flags.join(" ")),
            "INTERNALDATE" => format!("INTERNALDATE \"{}\"", letter.date),
            "RFC822.SIZE" => format!("RFC822.SIZE {}", letter.bytes.len()),
            "MODSEQ" if !with_modseq => format!("MODSEQ ({})", letter.modseq),
            _ => {
                parts.extend(section(&item, &letter.bytes));
                continue;
            }
        };
        parts.push(part.into_bytes());
    }
    if with_modseq {
        parts.push(format!("MODSEQ ({})", letter.modseq).into_bytes());
    }
    [format!("* {number} FETCH (").as_bytes(), &parts.join(&b' '), b")"].concat()
}

/// A part of a message as a literal: all, its head, or some fields of it.
fn section(item: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let name = item.strip_prefix("BODY.PEEK[").or_else(|| item.strip_prefix("BODY["))?;
    let (name, partial) = name.split_once(']')?;
    let end = memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let content = match name.split(' ').next()? {
        "" => bytes.to_vec(),
        "TEXT" => bytes[end..].to_vec(),
        "HEADER" => bytes[..end].to_vec(),
        "HEADER.FIELDS" => fields(name, &bytes[..end]),
        _ => return None,
    };
    let range = partial.strip_prefix('<').and_then(|range| range.strip_suffix('>'));
    let (content, origin) = match range.and_then(|range| range.split_once('.')) {
        Some((from, most)) => {
            let from: usize = from.parse().ok()?;
            let rest = content.get(from..).unwrap_or_default();
            (rest[..rest.len().min(most.parse().ok()?)].to_vec(), format!("<{from}>"))
        }
        None => (content, String::new()),
    };
    let head = format!("BODY[{name}]{origin} {{{}}}\r\n", content.len());
    Some([head.as_bytes(), &content].concat())
}

fn fields(name: &str, head: &[u8]) -> Vec<u8> {
    let wanted: Vec<&str> = name.split(['(', ')', ' ']).skip(1).filter(|word| !word.is_empty()).collect();
    let (mut out, mut takes) = (Vec::new(), false);
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let field = line.split(|&byte| byte == b':').next().unwrap_or_default();
            takes = wanted.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(field));
        }
        if takes {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Whether a message fits all of these search keys; `None` where one is not known.
fn fits(letter: &Letter, number: u32, (most_uid, most): (u32, u32), keys: &[Value]) -> Option<bool> {
    let mut keys = keys.iter();
    let mut fits_all = true;
    while let Some(key) = keys.next() {
        let word = key.text().to_ascii_uppercase();
        let flag = |flag: &str| letter.has_flag(flag);
        fits_all &= match word.as_str() {
            "ALL" => true,
            "UID" => in_set(&keys.next()?.text(), letter.uid, most_uid),
            "SEEN" => flag("\\Seen"),
            "UNSEEN" => !flag("\\Seen"),
            "DELETED" => flag("\\Deleted"),
            "UNDELETED" => !flag("\\Deleted"),
            "MODSEQ" => letter.modseq >= keys.next()?.text().parse().ok()?,
            "HEADER" => {
                let (field, value) = (keys.next()?.text(), keys.next()?.text());
                let found = fields(&format!("({field})"), &letter.bytes);
                String::from_utf8_lossy(&found).to_lowercase().contains(&value.to_lowercase())
            }
            set if set.starts_with(|c: char| c.is_ascii_digit() || c == '*') => in_set(set, number, most),
            _ => return None,
        };
    }
    Some(fits_all)
}
