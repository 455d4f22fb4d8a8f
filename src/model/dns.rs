//! The words of the DNS about a domain: which server said what, and when. Facts that survive restarts, and that come to the same
//! whatever order they arrive in.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::text::counted;

/// The most sightings of one question at one server. Of more, those go first that only repeat what stands before and after
/// them; who asks every ten seconds for a month still knows each change.
pub const SIGHTINGS_MAX: usize = 256;

/// The types of records that a move of mail is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RecordKind {
    /// Who takes mail in (RFC 5321 §5).
    #[serde(rename = "MX")]
    Mx,
    /// Text, as SPF (RFC 7208) and DKIM (RFC 6376) have it.
    #[serde(rename = "TXT")]
    Txt,
    /// Where a service is (RFC 2782).
    #[serde(rename = "SRV")]
    Srv,
    /// Another name of a name. Asked for, it stands for an address too: a name is one or the other.
    #[serde(rename = "CNAME")]
    Cname,
    /// An address, IPv4 or IPv6.
    #[serde(rename = "A")]
    Address,
}

impl RecordKind {
    const ALL: [Self; 5] = [Self::Mx, Self::Txt, Self::Srv, Self::Cname, Self::Address];
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Srv => "SRV",
            Self::Cname => "CNAME",
            Self::Address => "A",
        })
    }
}

/// A name, and the type of its records that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Question {
    /// The type.
    pub kind: RecordKind,
    /// The name in lower case, without the final dot.
    pub name: String,
}

impl Question {
    /// The question for records of a type at a name.
    pub fn new(kind: RecordKind, name: &str) -> Self {
        Self { kind, name: bare(name) }
    }
}

/// A host name as it is compared: in lower case, without the final dot.
pub fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl FromStr for Question {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(' ').and_then(|(kind, name)| {
            let kind = RecordKind::ALL.into_iter().find(|known| known.to_string() == kind)?;
            Some(Self::new(kind, name))
        });
        parts.ok_or_else(|| format!("{text:?} is no question"))
    }
}

impl TryFrom<String> for Question {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Question> for String {
    fn from(question: Question) -> Self {
        question.to_string()
    }
}

/// One record, without its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// Its type, which may be CNAME where another one was asked for.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// The rest as a zone file has it, host names without the final dot and text without quotes: `10 mx.new.example`.
    pub value: String,
}

impl Data {
    /// An MX record.
    pub fn mx(preference: u16, host: &str) -> Self {
        Self { kind: RecordKind::Mx, value: format!("{preference} {}", bare(host)) }
    }

    /// An SRV record.
    pub fn srv(priority: u16, weight: u16, port: u16, host: &str) -> Self {
        Self { kind: RecordKind::Srv, value: format!("{priority} {weight} {port} {}", bare(host)) }
    }

    /// A CNAME record.
    pub fn cname(host: &str) -> Self {
        Self { kind: RecordKind::Cname, value: bare(host) }
    }

    /// A TXT record.
    pub fn txt(text: &str) -> Self {
        Self { kind: RecordKind::Txt, value: text.to_owned() }
    }

    /// An address.
    pub fn address(address: IpAddr) -> Self {
        Self { kind: RecordKind::Address, value: address.to_string() }
    }

    /// The type as a zone file names it: `AAAA` for an address of IPv6.
    pub fn type_name(&self) -> String {
        match self.kind {
            RecordKind::Address if self.value.contains(':') => "AAAA".to_owned(),
            kind => kind.to_string(),
        }
    }

