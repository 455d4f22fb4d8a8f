//! The view of a run at work: bars on a terminal, plain lines elsewhere, JSON lines for a program. All of
//! it goes to standard error; standard output holds the result alone.

mod bars;
mod lines;
mod pace;
mod tally;
mod verifying;
mod words;

use std::sync::Arc;

use jiff::Timestamp;

use self::bars::Bars;
use self::lines::{Lines, write_json, write_plain};
use crate::api::MailMigration;
use crate::discovery::{Step, Watcher};
use crate::local::terminal::shows_progress;
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::record::MailboxRecord;
use crate::plan::Decision;
pub use crate::transfer::progress::MailboxProgress;

pub use self::verifying::Verifying;

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

/// A display of what happens.
pub trait Display: Send + Sync {
    /// Discovery of a domain goes on.
    fn discovering(&self, domain: &str, step: &Step);
    /// A domain was looked at.
    fn domain_discovered(&self, discovery: &DomainDiscovery);
    /// A mailbox begins.
    fn mailbox_begins(&self, mailbox: &Address, before: &MailboxRecord, progress: Arc<MailboxProgress>);
    /// A mailbox's attempt ended.
    fn mailbox_ended(&self, mailbox: &Address, record: &MailboxRecord);
    /// A mailbox begins to be verified once more.
    fn verification_begins(&self, mailbox: &Address, progress: Arc<MailboxProgress>);
    /// A mailbox was verified once more, or could not be.
    fn verification_ended(&self, mailbox: &Address, record: &MailboxRecord);
    /// A decision was made.
    fn decided(&self, migration: &MailMigration, decision: &Decision);
    /// A migration waits until a moment: for its next pass, or paused for a window of its schedule.
    fn waits(&self, _migration: &str, _until: Timestamp, _paused: bool) {}
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
        Style::Auto if shows_progress() => Arc::new(Bars::new()),
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
    fn verification_begins(&self, _: &Address, _: Arc<MailboxProgress>) {}
    fn verification_ended(&self, _: &Address, _: &MailboxRecord) {}
    fn decided(&self, _: &MailMigration, _: &Decision) {}
    fn finish(&self) {}
}
