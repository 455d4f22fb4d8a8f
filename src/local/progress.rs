//! What a person sees while a run is at work: bars on a terminal, plain lines elsewhere, JSON lines for a program. All of
//! it goes to standard error; standard output holds the result alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::clock::SystemClock;
use crate::api::MailMigration;
use crate::discovery::{Clock, Step, Watcher};
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::record::MailboxRecord;
use crate::plan::Decision;
use crate::transfer::progress::{MailboxProgress, Reading};

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    /// Bars on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// One line for each change and one every 10 s of work.
    Plain,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

/// How often plain lines tell of work that goes on.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// How often bars are drawn anew.
const BARS_EVERY: Duration = Duration::from_millis(200);

/// Whoever shows what happens.
pub trait Display: Send + Sync {
    /// Discovery of a domain goes on.
    fn discovering(&self, domain: &str, step: &Step);
    /// A domain was looked at.
    fn domain_discovered(&self, discovery: &DomainDiscovery);
    /// A mailbox begins.
    fn mailbox_begins(&self, mailbox: &Address, before: &MailboxRecord, progress: Arc<MailboxProgress>);
    /// A mailbox's attempt ended.
    fn mailbox_ended(&self, mailbox: &Address, record: &MailboxRecord);
    /// A decision was made.
    fn decided(&self, migration: &MailMigration, decision: &Decision);
    /// Takes away what must not stay on a terminal.
    fn finish(&self);
}

/// Hands discovery's steps on with the domain's name.
pub struct DomainWatch {
    domain: String,
    display: Arc<dyn Display>,
}

impl DomainWatch {
    /// Watches one domain.
    pub fn new(domain: String, display: Arc<dyn Display>) -> Self {
        Self { domain, display }
    }
}

impl Watcher for DomainWatch {
    fn saw(&self, step: &Step) {
        self.display.discovering(&self.domain, step);
    }
}

/// The display for a style.
pub fn display(style: Style) -> Arc<dyn Display> {
    match style {
        Style::None => Arc::new(Silent),
        Style::Auto if std::io::stderr().is_terminal() => Arc::new(Bars::new()),
        Style::Auto | Style::Plain => Lines::start(write_plain),
        Style::Json => Lines::start(write_json),
    }
}

/// Shows nothing.
struct Silent;

impl Display for Silent {
    fn discovering(&self, _: &str, _: &Step) {}
    fn domain_discovered(&self, _: &DomainDiscovery) {}
    fn mailbox_begins(&self, _: &Address, _: &MailboxRecord, _: Arc<MailboxProgress>) {}
    fn mailbox_ended(&self, _: &Address, _: &MailboxRecord) {}
    fn decided(&self, _: &MailMigration, _: &Decision) {}
    fn finish(&self) {}
}

fn step_words(step: &Step) -> String {
    match step {
        Step::Signals => "asking DNS and published configuration".to_owned(),
        Step::Probes { endpoints } => format!("asking {endpoints} servers what they speak"),
        Step::Logins { done, total } => format!("logging in, {done} of {total} mailboxes"),
    }
}

/// One line about a domain: what was chosen, where, how sure.
fn domain_words(discovery: &DomainDiscovery) -> String {
    let mut protocols: BTreeMap<String, u32> = BTreeMap::new();
    for protocol in discovery.mailboxes.iter().filter_map(crate::model::evidence::MailboxDiscovery::protocol)
    {
        *protocols.entry(protocol.to_string()).or_default() += 1;
    }
    let chosen: Vec<String> = match protocols.len() {
        0 => vec!["nothing that can be read".to_owned()],
        1 => protocols.keys().cloned().collect(),
        _ => {
            let parts: Vec<String> = protocols.iter().map(|(p, n)| format!("{p} {n}")).collect();
            vec![format!("mixed  {}", parts.join(" · "))]
        }
    };
    let best = discovery.candidates.iter().find(|c| c.mailboxes > 0);
    let tls = best.and_then(|c| discovery.servers.iter().find(|s| s.endpoint == c.endpoint)?.tls.as_ref());
    let readable = discovery.mailboxes.iter().filter(|m| m.endpoint.is_some()).count();
    let mut words = chosen.join(" ");
    if let Some(best) = best {
        words.push_str("  ");
        words.push_str(&best.endpoint.address());
        words.push_str(&tls.map_or_else(|| "  no TLS".to_owned(), |t| format!("  {}", t.version)));
    }
    let _ = write!(words, "  {readable} of {} logins ok", discovery.mailboxes.len());
    if let Some(best) = best {
        let _ = write!(words, "  grade {}  fidelity {}", best.grade, best.fidelity);
    } else if let Some(failure) = &discovery.failure {
        let _ = write!(words, "  {}", failure.what);
    }
    words
}

fn ended_words(record: &MailboxRecord) -> String {
    match &record.failure {
        Some(failure) => format!("{} [{}]", failure.sentence(), failure.class),
        None => format!("{}  {} sent, {} recognised", record.counts, record.sent, record.recognised),
    }
}

/// Bars on a terminal: one for all, one for each mailbox under way.
struct Bars {
    all: MultiProgress,
    domains: Mutex<BTreeMap<String, ProgressBar>>,
    mailboxes: Mutex<BTreeMap<Address, ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::new(), domains: Mutex::default(), mailboxes: Mutex::default() }
    }

    fn say(&self, line: &str) {
        // A terminal that went away takes nothing with it.
        let _ = self.all.println(line);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏░")
}

