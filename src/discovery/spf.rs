//! SPF (RFC 7208): who may send the domain's mail. Where that is somebody who also keeps mailboxes, it is a hint of grade D
//! that these may be there, filters in front of them or not; it never decides anything by itself.

use super::signals::{Asking, Heard};
use super::srv::explain;
use super::txt;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::provider::{Kind, Provider, by_host};
use crate::model::text::printable;

const SIGNAL: Signal = Signal::Spf;
/// The most names of one record that are looked at; RFC 7208 §4.6.4 allows ten lookups.
const NAMES_MAX: usize = 10;

/// Asks for the domain's record.
pub(super) async fn ask(asking: Asking<'_>) -> Heard {
    let domain = asking.request.domain.as_str();
    let mut heard = Heard::default();
    let answer = txt::look_up(asking.network, domain).await;
    let at = asking.clock.now();
    let texts = match answer {
        Err(error) => {
            heard.fail(SIGNAL, Grade::D, at, &format!("{domain} SPF"), explain(&error));
            return heard;
        }
        Ok(texts) => texts,
    };
    let Some(record) = texts.iter().find(|text| is_spf(text)) else {
        heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, format!("{domain} has no SPF record"));
        return heard;
    };
    let known = senders(record);
    if known.is_empty() {
        let statement = format!("{domain} SPF names nobody whose mailboxes these may be");
        heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, statement);
    }
    for (name, provider) in known {
        let statement = format!("{domain} SPF → {}, which is {provider}", printable(&name));
        heard.quote(SIGNAL, Grade::D, at, statement, record);
        // A filter or a hoster that sends says nothing that would have to be asked elsewhere.
        if matches!(provider.kind, Kind::Microsoft | Kind::Google) {
            heard.providers.push(provider);
        }
    }
    heard
}

/// Whether a text is an SPF record.
pub(super) fn is_spf(text: &str) -> bool {
    let version = text.split(' ').next().unwrap_or_default();
    version.eq_ignore_ascii_case("v=spf1")
}

/// The names in a record that are of somebody known, one for each; what the record refuses is left out.
fn senders(record: &str) -> Vec<(String, &'static Provider)> {
    let name = |term: &str| {
        let term = term.trim_start_matches(['+', '~', '?']).to_ascii_lowercase();
        let name = ["include:", "redirect="].iter().find_map(|start| term.strip_prefix(start))?;
        Some((name.to_owned(), by_host(name)?))
    };
    let mut known: Vec<(String, &'static Provider)> = Vec::new();
    for (name, provider) in record.split(' ').filter_map(name).take(NAMES_MAX) {
        if known.iter().all(|(_, other)| other.name != provider.name) {
            known.push((name, provider));
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_may_send_are_known_once_and_others_passed_over() {
        for (record, expected) in [
            ("v=spf1 include:spf.protection.outlook.com -all", vec!["Microsoft 365"]),
            ("v=spf1 ip4:192.0.2.1 ?INCLUDE:_spf.google.com ~all", vec!["Google Workspace"]),
            ("v=spf1 include:_spf.google.com include:smtp.google.com a mx -all", vec!["Google Workspace"]),
            ("v=spf1 redirect=_spf.google.com", vec!["Google Workspace"]),
            ("v=spf1 -include:_spf.google.com include:mail.elsewhere.example +all", vec![]),
            ("v=spf1 a:outlook.com exists:%{i}.google.com -all", vec![]),
            ("v=spf1", vec![]),
        ] {
            let names: Vec<_> = senders(record).iter().map(|(_, provider)| provider.name).collect();
            assert_eq!(names, expected, "{record}");
        }
    }

    #[test]
    fn other_texts_are_no_spf() {
        for (text, expected) in [
            ("v=spf1 -all", true),
            ("V=SPF1", true),
            ("v=spf10 include:_spf.google.com", false),
            ("spf2.0/pra include:_spf.google.com", false),
            ("google-site-verification=abc", false),
            ("", false),
        ] {
            assert_eq!(is_spf(text), expected, "{text}");
        }
    }
}
