//! A paper that a customer signs must hold what was found, all of what is left out, and nothing that somebody smuggled in.

use serde_json::{Value, json};

use super::Statement;
use crate::model::checklist::{Item, ItemState};
use crate::model::failure::FailureCode;
use crate::model::message::Verdict;
use crate::report::rows::Report;
use crate::report::{Format, Kind, fixture, write};

fn item(number: u8, field: &'static str, state: ItemState, value: Value) -> Item {
    let answered = matches!(state, ItemState::Answered | ItemState::Contradicted);
    let discovered = state == ItemState::Discovered;
    Item {
        number,
        title: "A title",
        domain: None,
        field,
        question: format!("What about {field}? At most 7."),
        state,
        answer: answered.then(|| value.clone()),
        discovered: discovered.then_some(value),
        contradiction: (state == ItemState::Contradicted).then(|| "Said 5, found 7.".to_owned()),
    }
}

fn of(domain: &str, item: Item) -> Item {
    Item { domain: Some(domain.to_owned()), ..item }
}

fn report() -> Report {
    let mut report = fixture::report();
    report.agreed.checklist = vec![
        item(1, "customer.contact", ItemState::Answered, json!("Ms | <Ito>")),
        item(2, "mailboxes", ItemState::Contradicted, json!(5)),
        item(8, "sizes.totalGigabytes", ItemState::Discovered, json!(3)),
        item(13, "mailFlow.gateway", ItemState::Answered, json!("a `gateway`\n| x")),
        item(15, "dates.cutover", ItemState::Answered, json!("2027-02-01")),
        of("a.test", item(4, "domains.dnsHost", ItemState::Unknown, Value::Null)),
        of("b.test", item(4, "domains.dnsHost", ItemState::Unknown, Value::Null)),
        item(19, "privacy", ItemState::Unknown, Value::Null),
        item(20, "acceptance", ItemState::Answered, json!("Mr O'Neill")),
    ];
    report
}