    /// The host that it names; empty for the root, which says that there is nothing.
    pub fn host(&self) -> Option<&str> {
        match self.kind {
            RecordKind::Mx | RecordKind::Srv => Some(self.value.rsplit(' ').next().unwrap_or_default()),
            RecordKind::Cname => Some(&self.value),
            RecordKind::Txt | RecordKind::Address => None,
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A host that is the root is shown as the zone file has it.
        let dot = if self.host() == Some("") { "." } else { "" };
        write!(f, "{}{dot}", self.value)
    }
}

/// Somebody who was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Server {
    /// The name server that this machine asks, which may remember an earlier answer.
    Resolver,
    /// A name server of the zone, asked by itself; without an address where there was none to ask at.
    Authority {
        /// Its name.
        name: String,
        /// The address that was asked.
        address: Option<IpAddr>,
    },
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolver => f.write_str("resolver"),
            Self::Authority { name, address: None } => f.write_str(name),
            Self::Authority { name, address: Some(address) } => write!(f, "{name}/{address}"),
        }
    }
}

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "resolver" {
            return Ok(Self::Resolver);
        }
        let (name, address) = match text.split_once('/') {
            Some((name, address)) => {
                (name, Some(address.parse().map_err(|_| format!("{text:?} is no server"))?))
            }
            None => (text.as_str(), None),
        };
        Ok(Self::Authority { name: name.to_owned(), address })
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        server.to_string()
    }
}

/// Why a server gave no answer that says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Problem {
    /// It said nothing in time.
    Silent,
    /// There is no way to it, or nobody at its port.
    Unreachable,
    /// It answers, and not as an authority of the zone: the zone was taken from it, or never given.
    Lame,
    /// It does not answer us (REFUSED).
    Refused,
    /// It fails (SERVFAIL).
    Failing,
    /// It finds the signatures of the zone wrong (DNSSEC): without checking them it would answer.
    Bogus,
    /// Its answer cannot be read.
    Garbled,
    /// The policy does not let us ask at its address.
    NotAllowed,
    /// Its name has no address.
    NoAddress,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "does not answer",
            Self::Unreachable => "cannot be reached",
            Self::Lame => "does not know the zone (lame)",
            Self::Refused => "refuses to answer (REFUSED)",
            Self::Failing => "fails at the question (SERVFAIL)",
            Self::Bogus => "finds wrong signatures in the zone (DNSSEC)",
            Self::Garbled => "gives an answer that cannot be read",
            Self::NotAllowed => "is at a private address that spec.policy.allowedNetworks does not list",
            Self::NoAddress => "has no address",
        })
    }
}

impl Problem {
    /// The remedy, in the words of who looks after the zone.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Silent | Self::Unreachable => "start it, or take it out of the NS records of the zone",
            Self::Lame => {
                "load the zone there, or take it out of the NS records of the zone and of its parent"
            }
            Self::Refused => "let it answer everybody about this zone",
            Self::Failing | Self::Garbled => "look at its log: the zone may have expired or not been loaded",
            Self::Bogus => {
                "mend the DS record at the registrar or sign the zone again; who checks signatures cannot send mail to it"
            }
            Self::NotAllowed => "list its network in spec.policy.allowedNetworks",
            Self::NoAddress => "give it an A or AAAA record, or take it out of the NS records of the zone",
        }
    }
}

/// The word of a server at one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    /// These records.
    #[serde(rename_all = "camelCase")]
    Records {
        /// All of them.
        data: BTreeSet<Data>,
        /// How long they may be remembered, in seconds; a resolver says what is left of it.
        ttl: u32,
    },
    /// There is no such record.
    #[serde(rename_all = "camelCase")]
    Absent {
        /// How long that may be remembered, in seconds.
        ttl: u32,
        /// Whether there is not even the name.
        no_name: bool,
    },
    /// Nothing that says anything.
    Failed(Problem),
}

impl Said {
    /// The records; `None` where nothing was said, an empty set where there are none.
    pub fn data(&self) -> Option<BTreeSet<Data>> {
        match self {
            Self::Records { data, .. } => Some(data.clone()),
            Self::Absent { .. } => Some(BTreeSet::new()),
            Self::Failed(_) => None,
        }
    }

    /// How long it may be remembered, in seconds.
    pub fn ttl(&self) -> Option<u32> {
        match self {
            Self::Records { ttl, .. } | Self::Absent { ttl, .. } => Some(*ttl),
            Self::Failed(_) => None,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Failed(one), Self::Failed(two)) => one == two,
            _ => self.data() == other.data() && self.data().is_some(),
        }
    }
}

