//! Ledgers that the last builds with formats 1 and 2 really wrote, in the middle of a migration that was killed: today's build
//! opens them, and all in them means what it meant. How they were made is told in `tests/golden/ledger-1/README.md` and
//! `tests/golden/ledger-2/README.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use mailferry::ledger::postgres::PostgresStore;
use mailferry::ledger::sqlite::SqliteStore;
use mailferry::ledger::{Ledger, Refused, Row, Store};
use mailferry::model::folder::FolderPath;
use mailferry::model::identity::Digest;
use mailferry::model::message::{Epoch, Locator};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::ledger::options;
use crate::support::postgres::{Postgres, USER};

pub(crate) const SCOPE: &str = "test/move";
/// The mailboxes of the migration: the first is read by IMAP, the other by POP3.
pub(crate) const MAILBOXES: [&str; 2] = ["anna", "paul"];

/// A kill's leavings, in a directory of one's own: `state`, the mail of both servers, and `ledger.sql` where the ledgers
/// were in a database.
pub(crate) struct Golden {
    /// The format that they were written in.
    pub(crate) of: i64,
    directory: TempDir,
    database: Option<(Arc<Postgres>, String)>,
}

/// The format of today.
pub(crate) const TODAY: i64 = 3;

fn kept(of: i64, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/ledger-{of}")).join(name)
}

impl Golden {
    /// The ledgers in files.
    pub(crate) fn sqlite(of: i64) -> Self {
        Self { of, directory: unpack(of, "sqlite"), database: None }
    }

    /// The ledgers in a database, which belong to the user that Mailferry logs in as.
    pub(crate) fn postgres(of: i64) -> Self {
        let postgres = Postgres::shared();
        let database = postgres.database();
        let dump = fs::read_to_string(kept(of, "postgres/ledger.sql")).unwrap();
        postgres.sql(&database, &format!("SET ROLE {USER}; {dump}"));
        Self { of, directory: unpack(of, "postgres"), database: Some((postgres, database)) }
    }

