//! `mailferry plan`: what would be done, and what changed against another plan.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::json;

use super::looking::{Looked, look};
use super::{print, private, to_json};
use crate::api::status::PlanStatus;
use crate::cli::{Output, PlanArgs};
use crate::model::failure::{Failure, Result};
use crate::model::text::printable;
use crate::plan::document::{Change, Plan, changes_in_brief};

/// Another plan, and how this one differs from it.
struct Comparison {
    digest: String,
    /// Its kind: the approved one, or an earlier one.
    what: String,
    changes: Vec<Change>,
}

pub(super) async fn plan(args: PlanArgs) -> Result<ExitCode> {
    let looked = look(args.migration.into()).await?;
    let missing = looked
        .migration
        .spec
        .domains
        .iter()
        .find(|d| looked.observed.domains.get(&d.name).is_none_or(|seen| seen.discovery.is_none()));
    if let Some(domain) = missing {
        return Err(Failure::configuration("it was not looked at yet, so there is no plan")
            .hint(format!(
                "look first: mailferry run -f … --state … --stage Plan; before that, {}",
                private("")
            ))
            .at(domain.name.clone()));
    }
    let plan = Plan::of(&looked.migration.spec, &looked.observed);
    let brief = plan.brief();
    let comparison = if args.diff || args.against.is_some() {
        compare(&looked, &plan, &brief, args.against.as_deref())?
    } else {
        None
    };
    let approved = looked.migration.spec.approved_plan.as_ref();
    // A plan of what was seen before a change is none that a run could carry out.
    let stands = approved.map(|approved| *approved == brief.digest && looked.outdated.is_empty());
    let text = match args.output {
        Output::Json => to_json(&json!({
            "migration": looked.name(),
            "digest": brief.digest,
            "approvedPlan": approved,
            "approved": stands,
            "outdated": looked.outdated,
            "plan": plan,
            "against": comparison.as_ref().map(|c| &c.digest),
            "changes": comparison.as_ref().map(|c| &c.changes),
        }))?,
        Output::Text if args.diff || args.against.is_some() => tell_changes(&brief, comparison.as_ref()),
        Output::Text => tell(&looked, &plan, &brief, stands),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The plan that this one is held against: the one that was asked for, else the approved one, else the one before.
fn compare(
    looked: &Looked,
    plan: &Plan,
    brief: &PlanStatus,
    against: Option<&str>,
) -> Result<Option<Comparison>> {
    let status = looked.migration.status.as_ref();
    let Some(state) = &looked.state else {
        // A cluster keeps the approved plan in brief and no other.
        let known = status.and_then(|status| status.approved.as_ref());
        return match (known, against) {
            (Some(known), None) => Ok(Some(Comparison {
                digest: known.digest.clone(),
                what: "the approved plan".to_owned(),
                changes: changes_in_brief(known, brief),
            })),
            (None, None) => Ok(None),
            (_, Some(_)) => Err(Failure::configuration("a cluster keeps no plan but the approved one")
                .hint("leave --against out; the plan is compared with the approved one")),
        };
    };
    let kept = state.load()?.plans;
    let approved = looked.migration.spec.approved_plan.as_deref();
    let begins = |wanted: &str, digest: &str| {
        let bare = |text: &str| text.trim_start_matches("sha256:").to_ascii_lowercase();
        !bare(wanted).is_empty() && bare(digest).starts_with(&bare(wanted))
    };
    let found = match against {
        Some(wanted) => {
            Some(kept.iter().rev().find(|kept| begins(wanted, &kept.digest)).ok_or_else(|| {
                let known: Vec<&str> = kept.iter().rev().take(5).map(|kept| kept.digest.as_str()).collect();
                Failure::configuration(format!("no plan that begins with \"{}\" is kept", printable(wanted)))
                    .hint(format!("the latest ones are {}", known.join(", ")))
            })?)
        }
        None => kept
            .iter()
            .find(|kept| approved == Some(kept.digest.as_str()))
            .or_else(|| kept.iter().rev().find(|kept| kept.digest != brief.digest)),
    };
    let Some(found) = found else { return Ok(None) };
    let earlier = state.load_plan(&found.digest)?.ok_or_else(|| {
        Failure::configuration(format!("the plan {} is no longer in the state directory", found.digest))
            .hint("compare with another one: --against DIGEST")
    })?;
    let is_approved = approved == Some(found.digest.as_str());
    let what = if is_approved { "the approved plan" } else { "the plan" };
    Ok(Some(Comparison {
        digest: found.digest.clone(),
        what: format!("{what} of {}", found.since.strftime("%Y-%m-%d %H:%M UTC")),
        changes: plan.changes_since(&earlier),
    }))
}

fn tell_changes(brief: &PlanStatus, comparison: Option<&Comparison>) -> String {
    let Some(found) = comparison else {
        return format!("{}\nThere is no other plan to compare it with.\n", brief.digest);
    };
    let mut text = format!("--- {}  {}\n+++ {}  the current plan\n", found.digest, found.what, brief.digest);
    if found.changes.is_empty() {
        text.push_str("Nothing differs.\n");
    }
    for change in &found.changes {
        let _ = writeln!(text, "@@ {}", printable(&change.place));
        for (mark, side) in [('-', &change.before), ('+', &change.after)] {
            if let Some(side) = side {
                let _ = writeln!(text, "{mark} {}", printable(side));
            }
        }
    }
    text
}

/// At most three domains by name, with their verb.
fn are_listed(domains: &[String]) -> String {
    let named: Vec<String> = domains.iter().take(3).map(|domain| printable(domain)).collect();
    match (domains.len(), domains.len() - named.len()) {
        (1, _) => format!("{} was", named.join(", ")),
        (_, 0) => format!("{} were", named.join(", ")),
        (_, more) => format!("{} and {more} more were", named.join(", ")),
    }
}

fn tell(looked: &Looked, plan: &Plan, brief: &PlanStatus, approved: Option<bool>) -> String {
    let mut text = format!("{}  plan {}\n", printable(looked.name()), brief.digest);
    let _ = match approved {
        _ if !looked.outdated.is_empty() => {
            writeln!(
                text,
                "  not to be approved yet: the manifest, a list or a Secret was changed since {} looked at; look first:\n  mailferry run -f … \
                 --state … --stage Plan",
                are_listed(&looked.outdated)
            )
        }
        None => {
            writeln!(text, "  not approved; to approve just this plan: spec.approvedPlan: {}", brief.digest)
        }
        Some(true) => writeln!(text, "  approved"),
        Some(false) => {
            writeln!(text, "  NOT the approved plan: nothing is written; see what changed with --diff")
        }
    };
    let _ = writeln!(text, "\nDestination  {}", plan.destination);
    let believe = |text: &mut String, authorities: Option<&String>| {
        if let Some(authorities) = authorities {
            let _ = writeln!(text, "  authorities believed beside the system's: {authorities}");
        }
    };
    believe(&mut text, plan.authorities.as_ref());
    text.push_str("\nRules\n");
    for (field, value) in &plan.rules {
        let _ = writeln!(text, "  {}: {}", printable(field), printable(value));
    }
    for (name, domain) in &plan.domains {
        let _ = writeln!(text, "\n{name}  {domain}");
        believe(&mut text, domain.authorities.as_ref());
        for (address, mailbox) in &domain.mailboxes {
            let _ = writeln!(text, "  {address:36} {}", printable(&mailbox.to_string()));
        }
    }
    text
}