/// A moment after a number of seconds, as far as there are moments.
pub fn after(at: Timestamp, seconds: u32) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX)
}

/// A TTL as a person says it: `7 days`.
pub fn length(seconds: u32) -> String {
    let seconds = u64::from(seconds);
    match seconds {
        s if s >= 86_400 && s % 86_400 == 0 => counted(s / 86_400, "day", "days"),
        s if s >= 3_600 && s % 3_600 == 0 => counted(s / 3_600, "hour", "hours"),
        s if s >= 60 && s % 60 == 0 => counted(s / 60, "minute", "minutes"),
        s => counted(s, "second", "seconds"),
    }
}

/// What one server said to one question, and when.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    /// When.
    pub at: Timestamp,
    /// The word of the server.
    #[serde(flatten)]
    pub said: Said,
}

impl Sighting {
    /// Until when somebody may remember it.
    pub fn ends(&self) -> Timestamp {
        after(self.at, self.said.ttl().unwrap_or_default())
    }
}

/// All that one server said to one question, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(Vec<Sighting>);

impl Timeline {
    /// The sightings.
    pub fn sightings(&self) -> &[Sighting] {
        &self.0
    }

    /// The last word.
    pub fn last(&self) -> Option<&Sighting> {
        self.0.last()
    }

    /// The last word that said anything.
    pub fn last_answer(&self) -> Option<&Sighting> {
        self.0.iter().rev().find(|sighting| sighting.said.data().is_some())
    }

    /// Puts a sighting in its place. `remembers` says that the server hands out what it remembers, with a TTL that runs down.
    pub fn add(&mut self, sighting: Sighting, remembers: bool) {
        if let Err(place) = self.0.binary_search(&sighting) {
            self.0.insert(place, sighting);
            self.thin(remembers);
        }
    }

    /// Takes out sightings that only repeat what stands before and after them, the oldest first, where there are too many; and where
    /// all of them are changes, the oldest but for the first.
    fn thin(&mut self, remembers: bool) {
        if self.0.len() <= SIGHTINGS_MAX {
            return;
        }
        let wanted = SIGHTINGS_MAX * 3 / 4;
        let mut at = 1;
        while self.0.len() > wanted && at + 1 < self.0.len() {
            if self.repeats(at, remembers) {
                self.0.remove(at);
            } else {
                at += 1;
            }
        }
        let excess = self.0.len().saturating_sub(SIGHTINGS_MAX);
        self.0.drain(1..=excess);
    }

    /// Whether nothing would be told otherwise without the sighting: neither a change, nor a TTL, nor an end.
    fn repeats(&self, at: usize, remembers: bool) -> bool {
        let (before, this, next) = (&self.0[at - 1], &self.0[at], &self.0[at + 1]);
        let same = this.said.is_same(&before.said) && this.said.is_same(&next.said);
        let ttls = [before, this, next].map(|sighting| sighting.said.ttl());
        let steady = ttls[0] == ttls[1] && ttls[1] == ttls[2];
        let runs_down = remembers && ttls[1] < ttls[0] && this.ends() <= before.ends().max(next.ends());
        same && (steady || runs_down)
    }
}

/// A name server of a zone, as its NS records list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// When it was listed first.
    pub first: Timestamp,
    /// When it was listed last.
    pub last: Timestamp,
    /// How long its being listed may be remembered, in seconds, as of then.
    pub ttl: u32,
    /// The addresses that it was asked at then.
    pub addresses: BTreeSet<IpAddr>,
}

impl Listed {
    /// Until when somebody may still ask it, although it is no longer listed.
    pub fn ends(&self) -> Timestamp {
        after(self.last, self.ttl)
    }

    fn rank(&self) -> (Timestamp, u32, &BTreeSet<IpAddr>) {
        (self.last, self.ttl, &self.addresses)
    }
}

