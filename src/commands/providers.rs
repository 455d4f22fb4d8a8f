//! `mailferry providers`: the services that are known by name.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::{print, to_json};
use crate::cli::{Output, ProvidersArgs};
use crate::model::failure::Result;
use crate::model::preset;

pub(super) fn providers(args: &ProvidersArgs) -> Result<ExitCode> {
    let text = match args.output {
        Output::Json => to_json(&preset::all())?,
        Output::Text => {
            let mut text = String::new();
            for preset in preset::all() {
                let checked = if preset.checked.is_empty() {
                    "not compared with its source".to_owned()
                } else {
                    format!("compared on {}", preset.checked)
                };
                let _ = writeln!(text, "{}  {}", preset.key, preset.name);
                for (name, value) in [
                    ("imap", preset.imap),
                    ("pop3", preset.pop3),
                    ("token", preset.token),
                    ("device", preset.device),
                    ("application", preset.application_scope),
                    ("user", preset.user_scope),
                ] {
                    let _ = writeln!(text, "  {name:<12}{}", if value.is_empty() { "none" } else { value });
                }
                if let Some(bytes) = preset.imap_bytes_per_day {
                    let megabytes = bytes / 1_000_000;
                    let _ = writeln!(text, "  {:<12}{megabytes} MB of a mailbox by IMAP", "a day");
                }
                let _ = writeln!(text, "  {:<12}{}, {checked}", "source", preset.source);
            }
            text
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