    /// Those of all older formats, in files and in databases.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (1..TODAY).flat_map(|of| [Self::sqlite(of), Self::postgres(of)])
    }

    /// The same once more, as it was.
    pub(crate) fn again(&self) -> Self {
        if self.database.is_some() { Self::postgres(self.of) } else { Self::sqlite(self.of) }
    }

    fn name(&self) -> &'static str {
        if self.database.is_some() { "postgres" } else { "sqlite" }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn database(&self) -> Option<&(Arc<Postgres>, String)> {
        self.database.as_ref()
    }

    /// The name of a mailbox's ledger.
    pub(crate) fn key(mailbox: &str) -> String {
        let names = fs::read_to_string(kept(1, "keys.txt")).unwrap();
        let key = names.lines().find(|key| key.starts_with(&format!("move-{mailbox}-")));
        key.unwrap().to_owned()
    }

    /// The file of a mailbox's ledger.
    pub(crate) fn file(&self, mailbox: &str) -> PathBuf {
        self.path("state/test/move/mailboxes").join(format!("{}.sqlite", Self::key(mailbox)))
    }

    pub(crate) async fn store(&self) -> Box<dyn Store> {
        match &self.database {
            None => Box::new(SqliteStore::new(
                self.path("state/test/move/mailboxes"),
                self.path("state/logins.sqlite"),
            )),
            Some((postgres, database)) => {
                Box::new(PostgresStore::open(options(postgres, database), SCOPE).await.unwrap())
            }
        }
    }

    pub(crate) async fn claim(&self, mailbox: &str) -> Box<dyn Ledger> {
        self.store().await.claim(&Self::key(mailbox)).await.unwrap()
    }

    /// The format that is written there now.
    pub(crate) fn format(&self, mailbox: &str) -> i64 {
        match &self.database {
            None => open(&self.file(mailbox)).query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap(),
            Some((postgres, database)) => {
                postgres.sql(database, "SELECT version FROM mailferry.format").parse().unwrap()
            }
        }
    }

    /// Changes something by hand. `{}` comes before the name of each table; in a database it concerns all ledgers.
    pub(crate) fn change(&self, mailbox: &str, sql: &str) {
        match &self.database {
            None => open(&self.file(mailbox)).execute_batch(&sql.replace("{}", "")).unwrap(),
            Some((postgres, database)) => drop(postgres.sql(database, &sql.replace("{}", "mailferry."))),
        }
    }

    /// The report of messages that the build which was killed made afterwards.
    pub(crate) fn report(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(kept(self.of, &format!("{}/report.json", self.name()))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// All that the ledger of a mailbox held when it was made, read without any code of ours: line by line, columns parted
    /// by `|`.
    pub(crate) fn told(&self, mailbox: &str) -> Vec<String> {
        let text = fs::read_to_string(kept(self.of, &format!("{}/told.txt", self.name()))).unwrap();
        let lines = text.lines().map(str::to_owned);
        let begun = lines.skip_while(|line| *line != format!("{mailbox}: messages"));
        begun.take_while(|line| line.starts_with(mailbox) || line.starts_with(' ')).collect()
    }

    /// The rows of one part of what was told.
    pub(crate) fn told_of(&self, mailbox: &str, part: &str) -> Vec<Vec<String>> {
        let told = self.told(mailbox);
        let rows = told.iter().skip_while(|line| **line != format!("{mailbox}: {part}")).skip(1);
        let rows = rows.map_while(|line| line.strip_prefix("  "));
        rows.map(|row| row.split('|').map(str::to_owned).collect()).collect()
    }
}

fn unpack(of: i64, name: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(kept(of, &format!("{name}/left.tar.gz"))).arg("-C").arg(directory.path());
    assert!(tar.status().unwrap().success(), "{tar:?}");
    directory
}

fn open(file: &Path) -> Connection {
    Connection::open(file).unwrap()
}

fn json(path: &FolderPath) -> String {
    serde_json::to_string(path.names()).unwrap()
}

fn path(json: &str) -> FolderPath {
    FolderPath::new(serde_json::from_str::<Vec<String>>(json).unwrap())
}

fn hex(digest: Digest) -> String {
    blake3::Hash::from_bytes(digest.0).to_hex().to_string()
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A row as `told.txt` of a format has it.
fn line_of(row: &Row, of: i64) -> String {
    let Locator { protocol, folder, epoch, id } = &row.locator;
    assert!(!row.locator.is_unlisted(), "format 1 has none: {row:?}");
    let uidvalidity = epoch.number().unwrap_or(0);
    let known = row.known.as_ref();
    let there = row.destination.as_ref();
    let mut columns = vec![
        protocol.to_string(),
        json(folder),
        uidvalidity.to_string(),
        id.uid().unwrap_or(0).to_string(),
        id.text().unwrap_or_default().to_owned(),
        row.size.to_string(),
        optional(row.date.map(|date| date.unix)),
        optional(row.date.map(|date| date.offset_minutes)),
        row.flags.to_string(),
        optional(known.map(|known| hex(known.exact))),
        optional(known.map(|known| hex(known.canonical))),
        optional(known.and_then(|known| known.message_id.as_ref())),
        optional(known.and_then(|known| known.subject.as_ref())),
        optional(there.map(|(folder, _)| json(folder))),
        optional(there.map(|(_, arrival)| &arrival.epoch)),
        optional(there.and_then(|(_, arrival)| arrival.id.uid())),
        row.verdict.word().to_owned(),
        optional(row.verdict.reason()),
        u8::from(row.gone).to_string(),
    ];
    assert_eq!(row.stored, None, "nobody noted what was stored: {row:?}");
    if of == 1 {
        assert_eq!((row.refused, row.attempts, row.announced), (Refused::default(), 0, None), "{row:?}");
    } else {
        columns.extend([
            optional(row.refused.code),
            optional(row.refused.limit),
            row.attempts.to_string(),
            optional(row.announced),
        ]);
    }
    columns.join("|")
}

/// All that today's build says of a ledger, in the words of `told.txt`.
pub(crate) async fn tell(golden: &Golden, mailbox: &str, ledger: &dyn Ledger) -> Vec<String> {
    let mut text = format!("{mailbox}: messages\n");
    for row in ledger.page(0, 1_000).await.unwrap() {
        let _ = writeln!(text, "  {}", line_of(&row, golden.of));
    }
    let _ = writeln!(text, "{mailbox}: intents");
    let intents = ledger.open_intents().await.unwrap();
    for intent in &intents {
        let (folder, messages) = (json(&intent.folder), intent.rows.len());
        let source = if golden.of == 1 { String::new() } else { format!("|{}", json(&intent.source)) };
        let next = intent.mark.as_str();
        let next = if next.is_empty() { "1" } else { next };
        let _ = writeln!(text, "  {folder}|{}|{next}|{messages}{source}", intent.epoch);
    }
    let _ = writeln!(text, "{mailbox}: in doubt");
    for intent in &intents {
        for row in ledger.rows_of(&intent.rows).await.unwrap() {
            let (folder, uid) = (row.locator.folder, row.locator.id.uid().unwrap_or(0));
            assert_eq!(intent.source, folder, "format 1 did not keep whose messages they are");
            let subject = optional(row.known.and_then(|known| known.subject));
            let _ = writeln!(text, "  {subject}|{}|{uid}", json(&folder));
        }
    }
    let _ = writeln!(text, "{mailbox}: cursors");
    let mut cursors: Vec<_> = ledger.cursors().await.unwrap().into_iter().collect();
    cursors.sort_by_key(|(folder, _)| json(folder));
    for (folder, cursor) in &cursors {
        // Formats before this one kept the numbers of IMAP apart.
        let (next, modseq) = cursor.mark.as_str().split_once(' ').unwrap_or((cursor.mark.as_str(), ""));
        let (next, modseq) = (next.parse::<u32>().ok(), modseq.parse::<u64>().ok());
        assert_eq!(cursor.proves, modseq.is_some(), "{folder:?}");
        let scanned = cursor.destination_mark.as_str();
        let went = if golden.of == 1 { String::new() } else { format!("|{}", json(&cursor.destination)) };
        let _ = writeln!(
            text,
            "  {}|{}|{}|{}|{}|{}|{}{went}",
            json(folder),
            cursor.epoch.number().unwrap_or(0),
            optional(next),
            optional(cursor.items),
            optional(modseq),
            cursor.destination_epoch.number().unwrap_or(0),
            if scanned.is_empty() { "1" } else { scanned },
        );
        if golden.of > 1 {
            continue;
        }
        // Format 1 did not keep where a folder went; where nothing went nobody knows, and the next pass looks.
        let arrived = ledger.rows(folder).await.unwrap().into_iter().filter_map(|row| row.destination).last();
        assert_eq!(cursor.destination, arrived.map(|(there, _)| there).unwrap_or_default(), "{folder:?}");
    }
    let _ = writeln!(text, "{mailbox}: foreign");
    let mut places: Vec<_> =
        golden.told_of(mailbox, "foreign").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    places.dedup();
    for (folder, uidvalidity) in places {
        for found in ledger.foreign(&path(&folder), &Epoch::from(uidvalidity.as_str())).await.unwrap() {
            let (exact, canonical) = (hex(found.known.exact), hex(found.known.canonical));
            let id = optional(found.known.message_id);
            let _ =
                writeln!(text, "  {folder}|{uidvalidity}|{}|{exact}|{canonical}|{id}", found.id.in_figures());
        }
    }
    let _ = writeln!(text, "{mailbox}: facts");
    for fact in golden.told_of(mailbox, "facts") {
        let _ = writeln!(text, "  {}|{}", fact[0], optional(ledger.fact(&fact[0]).await.unwrap()));
    }
    text.lines().map(str::to_owned).collect()
}

/// Everything in both ledgers is what it was.
pub(crate) async fn assert_as_told(golden: &Golden) {
    for mailbox in MAILBOXES {
        let ledger = golden.claim(mailbox).await;
        assert_eq!(tell(golden, mailbox, &*ledger).await, golden.told(mailbox));
        assert_eq!(golden.format(mailbox), TODAY);
    }
}
