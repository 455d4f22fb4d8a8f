//! The statement of work in Markdown, to be worked on: the consultant's own words go in between.

use std::fmt::Write;

use super::{Answer, Statement};
use crate::report::markdown::cell;
use crate::report::words;

/// The whole statement.
pub(super) fn text(statement: &Statement<'_>) -> String {
    let mut out = String::new();
    head(&mut out, statement);
    scope(&mut out, statement);
    out.push_str("\n## 2. Method\n\n");
    for (name, sentence) in words::METHOD {
        let _ = writeln!(out, "- **{name}.** {sentence}");
    }
    let _ = writeln!(out, "- **Proof.** {}", statement.verification);
    list(&mut out, "3. Assumptions", &statement.assumptions);
    if !statement.answers.is_empty() {
        out.push_str("\n### Answers of the customer\n");
        answers(&mut out, &statement.answers);
    }
    list(&mut out, "4. Not carried", &statement.exclusions);
    risks(&mut out, statement);
    time(&mut out, statement);
    open(&mut out, statement);
    mailboxes(&mut out, statement);
    out
}

fn head(out: &mut String, statement: &Statement<'_>) {
    let _ = writeln!(out, "# Statement of work: {}\n", cell(statement.name));
    if let Some(customer) = statement.customer {
        let contact = statement.contact.as_ref().map(|c| format!(", {}", cell(c))).unwrap_or_default();
        let _ = writeln!(out, "For {}{contact}.\n", cell(customer));
    }
    let plan =
        statement.plan_digest.map_or_else(String::new, |digest| format!(" It is about the plan {digest}."));
    let _ = writeln!(
        out,
        "Made by Mailferry {} on {}.{plan} The work is the copying of mail to {} at {}, port {}.",
        statement.version,
        words::moment(statement.generated),
        statement.destination.kind,
        cell(&statement.destination.host),
        statement.destination.port
    );
}

fn scope(out: &mut String, statement: &Statement<'_>) {
    out.push_str("\n## 1. Scope\n\n");
    if let Some(pilot) = &statement.pilot {
        let _ = writeln!(out, "{}\n", cell(pilot));
    }
    if statement.scope.is_empty() {
        out.push_str("Nothing was found out yet: `mailferry run --stage Plan` comes first.\n");
        return;
    }
    out.push_str("| Domain | Read by | Mailboxes | Messages | Size | Carried | Servers |\n");
    out.push_str("| --- | --- | ---: | ---: | ---: | ---: | --- |\n");
    for row in &statement.scope {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            cell(&row.domain),
            row.protocol.map_or_else(|| "nothing yet".to_owned(), |p| p.to_string()),
            words::count(row.mailboxes),
            words::count(row.messages),
            words::bytes(row.bytes),
            row.fidelity.map(|f| format!("{f} %")).unwrap_or_default(),
            cell(&words::some_of(&row.servers, 3))
        );
    }
}

fn list(out: &mut String, title: &str, sentences: &[String]) {
    let _ = write!(out, "\n## {title}\n\n");
    for sentence in sentences {
        let _ = writeln!(out, "- {}", cell(&crate::model::text::printable(sentence)));
    }
}

fn answers(out: &mut String, rows: &[Answer<'_>]) {
    out.push_str("\n| Question | For | Answer |\n| --- | --- | --- |\n");
    for row in rows {
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            cell(&row.question),
            cell(row.domain.unwrap_or("all")),
            cell(&row.answer)
        );
    }
}

fn risks(out: &mut String, statement: &Statement<'_>) {
    out.push_str("\n## 5. Risks\n\n");
    if statement.risks.is_empty() {
        out.push_str("Nothing was found that stands in the way.\n");
        return;
    }
    out.push_str("| Weight | Finding | Where | Remedy |\n| --- | --- | --- | --- |\n");
    for row in statement.risks {
        let accepted =
            row.acknowledged.as_ref().map(|reason| format!(" Accepted: {reason}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} ({}) | {} | {}{} |",
            row.severity,
            cell(&crate::model::text::printable(&row.message)),
            row.code,
            cell(row.domain.as_ref().map_or("all", |domain| domain.as_str())),
            cell(row.remedy),
            cell(&crate::model::text::printable(&accepted))
        );
    }
}

fn time(out: &mut String, statement: &Statement<'_>) {
    let estimate = &statement.estimate;
    out.push_str("\n## 6. Time\n\n");
    if estimate.lines.is_empty() {
        out.push_str("No size is known yet, so there is no estimate.\n");
    } else {
        out.push_str(
            "The first pass carries all that is in the scope, at the pace of the slowest limit:\n\n",
        );
        for line in &estimate.lines {
            let _ = writeln!(
                out,
                "- {} ÷ {} = {} ({})",
                line.amount,
                line.rate,
                words::duration(line.seconds),
                line.basis
            );
        }
        let _ = writeln!(
            out,
            "\nThat is {}; {} are to be planned, which is half as much again. Later passes carry what is new and take a \
             fraction of it.",
            words::duration(estimate.seconds),
            words::duration(estimate.planned_seconds)
        );
    }
    if !statement.dates.is_empty() {
        out.push_str("\n### Days\n");
        answers(out, &statement.dates);
    }
    out.push_str("\n## 7. Acceptance\n\n");
    let _ = writeln!(
        out,
        "The work is done when each message that the old servers hold is copied, left out by a rule named above, or named with \
         the reason for which it could not be carried, and the report of the migration proves it. {}",
        statement.verification
    );
    let signs = statement.acceptance.as_deref().unwrap_or("the customer");
    let _ = writeln!(out, "\nSigned by {}: ______________________  on: ____________", cell(signs));
}

fn open(out: &mut String, statement: &Statement<'_>) {
    if statement.open.is_empty() {
        return;
    }
    out.push_str("\n## 8. Open questions\n\n");
    for question in statement.contradicted() {
        let said = question.contradiction.unwrap_or_default();
        let _ = writeln!(out, "- **To clear up, {}.** {}", question.whose(), cell(said));
    }
    for (title, questions) in statement.unanswered() {
        let asked: Vec<String> = questions.iter().map(|question| question.asked()).collect();
        let _ = writeln!(out, "- **{title}.** {}", cell(&asked.join(" ")));
    }
}

fn mailboxes(out: &mut String, statement: &Statement<'_>) {
    if statement.mailboxes.is_empty() {
        return;
    }
    out.push_str("\n## Appendix: mailboxes\n\n");
    out.push_str(
        "| From | To | Read by | Messages | Size | Why |\n| --- | --- | --- | ---: | ---: | --- |\n",
    );
    for row in &statement.mailboxes {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            cell(&row.source),
            cell(&row.destination),
            cell(row.server.as_deref().unwrap_or("nothing yet")),
            words::count(row.messages),
            words::bytes(row.bytes),
            cell(&words::peer(row.why))
        );
    }
}
