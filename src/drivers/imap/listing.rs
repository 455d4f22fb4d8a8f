//! Lists of the open folder: whole, page by page, or only what changed. The server's own count of the folder is held against
//! what it listed, so that a message which it counts and does not list is not lost without a word.

use std::collections::BTreeSet;

use super::command::Ask;
use super::folders::{Parts, Row, check_count, list_messages_command, read_code, read_opened, select_rows};
use super::numbers::Numbers;
use super::session::{Session, split_numbered, split_word};
use super::tokens::{StatusText, Value, read_fetch, read_number_set, write_number_set};
use crate::drivers::Since;
use crate::model::failure::Result;
use crate::model::message::{Flags, ItemId};

/// Extensions by which changes are asked for.
pub const CHANGEDSINCE: &str = "CHANGEDSINCE";
const SEARCH: &str = "SEARCH";
const ESEARCH: &str = "ESEARCH";
/// Messages of one page. With a hundred bytes a line this is a megabyte of the server's words.
pub const PAGE: u32 = 10_000;
/// The most messages that one search may bring.
const FOUND_MAX: usize = 20_000_000;
/// Messages that are asked for in one command because a list said too little of them.
const LACKING_AT_ONCE: usize = 500;
/// How often a server is asked for what it counts and did not list.
const ASKED_AGAIN_MAX: u32 = 2;

/// How far the list of an open folder has come.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// How many messages the server counts now, where it told.
    exists: Option<u32>,
    uidnext: Option<u32>,
    /// Messages listed so far.
    listed: u32,
}

impl Progress {
    /// The list of a folder that was just opened.
    pub fn of(state: &Numbers) -> Self {
        Self { exists: state.messages, uidnext: state.uidnext, listed: 0 }
    }

    /// Hears what the server says of the folder while something else is asked (RFC 9051 §7.3, RFC 7162 §3.2.10).
    fn hear(&mut self, line: &[u8]) {
        if let Some((number, word, _)) = split_numbered(line) {
            if word.eq_ignore_ascii_case(b"EXISTS") {
                self.exists = Some(number);
            } else if word.eq_ignore_ascii_case(b"EXPUNGE") {
                self.exists = self.exists.map(|exists| exists.saturating_sub(1));
            }
            return;
        }
        let (word, rest) = split_word(line);
        if word.eq_ignore_ascii_case(b"VANISHED") && !rest.starts_with(b"(") {
            let gone = std::str::from_utf8(rest).ok().and_then(|set| read_number_set(set, FOUND_MAX));
            let gone = u32::try_from(gone.map_or(0, |gone| gone.len())).unwrap_or(u32::MAX);
            self.exists = self.exists.map(|exists| exists.saturating_sub(gone));
        }
    }

    /// Messages that were listed so far.
    pub fn listed(&self) -> u32 {
        self.listed
    }

    /// Messages that the server counts and has not listed.
    fn left(&self) -> u32 {
        self.exists.map_or(0, |exists| exists.saturating_sub(self.listed))
    }

    /// The last UID of a page that begins with `from`, so that about [`PAGE`] messages are on it; `None` where the rest of
    /// the folder fits.
    fn end_of_page(&self, from: u32) -> Option<u32> {
        let left = self.left();
        let uidnext = self.uidnext.filter(|next| *next > from.saturating_add(1))?;
        if self.exists.is_none() || left <= PAGE {
            return None;
        }
        let span = u64::from(uidnext.saturating_sub(from));
        let width = (span.saturating_mul(u64::from(PAGE)) / u64::from(left)).max(u64::from(PAGE));
        let to = u32::try_from(u64::from(from).saturating_add(width).saturating_sub(1)).ok()?;
        (to < uidnext.saturating_sub(1)).then_some(to)
    }
}

/// A part of a folder's list.
#[derive(Debug)]
pub struct Page {
    /// Messages in the order of their UIDs, each once.
    pub rows: Vec<Row>,
    /// Whether the list ends here.
    pub complete: bool,
    /// With its end: messages that the server counts beyond those that it listed.
    pub unlisted: u64,
}

