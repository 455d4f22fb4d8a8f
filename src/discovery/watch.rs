//! The watch over the records of a domain that moves: each name server of its zone is asked by itself, and the resolver, at one
//! moment. One that fails is told and stops nobody.
//!
//! It connects to nobody but name servers, changes nothing, and takes a few seconds at most. A caller that asks again and
//! again hands in what it saw before: name servers that were taken out of the zone are asked as long as others may remember them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures::future::join_all;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::{Clock, spf};
use crate::model::address::Domain;
use crate::model::dns::{
    Data, DnsFacts, Listed, Problem, Question, RecordKind, Said, Server, Sighting, bare,
};
use crate::net::dns::{Manner, NoAnswer};
use crate::net::network::Network;

/// The most name servers of a zone that are asked; 13 is all that fits into an answer of old.
const SERVERS_MAX: usize = 13;
/// The most addresses of one name server that are asked.
const ADDRESSES_MAX: usize = 4;
/// The most records of one answer that are read, and the most bytes of one text.
const RECORDS_MAX: usize = 30;
const TEXT_MAX: usize = 4_096;

/// Asks about a domain, and says what was seen.
pub async fn watch(
    network: &Network,
    domain: &Domain,
    questions: &BTreeSet<Question>,
    before: &DnsFacts,
    clock: &dyn Clock,
) -> DnsFacts {
    let watching = Watching { network, questions, clock };
    let mut seen = DnsFacts::default();
    let found = find_zone(network, domain.as_str()).await;
    let at = clock.now();
    if let Some((zone, servers, ttl)) = found {
        seen.zone = Some((at, zone));
        seen.listed = Some(at);
        watching.list(&mut seen, servers, ttl).await;
    }
    let former = before.serving(at).filter(|(name, _)| !seen.name_servers.contains_key(*name));
    let former: Vec<(String, BTreeSet<IpAddr>)> =
        former.map(|(name, listed)| (name.clone(), listed.addresses.clone())).collect();
    let asked = seen.name_servers.iter().map(|(name, listed)| (name.clone(), listed.addresses.clone()));
    let asked: Vec<_> = asked.chain(former).take(SERVERS_MAX).collect();
    let zone = seen.zone.clone().or_else(|| before.zone.clone()).map(|(_, zone)| zone);
    let servers = join_all(asked.iter().map(|server| watching.ask_server(server, zone.as_deref())));
    let (servers, resolver) = futures::join!(servers, watching.ask_resolver());
    let known: BTreeSet<&String> = asked.iter().map(|(name, _)| name).collect();
    let mut others: BTreeMap<String, u32> = BTreeMap::new();
    for heard in servers {
        others.extend(heard.listed.into_iter().filter(|(name, _)| !known.contains(name)));
        seen.merge(heard.facts);
    }
    seen.merge(resolver);
    // A zone that lists more than the resolver remembers.
    if let (Some(zone), false) = (&zone, others.is_empty()) {
        let at = clock.now();
        let ttl = others.values().copied().max().unwrap_or_default();
        let names = others.into_keys().take(SERVERS_MAX).collect();
        let mut more = DnsFacts { listed: Some(at), ..DnsFacts::default() };
        watching.list(&mut more, names, ttl).await;
        let asked: Vec<_> =
            more.name_servers.iter().map(|(name, listed)| (name.clone(), listed.addresses.clone())).collect();
        let servers = join_all(asked.iter().map(|server| watching.ask_server(server, Some(zone)))).await;
        for listed in seen.name_servers.values_mut() {
            listed.last = at;
        }
        seen.merge(more);
        for heard in servers {
            seen.merge(heard.facts);
        }
    }
    seen
}

/// The zone that a name is in, its name servers as the resolver knows them, and how long they may be remembered: the nearest name
/// above that has NS records. `None` where the resolver knows none.
async fn find_zone(network: &Network, name: &str) -> Option<(String, BTreeSet<String>, u32)> {
    let mut name = bare(name);
    loop {
        let answer = match network.ask_resolver(&name, RecordType::NS, Manner::Resolver).await {
            // Wrong signatures hide no name servers from us.
            Ok(answer) if answer.metadata.response_code == ResponseCode::ServFail => {
                network.ask_resolver(&name, RecordType::NS, Manner::Unchecked).await
            }
            answer => answer,
        };
        let answer = answer.ok()?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            // Below a name that fails nobody knows where its zone begins.
            _ => return None,
        }
        let (servers, ttl) = name_servers(&answer, &name);
        if !servers.is_empty() {
            return Some((name, servers, ttl));
        }
        name = name.split_once('.')?.1.to_owned();
    }
}