/// All that is known of a domain's records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsFacts {
    /// When it was asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// When it was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// The zone that the domain is in, and when that was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<(Timestamp, String)>,
    /// The name servers that the zone lists or listed.
    pub name_servers: BTreeMap<String, Listed>,
    /// When the name servers were listed last: one that was not among them is no longer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed: Option<Timestamp>,
    /// The words of each server to each question.
    pub said: BTreeMap<Question, BTreeMap<Server, Timeline>>,
}

impl DnsFacts {
    /// Adds facts, earlier or later ones.
    pub fn merge(&mut self, other: Self) {
        let Self { first, last, zone, name_servers, listed, said } = other;
        self.first = [self.first, first].into_iter().flatten().min();
        self.last = self.last.max(last);
        self.listed = self.listed.max(listed);
        self.zone = self.zone.take().max(zone);
        for (name, theirs) in name_servers {
            self.list(name, theirs);
        }
        for (question, servers) in said {
            for (server, timeline) in servers {
                for sighting in timeline.0 {
                    self.add(&question, &server, sighting);
                }
            }
        }
    }

    /// Adds a name server that was listed.
    pub fn list(&mut self, name: String, seen: Listed) {
        match self.name_servers.get_mut(&name) {
            None => {
                self.name_servers.insert(name, seen);
            }
            Some(ours) => {
                let first = ours.first.min(seen.first);
                if seen.rank().cmp(&ours.rank()) == Ordering::Greater {
                    *ours = seen;
                }
                ours.first = first;
            }
        }
    }

    /// Adds the word of a server.
    pub fn add(&mut self, question: &Question, server: &Server, sighting: Sighting) {
        let at = sighting.at;
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = self.last.max(Some(at));
        let line = self.said.entry(question.clone()).or_default().entry(server.clone()).or_default();
        line.add(sighting, *server == Server::Resolver);
    }

    /// The words of each server to a question.
    pub fn of(&self, question: &Question) -> impl Iterator<Item = (&Server, &Timeline)> {
        self.said.get(question).into_iter().flatten()
    }

    /// The name servers that count: those that were listed last, and those that somebody may remember as listed.
    pub fn serving(&self, now: Timestamp) -> impl Iterator<Item = (&String, &Listed)> {
        self.name_servers.iter().filter(move |(_, seen)| Some(seen.last) >= self.listed || seen.ends() > now)
    }