impl Display for Bars {
    fn discovering(&self, domain: &str, step: &Step) {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = domains.entry(domain.to_owned()).or_insert_with(|| {
            let bar =
                self.all.add(ProgressBar::new_spinner().with_style(style("  {spinner} {prefix:20} {msg}")));
            bar.enable_steady_tick(BARS_EVERY);
            bar.with_prefix(domain.to_owned())
        });
        bar.set_message(step_words(step));
    }

    fn domain_discovered(&self, discovery: &DomainDiscovery) {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = domains.remove(discovery.domain.as_str()) {
            bar.finish_and_clear();
        }
        self.say(&format!("  {:20} {}", discovery.domain, domain_words(discovery)));
    }

    fn mailbox_begins(&self, mailbox: &Address, _: &MailboxRecord, progress: Arc<MailboxProgress>) {
        let bar = self.all.add(
            ProgressBar::new(0)
                .with_style(style("  {prefix:28!} {bar:20} {human_pos}/{human_len} messages  {msg}")),
        );
        bar.set_prefix(mailbox.to_string());
        let (shown, started) = (bar.downgrade(), std::time::Instant::now());
        // The bar outlives the pass by a moment at most: it ends when nobody holds it.
        tokio::spawn(async move {
            while let Some(bar) = shown.upgrade() {
                let reading = progress.read();
                bar.set_length(reading.expected);
                bar.set_position(reading.done);
                bar.set_message(pace(&reading, started.elapsed()));
                drop(bar);
                tokio::time::sleep(BARS_EVERY).await;
            }
        });
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).insert(mailbox.clone(), bar);
    }

    fn mailbox_ended(&self, mailbox: &Address, record: &MailboxRecord) {
        if let Some(bar) = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).remove(mailbox) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        self.say(&format!("  {mailbox:28} {}", ended_words(record)));
    }

    fn decided(&self, _: &MailMigration, _: &Decision) {}

    fn finish(&self) {
        let _ = self.all.clear();
    }
}

/// Rate, bytes, the time that is left, and where the pass is.
fn pace(reading: &Reading, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    #[allow(clippy::cast_precision_loss, reason = "a rate for people needs no more than three digits")]
    let (done, bytes, wanted) = (reading.done as f64, reading.bytes as f64, reading.bytes_expected as f64);
    let left = if bytes > 0.0 && wanted > bytes {
        let seconds = (wanted - bytes) / bytes * seconds;
        format!("  {:02.0}:{:02.0} left", (seconds / 60.0).floor(), seconds % 60.0)
    } else {
        String::new()
    };
    format!(
        "{}/{}  {:.0} msg/s{left}  {}",
        indicatif::DecimalBytes(reading.bytes),
        indicatif::DecimalBytes(reading.bytes_expected),
        done / seconds,
        reading.place
    )
}

/// Lines for a log or a program: each change at once, work that goes on every 10 s.
struct Lines {
    write: fn(&str, &str, Value),
    under_way: Mutex<BTreeMap<Address, (Arc<MailboxProgress>, std::time::Instant)>>,
    phase: Mutex<String>,
}

/// One plain line with the time.
#[allow(clippy::print_stderr, reason = "progress is for standard error")]
fn write_plain(subject: &str, words: &str, _: Value) {
    let time = SystemClock.now().to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
    eprintln!("{time}  {subject:28}  {words}");
}

/// One JSON object with the time.
#[allow(clippy::print_stderr, reason = "progress is for standard error")]
fn write_json(subject: &str, words: &str, mut facts: Value) {
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("time".to_owned(), json!(SystemClock.now()));
        facts.insert("subject".to_owned(), json!(subject));
        facts.insert("message".to_owned(), json!(words));
    }
    eprintln!("{facts}");
}

impl Lines {
    fn start(write: fn(&str, &str, Value)) -> Arc<dyn Display> {
        let lines = Arc::new(Self { write, under_way: Mutex::default(), phase: Mutex::default() });
        let watched = Arc::downgrade(&lines);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PLAIN_EVERY).await;
                let Some(lines) = watched.upgrade() else { return };
                lines.tell_progress();
            }
        });
        lines
    }

    fn tell_progress(&self) {
        for (mailbox, (progress, started)) in
            self.under_way.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let reading = progress.read();
            let words = format!(
                "{}/{} messages  {}",
                reading.done,
                reading.expected,
                pace(&reading, started.elapsed())
            );
            let facts = json!({
                "event": "progress", "messages": reading.done, "messagesExpected": reading.expected,
                "bytes": reading.bytes, "bytesExpected": reading.bytes_expected, "folder": reading.place,
            });
            (self.write)(&mailbox.to_string(), &words, facts);
        }
    }
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
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(mailbox.clone(), (progress, std::time::Instant::now()));
        (self.write)(
            &mailbox.to_string(),
            "begins",
            json!({"event": "mailboxBegins", "pass": record.pass + 1}),
        );
    }

    fn mailbox_ended(&self, mailbox: &Address, record: &MailboxRecord) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(mailbox);
        let facts = json!({"event": "mailboxEnded", "messages": record.counts, "failure": record.failure});
        (self.write)(&mailbox.to_string(), &ended_words(record), facts);
    }

    fn decided(&self, migration: &MailMigration, decision: &Decision) {
        let phase = decision.status.phase.map(|p| p.to_string()).unwrap_or_default();
        let mut last = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != phase {
            let name = migration.metadata.name.clone().unwrap_or_default();
            (self.write)(&name, &phase, json!({"event": "phase", "phase": phase}));
            *last = phase;
        }
    }

    fn finish(&self) {}
}
