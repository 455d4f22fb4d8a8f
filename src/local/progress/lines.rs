//! Lines for a log or a program: each change at once, work that goes on every 10 s.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::Display;
use super::tally::Tally;
use super::words::{
    bytes, domain_words, ended_words, finding_words, left, messages, rate, step_words, verified_words,
    waiting_words,
};
use crate::api::MailMigration;
use crate::discovery::{Clock, Step};
use crate::local::clock::SystemClock;
use crate::local::terminal::tell;
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::record::MailboxRecord;
use crate::plan::Decision;
use crate::transfer::progress::{MailboxProgress, Reading};

/// How often lines report work that goes on.
const EVERY: Duration = Duration::from_secs(10);

type WriteLine = fn(subject: &str, words: &str, facts: Value);

/// The lines and what they tell.
pub(super) struct Lines {
    write: WriteLine,
    tally: Tally,
    phase: Mutex<String>,
    findings_told: Mutex<bool>,
}

/// One plain line with the time.
pub(super) fn write_plain(subject: &str, words: &str, _: Value) {
    let time = SystemClock.now().to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
    tell(&format!("{time}  {subject:28}  {words}\n"));
}

/// One JSON object with the time.
pub(super) fn write_json(subject: &str, words: &str, mut facts: Value) {
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("time".to_owned(), json!(SystemClock.now()));
        facts.insert("subject".to_owned(), json!(subject));
        facts.insert("message".to_owned(), json!(words));
    }
    tell(&format!("{facts}\n"));
}

impl Lines {
    pub(super) fn start(write: WriteLine) -> Arc<dyn Display> {
        let lines = Arc::new(Self {
            write,
            tally: Tally::default(),
            phase: Mutex::default(),
            findings_told: Mutex::default(),
        });
        let watched = Arc::downgrade(&lines);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(lines) = watched.upgrade() else { return };
                lines.tell_progress();
            }
        });
        lines
    }

    fn tell_progress(&self) {
        let under_way = self.tally.under_way();
        for (mailbox, reading, elapsed) in &under_way {
            let words = format!("{}  {}", reading.place.as_str(), how_far(reading, *elapsed));
            (self.write)(&mailbox.to_string(), &words, facts("progress", reading));
        }
        if !under_way.is_empty() {
            let sums = self.tally.sums();
            let words = format!(
                "{}/{} mailboxes through  {}",
                sums.through,
                sums.mailboxes,
                how_far(&sums.reading, sums.elapsed)
            );
            (self.write)("all", &words, facts("total", &sums.reading));
        }
    }
}

fn how_far(reading: &Reading, elapsed: Duration) -> String {
    let left = left(reading, elapsed).map_or_else(String::new, |left| format!("  {left}"));
    format!("{} messages  {}  {}{left}", messages(reading), bytes(reading), rate(reading, elapsed))
}

fn facts(event: &str, reading: &Reading) -> Value {
    json!({
        "event": event, "messages": reading.done, "messagesExpected": reading.expected,
        "bytes": reading.bytes, "bytesExpected": reading.bytes_expected, "place": reading.place.as_str(),
    })
}

impl Display for Lines {
    fn discovering(&self, domain: &str, step: &Step) {
        // Each single login would be a line of its own.
        if !matches!(step, Step::Logins { done, total } if *done > 0 && done < total) {
            (self.write)(domain, &step_words(step), json!({"event": "discovering"}));
        }
    }

    fn domain_discovered(&self, discovery: &DomainDiscovery) {
        (self.write)(discovery.domain.as_str(), &domain_words(discovery), json!({"event": "discovered"}));
    }

    fn mailbox_begins(&self, mailbox: &Address, record: &MailboxRecord, progress: Arc<MailboxProgress>) {
        self.tally.begin(mailbox, progress);
        (self.write)(
            &mailbox.to_string(),
            "begins",
            json!({"event": "mailboxBegins", "passBefore": record.pass}),
        );
    }

    fn mailbox_ended(&self, mailbox: &Address, record: &MailboxRecord) {
        self.tally.end(mailbox, record);
        let facts = json!({"event": "mailboxEnded", "messages": record.counts, "failure": record.failure});
        (self.write)(&mailbox.to_string(), &ended_words(record), facts);
    }

    fn verification_begins(&self, mailbox: &Address, _: Arc<MailboxProgress>) {
        (self.write)(&mailbox.to_string(), "is being verified", json!({"event": "verifying"}));
    }

    fn verification_ended(&self, mailbox: &Address, record: &MailboxRecord) {
        let facts = json!({
            "event": "verified", "verification": record.last_verification(), "failure": record.unverified,
        });
        (self.write)(&mailbox.to_string(), &verified_words(record), facts);
    }

    fn decided(&self, migration: &MailMigration, decision: &Decision) {
        self.tally.count(decision);
        let name = migration.metadata.name.as_deref().unwrap_or_default();
        let mut told = self.findings_told.lock().unwrap_or_else(PoisonError::into_inner);
        if decision.status.plan.is_some() && !*told {
            *told = true;
            for line in finding_words(&decision.status) {
                (self.write)(name, &line, json!({"event": "finding"}));
            }
        }
        let phase = decision.status.phase.map(|p| p.to_string()).unwrap_or_default();
        let mut last = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != phase {
            (self.write)(name, &phase, json!({"event": "phase", "phase": phase}));
            *last = phase;
        }
    }

    fn waits(&self, migration: &str, until: Timestamp, paused: bool) {
        let words = waiting_words(until, paused, SystemClock.now());
        (self.write)(migration, &words, json!({"event": "waits", "until": until, "paused": paused}));
    }

    fn finish(&self) {}
}