/// Lists a page of the open folder, from a UID on.
///
/// # Errors
/// Those of the session.
pub async fn list_page(session: &mut Session, progress: &mut Progress, from: u32) -> Result<Page> {
    if progress.exists == Some(0) {
        return Ok(Page { rows: Vec::new(), complete: true, unlisted: 0 });
    }
    let mut from = from.max(1);
    loop {
        let to = progress.end_of_page(from);
        let rows = list_range(session, progress, from, to).await?;
        progress.listed = progress.listed.saturating_add(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        match to {
            // A stretch of UIDs without a message.
            Some(to) if rows.is_empty() => from = to.saturating_add(1),
            Some(_) => return Ok(Page { rows, complete: false, unlisted: 0 }),
            None => return end_list(session, progress, rows, from).await,
        }
    }
}

/// Ends a list: what the server counts beyond it may have come meanwhile, so it is asked for once more.
pub async fn end_list(
    session: &mut Session,
    progress: &mut Progress,
    mut rows: Vec<Row>,
    from: u32,
) -> Result<Page> {
    for _ in 0..ASKED_AGAIN_MAX {
        if progress.left() == 0 {
            break;
        }
        let next = rows.last().map_or(from, |row| row.uid.saturating_add(1));
        let more = list_range(session, progress, next, None).await?;
        if more.is_empty() {
            break;
        }
        progress.listed = progress.listed.saturating_add(u32::try_from(more.len()).unwrap_or(u32::MAX));
        rows.extend(more);
    }
    Ok(Page { rows, complete: true, unlisted: progress.left().into() })
}

/// Counts what the first flight of a folder listed, and completes it.
///
/// # Errors
/// Those of the session.
pub async fn begin_list(
    session: &mut Session,
    progress: &mut Progress,
    rows: Vec<Row>,
    parts: Parts,
) -> Result<Vec<Row>> {
    let rows = complete(session, distinct(rows, 1), parts, 1, None).await?;
    progress.listed = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    Ok(rows)
}

/// Asks once for what a list did not say of messages that it did name, flags and sizes apart, so that one that cannot be told
/// does not hide the other. Then they are listed with what is known.
async fn complete(
    session: &mut Session,
    mut rows: Vec<Row>,
    mut parts: Parts,
    from: u32,
    to: Option<u32>,
) -> Result<Vec<Row>> {
    if parts.is_empty() {
        return Ok(rows);
    }
    let known: BTreeSet<u32> = rows.iter().map(|row| row.uid).collect();
    let lacking = parts.lacking(from, to, &known);
    for some in lacking.chunks(LACKING_AT_ONCE) {
        let set = write_number_set(some);
        let asks = ["(UID RFC822.SIZE)", "(UID FLAGS INTERNALDATE)"]
            .map(|attributes| Ask::new(format!("UID FETCH {set} {attributes}")));
        // That one of them is refused is an answer too.
        session
            .ask_all(&asks, |_, line| {
                rows.extend(parts.hear(line));
                Ok(())
            })
            .await?;
    }
    let lacking: BTreeSet<u32> = parts.lacking(from, to, &known).into_iter().collect();
    rows.extend(parts.into_rows().filter(|row| lacking.contains(&row.uid)));
    rows.retain(|row| to.is_none_or(|to| row.uid <= to));
    Ok(distinct(rows, from))
}

/// Rows in the order of their UIDs, each UID once, and none without one: UID 0 names no message (RFC 9051 §2.3.1.1).
fn distinct(rows: Vec<Row>, from: u32) -> Vec<Row> {
    select_rows(rows, from.max(1))
}

/// Lists a range of UIDs. A server may answer for a part of it, from the top down, and say how far it came (MESSAGELIMIT,
/// RFC 9738 §3.1): then the rest is asked for.
async fn list_range(
    session: &mut Session,
    progress: &mut Progress,
    from: u32,
    to: Option<u32>,
) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut parts = Parts::default();
    let mut upto = to;
    loop {
        let list = list_messages_command(session, from, upto);
        let listed = session
            .run(&list, |line| {
                progress.hear(line);
                rows.extend(parts.hear(line));
                check_count(rows.len())
            })
            .await;
        let said = match listed {
            Ok(said) => said,
            // There is nothing that the range could name, and some servers say so with a NO.
            Err(failure) if failure.leaves_the_session() && progress.left() == 0 && rows.is_empty() => {
                return Ok(rows);
            }
            Err(failure) => return Err(failure),
        };
        match lowest_processed(&said).filter(|lowest| *lowest > from) {
            Some(lowest) if upto.is_none_or(|upto| lowest <= upto) => upto = Some(lowest.saturating_sub(1)),
            _ => return complete(session, distinct(rows, from), parts, from, to).await,
        }
    }
}

