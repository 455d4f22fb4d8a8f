//! The log: on standard error, as text for people or JSON for machines, with a filter that can be changed while it
//! runs. Code that handles the token of the Kubernetes client is limited before any filter is asked.
//!
//! The records of the `log` crate are not taken: async-imap writes there what it sends.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::cli::LogFormat;
use crate::local::terminal::{LogOutput, shows_progress, wants_colour};
use crate::model::failure::{Failure, Result};
use crate::model::text::{cut, printable};

/// The variable with a log filter.
const VARIABLE: &str = "MAILFERRY_LOG";
/// How often the filter's file is read.
const FOLLOW: Duration = Duration::from_secs(5);
/// The longest filter in bytes.
const FILTER_MAX: usize = 4096;

/// The targets that are cut off below a level, whatever the filter says. None of these shows a token in the versions at
/// hand; but they handle the heads of requests, in which the Kubernetes client sends its token, and an update of
/// theirs, or a feature that a third crate turns on, must not open the log to it.
const CAPS: [(&str, LevelFilter); 3] =
    [("h2", LevelFilter::INFO), ("hyper", LevelFilter::DEBUG), ("kube_client::client", LevelFilter::DEBUG)];

/// The settings of a command for its log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// How often `-v` was given.
    pub verbose: u8,
    /// How a record is written.
    pub format: LogFormat,
    /// Whether the command is one that runs in a cluster, where the log is all that can be seen of it.
    pub service: bool,
}

impl Settings {
    /// The filter, when nothing else is said.
    fn usual(self) -> &'static str {
        match (self.verbose, self.service) {
            (0, false) => "off",
            (0, true) => "mailferry=info,warn",
            (1, _) => "mailferry=debug,warn",
            _ => "mailferry=trace,debug",
        }
    }
}

/// The log that was started; by it the filter is changed.
pub struct Log {
    /// The filter of the command line and the environment.
    first: String,
    /// The filter of the moment.
    current: watch::Sender<String>,
    change: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

/// Starts the log.
///
/// # Errors
/// [`crate::model::failure::Class::Configuration`] when `MAILFERRY_LOG` is not a filter.
pub fn start(settings: Settings) -> Result<Log> {
    let said = std::env::var(VARIABLE).ok().filter(|filter| !filter.trim().is_empty());
    let first = said.unwrap_or_else(|| settings.usual().to_owned());
    let refuse = |failure: Failure| failure.at(VARIABLE);
    let (subscriber, log) =
        subscriber(settings.format, &first, || LogOutput, shows_progress() && wants_colour())
            .map_err(refuse)?;
    // A second subscriber can only come from an embedding test; the first stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(log)
}

/// Returns the subscriber that takes the records and writes them.
///
/// # Errors
/// [`crate::model::failure::Class::Configuration`] when the filter is not valid.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
    colour: bool,
) -> Result<(impl Subscriber + Send + Sync + use<W>, Log)>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (chosen, handle) = reload::Layer::new(parse(filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour);
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let caps = Targets::new().with_default(LevelFilter::TRACE).with_targets(CAPS);
    let subscriber = Registry::default().with(caps).with(chosen).with(lines);
    let current = watch::channel(filter.to_owned()).0;
    let log =
        Log { first: filter.to_owned(), current, change: Box::new(move |filter| handle.reload(filter)) };
    Ok((subscriber, log))
}

/// Reads a filter such as `mailferry=debug,warn`.
fn parse(text: &str) -> Result<EnvFilter> {
    let refuse = |why: &dyn Display| {
        let what = format!(
            "\"{}\" is not a log filter: {}",
            cut(&printable(text), 100),
            printable(&why.to_string())
        );
        Failure::configuration(what).hint("Write it as mailferry=debug,warn.")
    };
    if text.len() > FILTER_MAX {
        return Err(refuse(&"it is too long"));
    }
    EnvFilter::builder().parse(text.trim()).map_err(|error| refuse(&error))
}

impl Log {
    /// The filter of the moment, for those who are to log as we do.
    pub fn filter(&self) -> watch::Receiver<String> {
        self.current.subscribe()
    }

    /// Filters by the words of a file from now on, read again every 5 s: a mounted `ConfigMap` changes under its name.
    /// While the file is absent or blank, the filter that the command began with counts; while it is wrong, the one
    /// before. It never ends.
    pub async fn follow(&self, path: &Path) {
        let mut last: Option<String> = None;
        let mut ticks = interval(FOLLOW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match read(path).await {
                Ok(found) if found == last => {}
                Ok(found) => {
                    self.choose(found.as_deref(), path);
                    last = found;
                }
                // A file that is just being put in place; the next reading tells.
                Err(error) => warn!(path = %path.display(), %error, "the log filter cannot be read"),
            }
        }
    }

    fn choose(&self, found: Option<&str>, path: &Path) {
        let filter = found.unwrap_or(&self.first);
        let chosen = parse(filter).and_then(|parsed| {
            (self.change)(parsed).map_err(|e| Failure::internal("the filter cannot be changed").caused_by(&e))
        });
        match chosen {
            Ok(()) => {
                self.current.send_replace(filter.to_owned());
                info!(filter, "the log filter is changed");
            }
            Err(failure) => {
                let failure = failure.at(path.display().to_string());
                warn!(%failure, "the log filter stays as it is");
            }
        }
    }
}

/// The text of a file; nothing when it is absent or blank.
async fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = String::new();
    // One byte more than is allowed shows that it is too long.
    file.take(FILTER_MAX as u64 + 1).read_to_string(&mut text).await?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}
