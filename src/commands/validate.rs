//! `mailferry validate`: every check of manifests and their lists that needs no network.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::json;

use super::looking::tell_exposed;
use super::{print, tell_failure, tell_note, to_json};
use crate::cli::{Output, ValidateArgs};
use crate::local::terminal::tell;
use crate::local::validate::{Validated, validate as look};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::finding::Finding;
use crate::model::text::{counted, printable};

/// Errors that are told to a person one by one.
const TOLD: usize = 20;

pub(super) fn validate(args: &ValidateArgs) -> Result<ExitCode> {
    let (secrets, migrations, mut errors) = args.inputs().open_all()?;
    let mut seen: Vec<(String, Validated)> = Vec::new();
    for migration in &migrations {
        let name = migration.metadata.name.clone().unwrap_or_default();
        let mut validated = look(migration, &secrets)?;
        errors.append(&mut validated.errors);
        seen.push((name, validated));
    }
    let exposed = tell_exposed(&secrets);
    match args.output {
        Output::Json => print(&to_json(&result(&errors, &seen))?)?,
        Output::Text => {
            tell_first(&errors);
            for finding in seen.iter().flat_map(|(_, validated)| &validated.warnings) {
                tell_note(&format!("{} {}", finding.message, finding.code.remedy()));
            }
            print(&summary(&errors, &seen, exposed))?;
        }
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Class::Configuration.exit_code()) })
}

/// Tells the first errors, and how many more there are. A list of thousands of rows must not hide what is wrong elsewhere: what
/// is about the manifest comes first.
fn tell_first(errors: &[Failure]) {
    let (rows, fields): (Vec<&Failure>, Vec<&Failure>) =
        errors.iter().partition(|failure| failure.is(FailureCode::BadList));
    for failure in fields.into_iter().chain(rows).take(TOLD) {
        tell_failure(failure, 0);
    }
    if let Some(more) = errors.len().checked_sub(TOLD).filter(|more| *more > 0) {
        tell(&format!(
            "and {} more; --output json has all of them\n",
            counted(more as u64, "error", "errors")
        ));
    }
}

fn summary(errors: &[Failure], seen: &[(String, Validated)], exposed: usize) -> String {
    let mut text = String::new();
    for (name, validated) in seen {
        let domains = counted(validated.mailboxes.len() as u64, "domain", "domains");
        let all: Option<usize> = validated.mailboxes.iter().map(|(_, count)| *count).sum();
        let _ = writeln!(text, "{name}  {domains}, {}", mailboxes(all));
        for (domain, count) in &validated.mailboxes {
            let _ = writeln!(text, "  {:<30}  {}", printable(domain), mailboxes(*count));
        }
        for (list, form) in &validated.lists {
            let _ = writeln!(text, "  {} was read as {form}", printable(list));
        }
    }
    let notes = exposed + seen.iter().map(|(_, validated)| validated.warnings.len()).sum::<usize>();
    let aside =
        if notes > 0 { format!(", {}", counted(notes as u64, "note", "notes")) } else { String::new() };
    let _ = match errors.len() {
        0 => writeln!(text, "Nothing is wrong that could be told without a network{aside}."),
        wrong => {
            writeln!(text, "{}{aside}; nothing was connected to.", counted(wrong as u64, "error", "errors"))
        }
    };
    text
}

fn mailboxes(count: Option<usize>) -> String {
    count.map_or_else(
        || "mailboxes not known".to_owned(),
        |count| counted(count as u64, "mailbox", "mailboxes"),
    )
}

fn result(errors: &[Failure], seen: &[(String, Validated)]) -> serde_json::Value {
    let warning = |finding: &Finding| json!({"code": finding.code, "subject": finding.subject, "message": finding.message, "remedy": finding.code.remedy()});
    let migration = |(name, validated): &(String, Validated)| {
        let domains: Vec<_> = validated
            .mailboxes
            .iter()
            .map(|(name, count)| json!({"name": name, "mailboxes": count}))
            .collect();
        let lists: Vec<_> =
            validated.lists.iter().map(|(name, form)| json!({"name": name, "form": form})).collect();
        let warnings: Vec<_> = validated.warnings.iter().map(warning).collect();
        json!({"name": name, "domains": domains, "lists": lists, "warnings": warnings})
    };
    json!({
        "valid": errors.is_empty(),
        "errors": errors,
        "migrations": seen.iter().map(migration).collect::<Vec<_>>(),
    })
}