/// The name servers that an answer lists for a name itself, and how long that may be remembered.
fn name_servers(answer: &Message, name: &str) -> (BTreeSet<String>, u32) {
    let listed = answer.answers.iter().filter(|record| text(&record.name) == name);
    let servers: Vec<(String, u32)> = listed
        .filter_map(|record| match &record.data {
            RData::NS(ns) => Some((text(ns), record.ttl)),
            _ => None,
        })
        .take(SERVERS_MAX)
        .collect();
    let ttl = servers.iter().map(|(_, ttl)| *ttl).max().unwrap_or_default();
    (servers.into_iter().map(|(server, _)| server).collect(), ttl)
}

/// A name in lower case, without the final dot.
fn text(name: &Name) -> String {
    bare(&name.to_ascii())
}

/// The word of one name server, and the name servers that it lists.
struct Heard {
    facts: DnsFacts,
    listed: BTreeMap<String, u32>,
}

struct Watching<'a> {
    network: &'a Network,
    questions: &'a BTreeSet<Question>,
    clock: &'a dyn Clock,
}

impl Watching<'_> {
    /// Adds name servers with their addresses.
    async fn list(&self, seen: &mut DnsFacts, names: BTreeSet<String>, ttl: u32) {
        let addresses = join_all(names.iter().map(|name| self.addresses(name))).await;
        let at = self.clock.now();
        let at = seen.listed.unwrap_or(at);
        for (name, addresses) in names.into_iter().zip(addresses) {
            seen.list(name, Listed { first: at, last: at, ttl, addresses });
        }
    }

    /// The addresses of a name server, of both kinds in turn.
    async fn addresses(&self, name: &str) -> BTreeSet<IpAddr> {
        let look_up = async |kind| {
            let answer = match self.network.ask_resolver(name, kind, Manner::Resolver).await {
                Ok(answer) if answer.metadata.response_code == ResponseCode::ServFail => {
                    self.network.ask_resolver(name, kind, Manner::Unchecked).await
                }
                answer => answer,
            };
            let answers = answer.map(|answer| answer.answers).unwrap_or_default();
            let addresses = answers.iter().filter_map(|record| match record.data {
                RData::A(address) => Some(IpAddr::from(address.0)),
                RData::AAAA(address) => Some(IpAddr::from(address.0)),
                _ => None,
            });
            addresses.take(ADDRESSES_MAX / 2).collect::<Vec<_>>()
        };
        let (v4, v6) = futures::join!(look_up(RecordType::A), look_up(RecordType::AAAA));
        v4.into_iter().chain(v6).collect()
    }

    /// Asks one name server everything, at each of its addresses.
    async fn ask_server(&self, (name, addresses): &(String, BTreeSet<IpAddr>), zone: Option<&str>) -> Heard {
        let mut heard = Heard { facts: DnsFacts::default(), listed: BTreeMap::new() };
        let server = |address| Server::Authority { name: name.clone(), address };
        if addresses.is_empty() {
            self.fail(&mut heard.facts, &server(None), Problem::NoAddress, self.questions.iter());
            return heard;
        }
        let asked = addresses.iter().take(ADDRESSES_MAX).map(|address| async move {
            let mut seen = DnsFacts::default();
            let who = server(Some(*address));
            let mut open = self.questions.iter();
            while let Some(question) = open.next() {
                let answer = self.network.ask_authority(*address, &question.name, type_of(question.kind)).await;
                let said = answer.map_or_else(|nothing| Said::Failed(problem(nothing)), |a| read(&a, question, true));
                let at = self.clock.now();
                // Whoever cannot be reached is not asked ten times more.
                let gone = matches!(&said, Said::Failed(p) if matches!(p, Problem::Silent | Problem::Unreachable | Problem::NotAllowed));
                seen.add(question, &who, Sighting { at, said: said.clone() });
                if let (true, Said::Failed(problem)) = (gone, said) {
                    self.fail(&mut seen, &who, problem, open);
                    return (seen, None);
                }
            }
            let listed = match zone {
                Some(zone) => self.network.ask_authority(*address, zone, RecordType::NS).await.ok(),
                None => None,
            };
            (seen, listed.filter(|answer| answer.metadata.authoritative))
        });
        for (seen, listed) in join_all(asked).await {
            heard.facts.merge(seen);
            if let (Some(answer), Some(zone)) = (listed, zone) {
                let (servers, ttl) = name_servers(&answer, zone);
                heard.listed.extend(servers.into_iter().map(|server| (server, ttl)));
            }
        }
        heard
    }

    /// Notes for questions that were not put why they were not.
    fn fail<'q>(
        &self,
        seen: &mut DnsFacts,
        server: &Server,
        problem: Problem,
        questions: impl Iterator<Item = &'q Question>,
    ) {
        let at = self.clock.now();
        for question in questions {
            seen.add(question, server, Sighting { at, said: Said::Failed(problem) });
        }
    }

    /// Asks the resolver everything.
    async fn ask_resolver(&self) -> DnsFacts {
        let mut seen = DnsFacts::default();
        let mut open = self.questions.iter();
        while let Some(question) = open.next() {
            let kind = type_of(question.kind);
            let ask = |manner| self.network.ask_resolver(&question.name, kind, manner);
            let answer = ask(Manner::Resolver).await;
            let mut said = match &answer {
                Ok(answer) => read(answer, question, false),
                Err(nothing) => Said::Failed(problem(*nothing)),
            };
            if said == Said::Failed(Problem::Failing)
                && let Ok(unchecked) = ask(Manner::Unchecked).await
                && read(&unchecked, question, false).data().is_some()
            {
                said = Said::Failed(Problem::Bogus);
            }
            let at = self.clock.now();
            seen.add(question, &Server::Resolver, Sighting { at, said });
            if let Err(nothing @ (NoAnswer::Silent | NoAnswer::Unreachable)) = answer {
                self.fail(&mut seen, &Server::Resolver, problem(nothing), open);
                return seen;
            }
        }
        seen
    }
}

