//! MX records (RFC 5321 §5). They say who takes mail in, which may be a filter in front of the real store: a hint of grade
//! D that never decides anything by itself. Whose the hosts are is looked up in `model::provider`.

use hickory_resolver::proto::rr::{RData, RecordType};
use jiff::Timestamp;

use super::Clock;
use super::signals::Heard;
use super::srv::explain;
use crate::model::address::Domain;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::provider::by_host;
use crate::model::text::printable;
use crate::net::network::Network;

/// The most records that are read.
const RECORDS_MAX: usize = 20;

/// Asks for the domain's mail exchangers.
pub(super) async fn ask(network: &Network, domain: &Domain, clock: &dyn Clock) -> Heard {
    let mut heard = Heard::default();
    let answer = network.look_up(domain.as_str(), RecordType::MX).await;
    let at = clock.now();
    match answer {
        Ok(lookup) => {
            let mut records: Vec<_> = (lookup.answers().iter())
                .filter_map(|record| match &record.data {
                    RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii())),
                    _ => None,
                })
                .take(RECORDS_MAX)
                .collect();
            records.sort();
            for (preference, exchange) in records {
                let host = exchange.trim_end_matches('.').to_ascii_lowercase();
                if host.is_empty() {
                    // RFC 7505: a null MX.
                    let statement = format!("{domain} MX says that the domain takes no mail");
                    heard.note(Signal::Mx, Grade::D, at, Outcome::NotOffered, statement);
                } else {
                    let statement = format!("{domain} MX {preference} → {}", printable(&host));
                    heard.note(Signal::Mx, Grade::D, at, Outcome::Offered, statement);
                    tell_provider(&mut heard, &host, at);
                    heard.exchangers.push(host);
                }
            }
        }
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
            heard.domain_missing = error.is_nx_domain();
            let statement = if heard.domain_missing {
                format!("the name {domain} does not exist in the DNS")
            } else {
                format!("{domain} has no MX record")
            };
            heard.note(Signal::Mx, Grade::D, at, Outcome::NotOffered, statement);
        }
        Err(error) => heard.fail(Signal::Mx, Grade::D, at, &format!("{domain} MX"), explain(&error)),
    }
    heard
}

/// Says once whose an exchanger is.
fn tell_provider(heard: &mut Heard, host: &str, at: Timestamp) {
    let Some(provider) = by_host(host) else { return };
    if heard.providers.iter().any(|known| known.name == provider.name) {
        return;
    }
    let statement = format!("{} is {provider}", printable(host));
    let words = format!("*.{} ({})", provider.suffix, provider.source);
    heard.quote(Signal::Mx, Grade::D, at, statement, &words);
    heard.providers.push(provider);
}
