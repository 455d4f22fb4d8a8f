//! The checklist as a form: Markdown to talk it through with a customer, YAML to fill in and put under `spec:`.

use std::fmt::Write;

use serde_json::Value;

use super::markdown::{cell, shown};
use crate::model::checklist::{Item, ItemState};
use crate::model::text::printable;

/// The form in Markdown: a section for each number, a row for each question, contradictions first.
pub fn markdown(name: &str, items: &[Item]) -> String {
    let count = |state: ItemState| items.iter().filter(|item| item.state == state).count();
    let mut text = format!("# Checklist before the order: {}\n\n", cell(&printable(name)));
    let _ = writeln!(
        text,
        "{} questions: {} answered, {} discovered, {} contradicted, {} unknown.",
        items.len(),
        count(ItemState::Answered),
        count(ItemState::Discovered),
        count(ItemState::Contradicted),
        count(ItemState::Unknown)
    );
    let contradictions: Vec<&Item> = items.iter().filter(|i| i.contradiction.is_some()).collect();
    if !contradictions.is_empty() {
        text.push_str("\n## To clear up first\n\n");
        for item in contradictions {
            let domain = item.domain.as_ref().map(|d| format!("{d}: ")).unwrap_or_default();
            let said = item.contradiction.as_deref().unwrap_or_default();
            let _ = writeln!(text, "- **{}. {}** {}{}", item.number, item.title, domain, cell(said));
        }
    }
    let mut number = 0;
    for item in items {
        if item.number != number {
            number = item.number;
            let _ = write!(
                text,
                "\n## {number}. {}\n\n| Question | For | State | Answer | Discovered |\n| --- | --- | --- | --- | --- |\n",
                item.title
            );
        }
        let value = |value: &Option<Value>| value.as_ref().map(|v| cell(&shown(v))).unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            cell(&item.question),
            item.domain.as_deref().unwrap_or("all"),
            item.state,
            value(&item.answer),
            value(&item.discovered)
        );
    }
    text
}

/// A key of `spec.checklist` with the items below it.
struct Branch<'a> {
    name: &'a str,
    items: Vec<&'a Item>,
}

/// The form in YAML, as a manifest has it: what was answered or discovered is filled in, what is unknown is a
/// comment to be filled in.
pub fn yaml(name: &str, items: &[Item]) -> String {
    let mut text = format!(
        "# The checklist before the order of {}. Put it into the manifest; fill in what stands behind #.\nspec:\n",
        printable(name)
    );
    let filled = |item: &Item| item.answer.is_some() || item.discovered.is_some();
    let _ = writeln!(text, "  checklist:{}", if items.iter().any(filled) { "" } else { " {}" });
    let mut branches: Vec<Branch<'_>> = Vec::new();
    for item in items {
        let name = item.field.split('.').next().unwrap_or_default();
        match branches.iter_mut().find(|branch| branch.name == name) {
            Some(branch) => branch.items.push(item),
            None => branches.push(Branch { name, items: vec![item] }),
        }
    }
    for branch in branches {
        if branch.name == "domains" {
            domains(&mut text, &branch.items);
            continue;
        }
        let whole = branch.items.iter().any(|item| filled(item));
        if branch.items.iter().any(|item| item.field.contains('.')) {
            let _ = writeln!(text, "    {}{}:", if whole { "" } else { "# " }, branch.name);
        }
        for item in &branch.items {
            let depth = if item.field.contains('.') { "      " } else { "    " };
            field(&mut text, depth, item);
        }
    }
    text
}

fn domains(text: &mut String, items: &[&Item]) {
    let mut names: Vec<&str> = Vec::new();
    for name in items.iter().filter_map(|item| item.domain.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    text.push_str("    domains:\n");
    for name in names {
        let _ = writeln!(text, "    - name: {}", Value::from(name));
        for item in items.iter().filter(|item| item.domain.as_deref() == Some(name)) {
            field(text, "      ", item);
        }
    }
}

fn field(text: &mut String, depth: &str, item: &Item) {
    let name = item.field.rsplit('.').next().unwrap_or_default();
    let note = match item.state {
        ItemState::Answered | ItemState::Unknown => String::new(),
        ItemState::Discovered => " Discovered; confirm it.".to_owned(),
        ItemState::Contradicted => {
            format!(" CONTRADICTED: {}", item.contradiction.as_deref().unwrap_or_default())
        }
    };
    let _ = writeln!(text, "{depth}# {}. {}{}", item.number, item.question, note);
    match item.answer.as_ref().or(item.discovered.as_ref()) {
        // JSON is YAML.
        Some(value) => drop(writeln!(text, "{depth}{name}: {value}")),
        None => drop(writeln!(text, "{depth}# {name}:")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(
        number: u8,
        field: &'static str,
        domain: Option<&str>,
        answer: Option<Value>,
        found: Option<Value>,
    ) -> Item {
        let state = match (&answer, &found) {
            (Some(a), Some(f)) if a != f => ItemState::Contradicted,
            (Some(_), _) => ItemState::Answered,
            (None, Some(_)) => ItemState::Discovered,
            (None, None) => ItemState::Unknown,
        };
        let contradiction = (state == ItemState::Contradicted).then(|| "One of | the two.".to_owned());
        let (domain, question) = (domain.map(str::to_owned), format!("What about {field}?"));
        Item {
            number,
            title: "A title",
            domain,
            field,
            question,
            state,
            answer,
            discovered: found,
            contradiction,
        }
    }

    #[test]
    fn a_form_says_how_each_question_stands_and_its_cells_hold() {
        let items = [
            item(1, "customer.name", None, Some(json!("A | <b>")), None),
            item(2, "mailboxes", None, Some(json!(6)), Some(json!(7))),
            item(5, "domains.protocols", Some("a.test"), None, Some(json!(["IMAP", "POP3"]))),
            item(20, "acceptance", None, None, None),
        ];
        let text = markdown("contoso", &items);
        for part in [
            "4 questions: 1 answered, 1 discovered, 1 contradicted, 1 unknown.",
            "- **2. A title** One of \\| the two.",
            "| What about customer.name? | all | answered | A \\| &lt;b&gt; |  |",
            "| What about domains.protocols? | a.test | discovered |  | IMAP, POP3 |",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = yaml("contoso", &items);
        for part in [
            "    customer:\n      # 1. What about customer.name?\n      name: \"A | <b>\"\n",
            "    # 2. What about mailboxes? CONTRADICTED: One of | the two.\n    mailboxes: 6\n",
            "    - name: \"a.test\"\n      # 5. What about domains.protocols? Discovered; confirm it.\n      protocols: [\"IMAP\",\"POP3\"]\n",
            "    # 20. What about acceptance?\n    # acceptance:\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
