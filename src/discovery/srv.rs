//! Service records (RFC 6186, RFC 8314, RFC 2782): `_imaps`, `_imap`, `_pop3s` and `_pop3`. A target of `.` says that a
//! service is decidedly not offered; then it is not guessed either. Beside them those of JMAP, DAV, `ManageSieve` and
//! Autodiscover, which the signals of these services follow.

use futures::future::join_all;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, Record as DnsRecord, RecordType};

use super::Clock;
use super::signals::{Heard, Named, Published};
use crate::model::address::Domain;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::failure::{Class, Failure, FailureCode};
use crate::model::protocol::{Protocol, Tls};
use crate::model::service::Service;
use crate::model::text::printable;
use crate::net::network::Network;

/// The services, what they speak, and how their channel is secured. The names without `s` mean STARTTLS: a password
/// never goes out before TLS.
const SERVICES: [(&str, Protocol, Tls); 4] = [
    ("_imaps", Protocol::Imap, Tls::Implicit),
    ("_imap", Protocol::Imap, Tls::StartTLS),
    ("_pop3s", Protocol::Pop3, Tls::Implicit),
    ("_pop3", Protocol::Pop3, Tls::StartTLS),
];

/// Services beside IMAP and POP3 (RFC 8620 §2.2, RFC 6764, RFC 5804 §1.8), all of which begin TLS before anything
/// is said; `None` is Autodiscover.
const OTHERS: [(&str, Option<Service>); 5] = [
    ("_jmap", Some(Service::Jmap)),
    ("_caldavs", Some(Service::CalDav)),
    ("_carddavs", Some(Service::CardDav)),
    ("_sieve", Some(Service::ManageSieve)),
    ("_autodiscover", None),
];

/// The most records of one service that are read.
const RECORDS_MAX: usize = 20;

/// One record's data, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    port: u16,
    /// Lower case, without the final dot; empty for the target `.`.
    target: String,
}

/// Asks for all services of the domain at once.
pub(super) async fn ask(network: &Network, domain: &Domain, clock: &dyn Clock) -> Heard {
    let mut heard = Heard::default();
    let services = join_all(SERVICES.map(|service| ask_service(network, domain, service, clock)));
    let (services, others) = futures::join!(services, ask_others(network, domain, clock));
    for answered in services.into_iter().chain([others]) {
        heard.add(answered);
    }
    // "_imap: ." beside a real "_imaps" means: no STARTTLS port. The protocol itself is offered.
    let published = std::mem::take(&mut heard.denied);
    heard.denied =
        Protocol::OF_SERVERS.into_iter().filter(|p| published.contains(p) && !heard.names(*p)).collect();
    heard
}

/// Asks for the other services. That none of them has a record is one line of evidence, not five.
async fn ask_others(network: &Network, domain: &Domain, clock: &dyn Clock) -> Heard {
    let mut heard = Heard::default();
    let mut absent: Vec<&str> = Vec::new();
    let names = OTHERS.map(|(service, _)| format!("{service}._tcp.{domain}"));
    let answers = join_all(names.iter().map(|name| network.look_up(name, RecordType::SRV))).await;
    let at = clock.now();
    for ((name, service), answer) in OTHERS.into_iter().zip(answers) {
        let records = match answer {
            Ok(lookup) => sort((lookup.answers().iter()).filter_map(read).take(RECORDS_MAX).collect()),
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
                absent.push(name);
                continue;
            }
            Err(error) => {
                heard.fail(Signal::Srv, Grade::C, at, &format!("{name}._tcp SRV"), explain(&error));
                continue;
            }
        };
        for Record { priority, weight, port, target } in records {
            if target.is_empty() {
                let statement = format!("{name}._tcp SRV → \".\": not offered");
                heard.note(Signal::Srv, Grade::C, at, Outcome::NotOffered, statement);
                continue;
            }
            let statement = format!("{name}._tcp SRV → {}:{port}", printable(&target));
            let words = format!("{name}._tcp.{domain}. SRV {priority} {weight} {port} {target}.");
            heard.quote(Signal::Srv, Grade::C, at, statement, &words);
            heard.named.push(Named { service, host: target, port });
        }
    }
    if !absent.is_empty() {
        let statement = format!("no SRV record of {}", absent.join(", "));
        heard.note(Signal::Srv, Grade::C, at, Outcome::NotOffered, statement);
    }
    heard
}

fn read(record: &DnsRecord) -> Option<Record> {
    let RData::SRV(srv) = &record.data else { return None };
    Some(Record {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target: srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
    })
}

async fn ask_service(
    network: &Network,
    domain: &Domain,
    (service, protocol, tls): (&str, Protocol, Tls),
    clock: &dyn Clock,
) -> Heard {
    let mut heard = Heard::default();
    let name = format!("{service}._tcp.{domain}");
    let answer = network.look_up(&name, RecordType::SRV).await;
    let at = clock.now();
    let note = |heard: &mut Heard, statement| {
        heard.note(Signal::Srv, Grade::C, at, Outcome::NotOffered, statement);
    };
    match answer {
        Ok(lookup) => {
            let records = lookup.answers().iter().filter_map(read);
            for (rank, record) in sort(records.take(RECORDS_MAX).collect()).into_iter().enumerate() {
                if record.target.is_empty() {
                    heard.denied.push(protocol);
                    note(
                        &mut heard,
                        format!("{service}._tcp SRV → \".\": {protocol} with {tls} is not offered"),
                    );
                    continue;
                }
                let endpoint = Endpoint::new(protocol, &record.target, record.port, tls);
                let statement = format!("{service}._tcp SRV → {}", printable(&endpoint.address()));
                let excerpt = format!(
                    "{name}. SRV {} {} {} {}.",
                    record.priority, record.weight, record.port, record.target
                );
                let published = Published {
                    endpoint,
                    signal: Signal::Srv,
                    grade: Grade::C,
                    trusted: false,
                    rank,
                    username: None,
                };
                heard.publish(published, at, statement, Some(&excerpt));
            }
        }
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
            note(&mut heard, format!("{service}._tcp has no SRV record"));
        }
        Err(error) => {
            heard.fail(Signal::Srv, Grade::C, at, &format!("{service}._tcp SRV"), explain(&error));
        }
    }
    heard
}

/// Lower priority first, then the greater weight. RFC 2782 draws lots among weights to spread load; a migration looks
/// at each candidate and wants the same order every time.
fn sort(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|a, b| {
        (a.priority, std::cmp::Reverse(a.weight), &a.target, a.port).cmp(&(
            b.priority,
            std::cmp::Reverse(b.weight),
            &b.target,
            b.port,
        ))
    });
    records
}

/// Why a lookup has no answer, other than that there is nothing to find.
pub(super) fn explain(error: &NetError) -> Failure {
    Failure::new(Class::Unreachable, format!("cannot be looked up: {}", printable(&error.to_string())))
        .code(FailureCode::NameUnanswered)
        .hint("check the name servers, or give one with --resolver IP:PORT")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_by_priority_then_weight_then_name() {
        let record =
            |priority, weight, target: &str| Record { priority, weight, port: 993, target: target.into() };
        let sorted = sort(vec![
            record(10, 5, "c"),
            record(0, 1, "b"),
            record(10, 50, "d"),
            record(0, 1, "a"),
            record(20, 99, "e"),
        ]);
        let order: Vec<_> = sorted.iter().map(|r| r.target.as_str()).collect();
        assert_eq!(order, ["a", "b", "d", "c", "e"]);
    }
}