/// The lowest UID that a command came to before the server's limit ended it.
pub fn lowest_processed(said: &StatusText) -> Option<u32> {
    if said.code != "MESSAGELIMIT" {
        return None;
    }
    said.arguments.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The changes in a folder since a point.
#[derive(Debug)]
pub struct Changed {
    /// Messages that came.
    pub fresh: Vec<Row>,
    /// Messages whose flags may be others.
    pub flags: Vec<(u32, Flags)>,
    /// Those of them that were told with their dates and sizes.
    pub known: Vec<Row>,
    /// The UIDs of all messages that are there, where some went.
    pub present: Option<Vec<u32>>,
}

/// Opens a folder for reading and asks for what changed since a UIDNEXT and a modseq, in one flight (CONDSTORE, RFC 7162
/// §3.1.4), and where the counts show that messages went, for what is still there. The state comes back beside it; `None`
/// where the answers do not add up to what the server says it holds.
///
/// # Errors
/// Those of the session and of opening the folder.
pub async fn open_changed(
    session: &mut Session,
    open: Ask,
    from: (u32, u64),
    since: &Since,
) -> Result<(Numbers, Option<Changed>)> {
    let mut asks = vec![open];
    let (uidnext, modseq) = from;
    let last = uidnext.saturating_sub(1);
    if last > 0 {
        // Dates and sizes show whether a UID still names the message that it named.
        let attributes = "(UID FLAGS INTERNALDATE RFC822.SIZE)";
        let changed = format!("UID FETCH 1:{last} {attributes} (CHANGEDSINCE {modseq})");
        // Where it is refused, or the session ends at it, the whole folder is listed.
        asks.push(Ask::new(changed).or_without(CHANGEDSINCE, "NOOP").following());
    }
    let sample: Vec<u32> = since.sample.iter().filter_map(ItemId::uid).collect();
    if !sample.is_empty() {
        // The modseq of a server that numbers its messages anew need not show it.
        let sample = write_number_set(&sample);
        asks.push(Ask::new(format!("UID FETCH {sample} (UID FLAGS INTERNALDATE RFC822.SIZE)")).following());
    }
    asks.push(Ask::new(list_messages_command(session, uidnext, None)).following());
    let mut state = Numbers::default();
    let mut progress = Progress::default();
    let (mut fresh, mut flags, mut known) = (Vec::new(), Vec::new(), Vec::new());
    let mut parts = Parts::default();
    // Whether something was said that cannot be read: it may be what changed.
    let mut odd = false;
    let passed_over = session.passed_over;
    let ended = session.ask_all(&asks, |at, line| {
        if at == 0 {
            read_opened(line, &mut state);
            return Ok(());
        }
        progress.hear(line);
        // A server may carry out both lists at once (Dovecot does), so each line is taken by its content.
        match parts.hear(line) {
            Some(row) if row.uid >= uidnext => fresh.push(row),
            listed => {
                known.extend(listed);
                match read_flags(line) {
                    Some((uid, told)) => flags.extend((uid < uidnext).then_some((uid, told))),
                    None => odd |= is_fetch(line),
                }
            }
        }
        check_count(fresh.len().max(flags.len()))
    });
    let mut ended = ended.await?.into_iter();
    if let Some(opened) = ended.next() {
        read_code(&opened?, &mut state);
    }
    // Where it went back, the server forgot what it numbered, and its UIDs may name other messages.
    let same = state.epoch == since.epoch
        && state.highest_modseq.is_some_and(|now| now >= modseq)
        && state.uidnext.is_none_or(|next| next >= uidnext);
    // A folder that grew beyond what one answer holds is listed page by page.
    let limited =
        |said: &Result<StatusText>| said.as_ref().map_or(true, |said| lowest_processed(said).is_some());
    if !same
        || odd
        || passed_over != session.passed_over
        || session.fails_at(CHANGEDSINCE)
        || ended.any(|said| limited(&said))
    {
        return Ok((state, None));
    }
    let fresh = distinct(fresh, uidnext);
    // A new message of which too little is said is listed with the others.
    let known_fresh = fresh.iter().map(|row| row.uid).collect();
    if !parts.lacking(uidnext, None, &known_fresh).is_empty() {
        return Ok((state, None));
    }
    let Some(exists) = progress.exists.or(state.messages) else { return Ok((state, None)) };
    // UIDs that were given and are not listed may be those of messages that are gone again, or that were not shown.
    let next = fresh.last().map_or(uidnext, |row| row.uid.saturating_add(1));
    let told_all = state.uidnext.is_none_or(|told| told == next);
    let shown: BTreeSet<u32> = known.iter().map(|row| row.uid).collect();
    let told_all = told_all && sample.iter().all(|uid| shown.contains(uid));
    if told_all && u64::from(exists) == since.known + fresh.len() as u64 {
        return Ok((state, Some(Changed { fresh, flags, known, present: None })));
    }
    let Some(present) = search_all(session).await? else { return Ok((state, None)) };
    // A later arrival would not be among what came.
    let whole = present.len() == exists as usize
        && present.last().copied().unwrap_or(0) <= fresh.last().map_or(last, |row| row.uid);
    let changed = whole.then_some(Changed { fresh, flags, known, present: Some(present) });
    Ok((state, changed))
}

fn is_fetch(line: &[u8]) -> bool {
    split_numbered(line).is_some_and(|(_, word, _)| word.eq_ignore_ascii_case(b"FETCH"))
}

/// The UID and the flags in a FETCH response; `None` for other responses, and for one that cannot be read.
fn read_flags(line: &[u8]) -> Option<(u32, Flags)> {
    let (_, _, rest) = split_numbered(line).filter(|_| is_fetch(line))?;
    let (mut uid, mut flags) = (None, None);
    for (name, value) in read_fetch(rest).ok()? {
        match name.as_str() {
            "UID" => uid = value.number::<u32>(),
            "FLAGS" => flags = value.list().map(|list| list.iter().filter_map(Value::text).collect()),
            _ => {}
        }
    }
    uid.zip(flags)
}

/// The UIDs of all messages of the open folder, ascending: as ranges where the server can (ESEARCH, RFC 4731). `None` where it
/// refuses: the folder's list tells as well.
async fn search_all(session: &mut Session) -> Result<Option<Vec<u32>>> {
    const PLAINLY: &str = "UID SEARCH ALL";
    if session.fails_at(SEARCH) {
        return Ok(None);
    }
    let brief = session.offers(ESEARCH);
    let ask = if brief {
        Ask::new("UID SEARCH RETURN (ALL) ALL").or_without(ESEARCH, PLAINLY)
    } else {
        Ask::new(PLAINLY).or_without(SEARCH, "NOOP")
    };
    let mut found: Vec<u32> = Vec::new();
    let searched = session
        .ask(ask, |line| {
            let (word, rest) = split_word(line);
            let text = std::str::from_utf8(rest).unwrap_or_default();
            if word.eq_ignore_ascii_case(b"SEARCH") {
                found.extend(text.split_ascii_whitespace().filter_map(|uid| uid.parse::<u32>().ok()));
            } else if word.eq_ignore_ascii_case(b"ESEARCH") {
                let mut words = text.split_ascii_whitespace();
                let set = words.by_ref().find(|word| word.eq_ignore_ascii_case("ALL")).and(words.next());
                found.extend(set.and_then(|set| read_number_set(set, FOUND_MAX)).unwrap_or_default());
            }
            check_count(found.len())
        })
        .await;
    match searched {
        Ok(_) if session.fails_at(SEARCH) => Ok(None),
        Ok(_) => {
            found.sort_unstable();
            found.dedup();
            Ok(Some(found))
        }
        Err(failure) if failure.leaves_the_session() => Ok(None),
        Err(failure) => {
            // The plain form need not cost two more sessions.
            if brief {
                session.suspect(SEARCH);
            }
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_wide_as_the_uids_are_sparse() {
        let progress =
            |exists, uidnext, listed| Progress { exists: Some(exists), uidnext: Some(uidnext), listed };
        assert_eq!(progress(10_000, 20_000, 0).end_of_page(1), None, "it fits on one page");
        assert_eq!(progress(20_000, 20_001, 0).end_of_page(1), Some(10_000));
        assert_eq!(progress(20_000, 20_001, 10_000).end_of_page(10_001), None);
        assert_eq!(progress(20_000, 4_000_000_001, 0).end_of_page(1), Some(2_000_000_000));
        assert_eq!(Progress { exists: Some(50_000), uidnext: None, listed: 0 }.end_of_page(1), None);
        assert_eq!(Progress::default().end_of_page(1), None);
    }

    #[test]
    fn the_count_follows_what_the_server_says_meanwhile() {
        let mut progress = Progress { exists: Some(5), uidnext: None, listed: 5 };
        for (line, left) in
            [("7 EXISTS", 2), ("1 EXPUNGE", 1), ("VANISHED 3:4", 0), ("VANISHED (EARLIER) 1:9", 0)]
        {
            progress.hear(line.as_bytes());
            assert_eq!(progress.left(), left, "{line}");
        }
    }

    #[test]
    fn a_limit_of_the_server_names_the_lowest_uid_that_it_came_to() {
        let said = StatusText::parse(b"[MESSAGELIMIT 3 6] FETCH completed with 3 partial results");
        assert_eq!(lowest_processed(&said), Some(6));
        assert_eq!(lowest_processed(&StatusText::parse(b"[MESSAGELIMIT 3] x")), None);
        assert_eq!(lowest_processed(&StatusText::parse(b"done")), None);
    }
}