fn problem(nothing: NoAnswer) -> Problem {
    match nothing {
        NoAnswer::Silent => Problem::Silent,
        NoAnswer::Unreachable => Problem::Unreachable,
        NoAnswer::Garbled => Problem::Garbled,
        NoAnswer::NotAllowed => Problem::NotAllowed,
    }
}

fn type_of(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::Mx => RecordType::MX,
        RecordKind::Txt => RecordType::TXT,
        RecordKind::Srv => RecordType::SRV,
        // The answer for an address begins with the CNAME, where there is one.
        RecordKind::Cname | RecordKind::Address => RecordType::A,
    }
}

/// The word in an answer.
fn read(answer: &Message, question: &Question, of_authority: bool) -> Said {
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        ResponseCode::Refused | ResponseCode::NotAuth => return Said::Failed(Problem::Refused),
        ResponseCode::ServFail => return Said::Failed(Problem::Failing),
        _ => return Said::Failed(Problem::Garbled),
    }
    // A name server that lost the zone points to others, or answers from what it remembers.
    if of_authority && !answer.metadata.authoritative {
        return Said::Failed(Problem::Lame);
    }
    let own: Vec<&Record> = answer
        .answers
        .iter()
        .filter(|record| text(&record.name) == question.name)
        .take(RECORDS_MAX)
        .collect();
    let alias: Vec<&&Record> = own.iter().filter(|record| matches!(record.data, RData::CNAME(_))).collect();
    let chosen: Vec<(Data, u32)> = if alias.is_empty() {
        own.iter().filter_map(|record| Some((data(record, question)?, record.ttl))).collect()
    } else {
        alias.iter().filter_map(|record| Some((data(record, question)?, record.ttl))).collect()
    };
    if chosen.is_empty() {
        // Texts that are about something else are as if they were not there.
        let others = own.iter().map(|record| record.ttl).max();
        let no_name = answer.metadata.response_code == ResponseCode::NXDomain;
        return Said::Absent { ttl: others.unwrap_or_else(|| negative(answer)), no_name };
    }
    // Records of one name and type have one TTL (RFC 2181 §5.2); where they have not, the longest counts.
    let ttl = chosen.iter().map(|(_, ttl)| *ttl).max().unwrap_or_default();
    Said::Records { data: chosen.into_iter().map(|(data, _)| data).collect(), ttl }
}

fn data(record: &Record, question: &Question) -> Option<Data> {
    match (&record.data, question.kind) {
        (RData::MX(mx), RecordKind::Mx) => Some(Data::mx(mx.preference, &text(&mx.exchange))),
        (RData::SRV(srv), RecordKind::Srv) => {
            Some(Data::srv(srv.priority, srv.weight, srv.port, &text(&srv.target)))
        }
        (RData::CNAME(target), _) => Some(Data::cname(&text(target))),
        (RData::A(address), RecordKind::Cname | RecordKind::Address) => Some(Data::address(address.0.into())),
        (RData::TXT(txt), RecordKind::Txt) => {
            let bytes = txt.txt_data.concat();
            let words = String::from_utf8_lossy(&bytes);
            // A domain holds texts for many purposes; a key has a name of its own.
            let is_mail = spf::is_spf(&words) || question.name.contains("._domainkey.");
            (is_mail && bytes.len() <= TEXT_MAX).then(|| Data::txt(&words))
        }
        _ => None,
    }
}

/// How long it may be remembered that there is nothing (RFC 2308 §5).
fn negative(answer: &Message) -> u32 {
    let soa = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    });
    soa.unwrap_or_default()
}
