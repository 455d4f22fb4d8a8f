//! The view of `mailferry verify` at work: one bar on a terminal, plain or JSON lines elsewhere.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Style;
use super::lines::{write_json, write_plain};
use crate::local::terminal::shows_progress;
use crate::model::address::Address;
use crate::model::text::count;
use crate::transfer::progress::MailboxProgress;

/// How often a bar is drawn anew.
const DRAWN_EVERY: Duration = Duration::from_millis(200);
/// How often lines report work that goes on.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Shows one mailbox after the other as it is verified.
pub struct Verifying {
    style: Style,
    mailboxes: usize,
    begun: usize,
    shown: Option<Shown>,
}

/// The mailbox that is being verified, and the task that shows it.
struct Shown {
    bar: Option<ProgressBar>,
    task: JoinHandle<()>,
}

impl Verifying {
    /// Begins to show so many mailboxes.
    pub fn new(style: Style, mailboxes: usize) -> Self {
        let style = match style {
            Style::Auto if shows_progress() => Style::Auto,
            Style::Auto => Style::Plain,
            other => other,
        };
        Self { style, mailboxes, begun: 0, shown: None }
    }

    fn line(style: Style, mailbox: &Address, words: &str, facts: Value) {
        match style {
            Style::Plain => write_plain(&mailbox.to_string(), words, facts),
            Style::Json => write_json(&mailbox.to_string(), words, facts),
            Style::Auto | Style::None => {}
        }
    }

    /// A mailbox begins.
    pub fn begin(&mut self, mailbox: &Address, progress: &Arc<MailboxProgress>) {
        self.begun += 1;
        let (style, progress, mailbox) = (self.style, Arc::clone(progress), mailbox.clone());
        let place = format!("{}/{} mailboxes", self.begun, self.mailboxes);
        if style == Style::None {
            return;
        }
        if style != Style::Auto {
            Self::line(
                style,
                &mailbox,
                &format!("is being verified, {place}"),
                json!({"event": "verifying"}),
            );
            let task = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(TOLD_EVERY).await;
                    let reading = progress.read();
                    let words = format!(
                        "{}/{} messages looked for  {}",
                        count(reading.done),
                        count(reading.expected),
                        reading.place.as_str()
                    );
                    let facts = json!({
                        "event": "progress", "messages": reading.done, "messagesExpected": reading.expected,
                        "bytes": reading.bytes, "place": reading.place.as_str(),
                    });
                    Self::line(style, &mailbox, &words, facts);
                }
            });
            self.shown = Some(Shown { bar: None, task });
            return;
        }
        let template =
            ProgressStyle::with_template("Verifying {prefix}  {bar:20}  {human_pos}/{human_len}  {wide_msg}");
        let template = template.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(template).with_prefix(place);
        let drawn = bar.clone();
        let task = tokio::spawn(async move {
            loop {
                let reading = progress.read();
                drawn.set_length(reading.expected);
                drawn.set_position(reading.done);
                drawn.set_message(format!("{mailbox}  {}", reading.place.as_str()));
                tokio::time::sleep(DRAWN_EVERY).await;
            }
        });
        self.shown = Some(Shown { bar: Some(bar), task });
    }

    /// The mailbox is through, or was stopped.
    pub fn end(&mut self) {
        if let Some(Shown { bar, task }) = self.shown.take() {
            task.abort();
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        }
    }
}

impl Drop for Verifying {
    fn drop(&mut self) {
        self.end();
    }
}
