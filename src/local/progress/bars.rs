//! Bars on a terminal: one for all mailboxes together, one for each that is under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::Display;
use super::pace::Pace;
use super::tally::Tally;
use super::words::{
    domain_words, ended_words, finding_words, mailbox_line, step_words, total_line, verified_words,
    waiting_words,
};
use crate::api::MailMigration;
use crate::discovery::{Clock, Step};
use crate::local::clock::SystemClock;
use crate::local::terminal::progress_columns;
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::record::MailboxRecord;
use crate::plan::Decision;
use crate::report::text::wrap;
use crate::transfer::progress::MailboxProgress;

/// How often bars are drawn anew.
const EVERY: Duration = Duration::from_millis(200);

/// The bars and what they show.
pub(super) struct Bars {
    all: MultiProgress,
    domains: Mutex<BTreeMap<String, ProgressBar>>,
    mailboxes: Mutex<BTreeMap<Address, ProgressBar>>,
    total: Mutex<Option<ProgressBar>>,
    tally: Arc<Tally>,
    findings_told: Mutex<bool>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            domains: Mutex::default(),
            mailboxes: Mutex::default(),
            total: Mutex::default(),
            tally: Arc::default(),
            findings_told: Mutex::default(),
        }
    }

    /// Writes words above the bars, in lines that fit. Those that follow the first are set in by two more columns.
    fn say(&self, indent: &str, words: &str) {
        let mut text = String::new();
        wrap(&mut text, indent, &format!("{indent}  "), words, progress_columns());
        // A terminal that went away takes nothing with it.
        let _ = self.all.println(text.trim_end());
    }

    /// Takes away the bar of a mailbox that is not under way any more.
    fn take_bar(&self, mailbox: &Address) {
        if let Some(bar) = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).remove(mailbox) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    /// Draws a bar anew until nobody holds it any more.
    fn keep_drawing(bar: &ProgressBar, mut draw: impl FnMut(&ProgressBar) + Send + 'static) {
        let shown = bar.downgrade();
        tokio::spawn(async move {
            while let Some(bar) = shown.upgrade() {
                draw(&bar);
                drop(bar);
                tokio::time::sleep(EVERY).await;
            }
        });
    }

    fn show_total(&self) {
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        if total.is_some() {
            return;
        }
        let bar = self.all.insert(0, ProgressBar::new(0).with_style(style("{wide_msg}")));
        let tally = Arc::clone(&self.tally);
        Self::keep_drawing(&bar, move |bar| bar.set_message(total_line(&tally.sums(), progress_columns())));
        *total = Some(bar);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Display for Bars {
    fn discovering(&self, domain: &str, step: &Step) {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = domains.entry(domain.to_owned()).or_insert_with(|| {
            let template = style("  {spinner} {prefix:20} {wide_msg}");
            let bar = self.all.add(ProgressBar::new_spinner().with_style(template));
            bar.enable_steady_tick(EVERY);
            bar.with_prefix(domain.to_owned())
        });
        bar.set_message(step_words(step));
    }

    fn domain_discovered(&self, discovery: &DomainDiscovery) {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = domains.remove(discovery.domain.as_str()) {
            bar.finish_and_clear();
        }
        self.say("  ", &format!("{:20} {}", discovery.domain, domain_words(discovery)));
    }

    fn mailbox_begins(&self, mailbox: &Address, _: &MailboxRecord, progress: Arc<MailboxProgress>) {
        self.tally.begin(mailbox, Arc::clone(&progress));
        self.show_total();
        let bar = self.all.add(ProgressBar::new(0).with_style(style("{wide_msg}")));
        let (shown, mut pace) = (mailbox.clone(), Pace::begin(Instant::now()));
        Self::keep_drawing(&bar, move |bar| {
            let mut reading = progress.read();
            let elapsed = pace.narrow(&mut reading, Instant::now());
            bar.set_message(mailbox_line(&shown, &reading, elapsed, progress_columns()));
        });
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).insert(mailbox.clone(), bar);
    }

    fn mailbox_ended(&self, mailbox: &Address, record: &MailboxRecord) {
        self.tally.end(mailbox, record);
        self.take_bar(mailbox);
        self.say("  ", &format!("{mailbox:28} {}", ended_words(record)));
    }

    fn verification_begins(&self, mailbox: &Address, progress: Arc<MailboxProgress>) {
        let template = style("  {spinner} {prefix:28} verifying  {human_pos}/{human_len}  {wide_msg}");
        let bar = self.all.add(ProgressBar::new(0).with_style(template)).with_prefix(mailbox.to_string());
        bar.enable_steady_tick(EVERY);
        Self::keep_drawing(&bar, move |bar| {
            let reading = progress.read();
            bar.set_length(reading.expected);
            bar.set_position(reading.done);
            bar.set_message(reading.place.as_str().to_owned());
        });
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).insert(mailbox.clone(), bar);
    }

    fn verification_ended(&self, mailbox: &Address, record: &MailboxRecord) {
        self.take_bar(mailbox);
        self.say("  ", &format!("{mailbox:28} {}", verified_words(record)));
    }

    fn decided(&self, _: &MailMigration, decision: &Decision) {
        self.tally.count(decision);
        let mut told = self.findings_told.lock().unwrap_or_else(PoisonError::into_inner);
        if decision.status.plan.is_some() && !*told {
            *told = true;
            for line in finding_words(&decision.status) {
                self.say("  ", &line);
            }
        }
    }

    fn waits(&self, migration: &str, until: Timestamp, paused: bool) {
        self.say("  ", &format!("{migration:28} {}", waiting_words(until, paused, SystemClock.now())));
    }

    fn finish(&self) {
        if let Some(bar) = self.total.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
        let _ = self.all.clear();
    }
}