fn written(report: &Report, format: Format) -> String {
    let mut out = Vec::new();
    write(report, Kind::Sow, format, &mut out, |_| unreachable!("a statement names no message")).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_destination_is_said_to_take_the_largest_message_until_it_has_refused_one() {
    let says = |report: &Report| {
        let of = "The destination takes messages of";
        Statement::of(report).assumptions.iter().any(|sentence| sentence.starts_with(of))
    };
    let plain = report();
    assert!(says(&plain));
    let mut refused = report();
    let mut row = fixture::message(40, Verdict::Quarantined("Message too large".into()));
    row.code = Some(FailureCode::TooLarge);
    refused.exceptions.push(&row);
    assert!(!says(&refused), "a smaller one was too large");
    let mut lost = report();
    row = fixture::message(41, Verdict::Quarantined("no".into()));
    row.size = plain.totals().largest;
    lost.exceptions.push(&row);
    assert!(!says(&lost), "the largest was not carried");
}

#[test]
fn the_scope_adds_up_to_the_project_and_names_each_mailbox() {
    let report = report();
    let (statement, totals) = (Statement::of(&report), report.totals());
    let sum = |of: fn(&super::ScopeRow) -> u64| statement.scope.iter().map(of).sum::<u64>();
    assert_eq!(
        (sum(|r| r.mailboxes), sum(|r| r.messages), sum(|r| r.bytes)),
        (totals.mailboxes, totals.items, totals.bytes)
    );
    assert!(statement.scope.iter().any(|row| row.protocol.is_none()), "what cannot be read is told");
    for format in [Format::Html, Format::Markdown, Format::Json] {
        let text = written(&report, format);
        assert!(report.mailboxes.iter().all(|m| text.contains(&m.source.to_string())), "{format:?}");
    }
}

#[test]
fn a_smaller_scope_is_a_smaller_order() {
    use crate::model::evidence::Amount;
    use crate::model::protocol::Protocol;
    use crate::report::rows::PilotRow;

    let mut report = report();
    for row in &mut report.mailboxes {
        (row.passes, row.last_started, row.last_ended) = (0, None, None);
        row.left_out = Amount { messages: 7, bytes: 1_000_000 };
        row.pilot = row.endpoint.as_ref().map(|_| Amount { messages: 50, bytes: 2_000_000 });
    }
    let count = report.mailboxes.len() as u64;
    let whole = Statement::of(&report);
    assert_eq!(whole.left_out, Amount { messages: 7 * count, bytes: 1_000_000 * count });
    let seconds = whole.estimate.seconds;
    for format in [Format::Html, Format::Markdown] {
        let text = written(&report, format);
        let told = format!("By these rules {} messages", 7 * count);
        assert!(text.contains(&told) && !text.contains("pilot"), "{format:?}: {text}");
    }

    report.agreed.has_first_day = true;
    let pops = report.mailboxes.iter().filter(|row| row.protocol == Some(Protocol::Pop3)).count();
    assert!(written(&report, Format::Markdown).contains(&format!("POP3 tells no dates: of {pops} mailbox")));

    report.agreed.pilot = Some(PilotRow { mailboxes: Some(1), messages_per_folder: Some(50) });
    let pilot = Statement::of(&report);
    let readable: std::collections::BTreeSet<_> =
        report.mailboxes.iter().filter(|row| row.endpoint.is_some()).map(|row| &row.domain).collect();
    let mailboxes: u64 = pilot.scope.iter().map(|row| row.mailboxes).sum();
    let messages: u64 = pilot.scope.iter().map(|row| row.messages).sum();
    assert_eq!((mailboxes, messages), (readable.len() as u64, 50 * readable.len() as u64));
    assert!(pilot.estimate.seconds < seconds, "{:?}", pilot.estimate);
    let spared = pilot.mailboxes.iter().filter(|row| row.why == "not part of the pilot");
    assert!(spared.clone().count() > 0 && spared.clone().all(|row| row.messages == 0));
    for format in [Format::Html, Format::Markdown] {
        let text = written(&report, format);
        let said =
            "the newest 50 messages of each folder, of the first 1 mailbox of each domain that can be read";
        assert!(text.contains(said), "{format:?}: {text}");
    }
}

#[test]
fn all_that_is_lost_and_all_that_may_go_wrong_is_told() {
    let report = report();
    let text = written(&report, Format::Markdown);
    for share in report.domains.iter().flat_map(|domain| &domain.protocols) {
        assert!(share.losses.iter().all(|loss| text.contains(loss)), "{:?}", share.losses);
    }
    for part in [
        "Messages that arrived before 1 January 2015.",
        "Calendars, contacts, tasks",
        "- contoso.example, calendars: all of them; CalDAV at https&#58;//dav.contoso.example/",
        "PopMailboxesPresent for shop.example was accepted. Ms Sato: Customer archives",
        "measured while",
        "half as much again",
        "The destination takes messages of",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(report.findings.iter().all(|finding| text.contains(&finding.code.to_string())));
}

#[test]
fn answers_stand_with_whoever_gave_them_and_open_questions_apart() {
    let text = written(&report(), Format::Markdown);
    for part in [
        "For Contoso & Sons Ltd, Ms \\| &lt;Ito&gt;.",
        "| What about mailFlow.gateway? | all | a 'gateway'",
        "| What about dates.cutover? | all | 2027-02-01 |",
        "Signed by Mr O'Neill:",
        "- **To clear up, A title.** Said 5, found 7.",
        "- **A title.** What about domains.dnsHost? (a.test and b.test) What about privacy?\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("What about sizes"), "what discovery counted is the scope");
    assert_eq!(text.matches("What about dates.cutover?").count(), 1, "a day stands among the days alone");
    let page = written(&report(), Format::Html);
    for part in ["Said 5, found 7.", "What about privacy?", "2027-02-01", "to be planned for the first pass"]
    {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn no_line_of_the_markdown_begins_html_and_every_row_of_a_table_has_its_cells() {
    let text = written(&report(), Format::Markdown);
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut table = None;
    for line in text.lines() {
        assert!(!line.contains('<'), "{line}");
        table = line.starts_with('|').then(|| table.unwrap_or(columns(line)));
        assert!(table.is_none_or(|wanted| wanted == columns(line)), "{line}");
    }
}

#[test]
fn before_anything_was_found_out_the_statement_says_so() {
    let mut report = fixture::report();
    (report.domains, report.mailboxes, report.findings) = (Vec::new(), Vec::new(), Vec::new());
    for format in [Format::Html, Format::Markdown] {
        let text = written(&report, format);
        for part in
            ["Nothing was found out yet", "No size is known yet", "Nothing was found that stands in the way"]
        {
            assert!(text.contains(part), "{format:?}: {part}");
        }
    }
}

#[test]
fn a_statement_is_no_table_and_nothing_else_is_markdown() {
    let refused =
        |kind, format| write(&report(), kind, format, Vec::new(), |_| Ok(())).unwrap_err().hint.unwrap();
    assert!(refused(Kind::Sow, Format::Csv).contains("html, md or json"));
    assert!(refused(Kind::Sow, Format::Xlsx).contains("--kind migration"));
    assert!(refused(Kind::Discovery, Format::Markdown).contains("--kind sow"));
}