    /// Whether a name server was among those that were listed last.
    pub fn is_listed(&self, name: &str) -> bool {
        self.name_servers.get(name).is_some_and(|seen| Some(seen.last) >= self.listed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn mx(host: &str, ttl: u32) -> Said {
        Said::Records { data: BTreeSet::from([Data::mx(10, host)]), ttl }
    }

    #[test]
    fn questions_servers_and_records_are_read_as_they_are_written() {
        for question in [
            Question::new(RecordKind::Mx, "Old.Test."),
            Question::new(RecordKind::Srv, "_imaps._tcp.old.test"),
            Question::new(RecordKind::Cname, "autodiscover.old.test"),
        ] {
            assert_eq!(question.to_string().parse(), Ok(question));
        }
        for server in [
            Server::Resolver,
            Server::Authority { name: "ns1.old.test".into(), address: None },
            Server::Authority { name: "ns1.old.test".into(), address: Some("2001:db8::1".parse().unwrap()) },
        ] {
            assert_eq!(Server::try_from(server.to_string()), Ok(server));
        }
        assert_eq!(Data::mx(0, ".").to_string(), "0 .");
        assert_eq!(Data::mx(10, "MX.New.Test.").to_string(), "10 mx.new.test");
        assert_eq!(Data::srv(0, 1, 993, "imap.new.test").host(), Some("imap.new.test"));
        assert_eq!(Data::address("::1".parse().unwrap()).type_name(), "AAAA");
        let text = serde_json::to_string(&Sighting { at: at(0), said: mx("a.test", 60) }).unwrap();
        assert_eq!(
            text,
            r#"{"at":"2027-01-15T08:00:00Z","records":{"data":[{"type":"MX","value":"10 a.test"}],"ttl":60}}"#
        );
        assert_eq!(serde_json::from_str::<Sighting>(&text).unwrap().said, mx("a.test", 60));
    }

    #[test]
    fn who_asks_often_keeps_each_change_and_little_else() {
        let mut line = Timeline::default();
        for second in 0..10_000 {
            let ttl = if second < 3_000 { 604_800 } else { 300 };
            let host = if second < 6_000 { "old.test" } else { "new.test" };
            line.add(Sighting { at: at(second * 10), said: mx(host, ttl) }, false);
        }
        let kept = line.sightings();
        assert!(kept.len() <= SIGHTINGS_MAX);
        for second in [0, 2_999, 3_000, 5_999, 6_000, 9_999] {
            assert!(kept.iter().any(|sighting| sighting.at == at(second * 10)), "{second}");
        }
        // One that changes each time keeps the first and the latest.
        let mut line = Timeline::default();
        for second in 0..1_000 {
            line.add(Sighting { at: at(second), said: mx(&format!("mx{second}.test"), 0) }, false);
        }
        assert_eq!(line.sightings().len(), SIGHTINGS_MAX);
        assert_eq!((line.sightings()[0].at, line.last().unwrap().at), (at(0), at(999)));
        // A resolver counts down and begins anew: the end of each is kept.
        let mut line = Timeline::default();
        for second in 0..10_000_u32 {
            line.add(Sighting { at: at(second.into()), said: mx("old.test", 1_000 - second % 1_000) }, true);
        }
        assert_eq!(line.sightings().iter().map(Sighting::ends).max(), Some(at(10_000)));
    }

    fn facts() -> impl Strategy<Value = Vec<DnsFacts>> {
        let said = prop_oneof![
            (0..3_u8, prop_oneof![Just(0), Just(300), Just(604_800)])
                .prop_map(|(host, ttl)| mx(&format!("mx{host}.test"), ttl)),
            Just(Said::Absent { ttl: 60, no_name: false }),
            Just(Said::Failed(Problem::Silent)),
        ];
        let one = (0..200_i64, 0..3_u8, said).prop_map(|(second, server, said)| {
            let name = format!("ns{server}.test");
            let server = match server {
                0 => Server::Resolver,
                _ => Server::Authority { name: name.clone(), address: None },
            };
            let mut facts = DnsFacts {
                listed: Some(at(second)),
                zone: Some((at(second), "test".into())),
                ..DnsFacts::default()
            };
            facts.add(&Question::new(RecordKind::Mx, "a.test"), &server, Sighting { at: at(second), said });
            let (first, last) = (at(second), at(second));
            facts.list(name, Listed { first, last, ttl: 60, addresses: BTreeSet::new() });
            facts
        });
        proptest::collection::vec(one, 1..60)
    }

    proptest! {
        #[test]
        fn facts_come_to_the_same_in_any_order_and_twice(facts in facts(), seed in any::<u64>()) {
            let sum = |facts: &[DnsFacts]| {
                let mut all = DnsFacts::default();
                for one in facts {
                    all.merge(one.clone());
                }
                all
            };
            let in_order = sum(&facts);
            let mut shuffled = facts.clone();
            let mut state = seed | 1;
            for at in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
            }
            prop_assert_eq!(&sum(&shuffled), &in_order);
            // By halves, as two processes would bring them, and once more.
            let (one, two) = shuffled.split_at(shuffled.len() / 2);
            let mut halves = sum(two);
            halves.merge(sum(one));
            halves.merge(in_order.clone());
            prop_assert_eq!(&halves, &in_order);
            let text = serde_json::to_string(&in_order).unwrap();
            prop_assert_eq!(serde_json::from_str::<DnsFacts>(&text).unwrap(), in_order);
        }
    }
}
