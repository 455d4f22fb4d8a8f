//! The records that a move of mail is about: which questions are asked, what each record must become, and where that stands.
//!
//! Everything here is pure: a specification and facts in, rows out. Nothing is changed in any DNS. The wanted records are
//! derived where the destination is known by name; each rule says where it is known from. The rest is asked for, and never
//! guessed.
//!
//! ```text
//! spec ──► rules: name, type, what it must become, what fits ──► questions ──► discovery::watch ──► facts
//!                            │                                                                       │
//!                            └──────────────────► rows: now, wanted, seen, since, end of the old ◄───┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::api::Destination;
use crate::api::MailMigrationSpec;
use crate::model::address::Domain;
use crate::model::dns::{
    Data, DnsFacts, Problem, Question, RecordKind, Said, Server, Sighting, Timeline, after, bare, length,
};
use crate::model::preset::{Cloud, by_imap_host};
use crate::model::protocol::Tls;
use crate::model::provider::{Kind, by_host};
use crate::model::records::{
    Answer, DomainRecords, NameServerRow, Old, RecordRow, RecordState, Seen, Wanted,
};
use crate::model::text::{counted, printable};

/// A TTL up to which a change is through soon enough, in seconds.
pub const TTL_LOW: u32 = 3_600;
/// The label of a name that nobody has: an answer for it is one for every name.
const NO_SUCH_NAME: &str = "mailferry-looks-for-nothing-here";
/// The hosts that Google had its customers name before April 2023, which stay right
/// (support.google.com/a/answer/174125, "Legacy MX records").
const GOOGLE_BEFORE: [&str; 9] = [
    "aspmx.l.google.com",
    "alt1.aspmx.l.google.com",
    "alt2.aspmx.l.google.com",
    "alt3.aspmx.l.google.com",
    "alt4.aspmx.l.google.com",
    "aspmx2.googlemail.com",
    "aspmx3.googlemail.com",
    "aspmx4.googlemail.com",
    "aspmx5.googlemail.com",
];
const GOOGLE_MX: &str = "smtp.google.com";

/// Who takes the mail after the move, as far as records follow from it.
enum Target<'a> {
    Microsoft(Cloud),
    Google,
    /// A server, with its host and port where TLS begins at once.
    Server {
        host: &'a str,
        port: Option<u16>,
    },
    Files,
}

impl<'a> Target<'a> {
    fn of(destination: &'a Destination) -> Self {
        match destination {
            Destination::Microsoft365(tenant) => Self::Microsoft(tenant.cloud),
            Destination::Files(_) => Self::Files,
            Destination::Imap(imap) => {
                let cloud = Cloud::ALL.into_iter().find(|cloud| {
                    by_imap_host(&imap.host).is_some_and(|preset| preset.key == cloud.preset().key)
                });
                match (cloud, by_host(&imap.host).map(|provider| provider.kind)) {
                    (Some(cloud), _) => Self::Microsoft(cloud),
                    (None, Some(Kind::Microsoft)) => Self::Microsoft(Cloud::Global),
                    (None, Some(Kind::Google)) => Self::Google,
                    _ => Self::Server {
                        host: &imap.host,
                        port: (imap.tls == Tls::Implicit).then_some(imap.port),
                    },
                }
            }
        }
    }
}

/// The hosts of a cloud of Microsoft that customers name in their DNS: the end of MX hosts, who may send, and Autodiscover.
/// Sources: learn.microsoft.com/microsoft-365/enterprise/external-domain-name-system-records, and of the clouds
/// dns-records-for-office-365-gcc-high and services-for-office-365-operated-by-21vianet there.
fn microsoft(cloud: Cloud) -> (&'static str, &'static str, &'static str) {
    match cloud {
        Cloud::Global => {
            ("mail.protection.outlook.com", "spf.protection.outlook.com", "autodiscover.outlook.com")
        }
        Cloud::GccHigh => {
            ("mail.protection.office365.us", "spf.protection.office365.us", "autodiscover.office365.us")
        }
        Cloud::China21Vianet => (
            "mail.protection.partner.outlook.cn",
            "spf.protection.partner.outlook.cn",
            "autodiscover.partner.outlook.cn",
        ),
    }
}

/// What is right for a record.
enum Fits {
    /// These records and no others.
    Exactly(BTreeSet<Data>),
    /// MX records that name these hosts and no others, whatever the preferences.
    Hosts(BTreeSet<String>),
    /// MX records of Microsoft for this domain: the end of the hosts, and the letters that each begins with.
    Microsoft { end: &'static str, letters: String },
    /// MX records of Google.
    Google,
    /// One SPF record that lets these hosts send.
    Includes(&'static str),
    /// An alias with one of these ends.
    AliasOf(&'static [&'static str]),
    /// Any record.
    Present,
    /// No record.
    Nothing,
    /// No record, or these.
    NothingOr(BTreeSet<Data>),
    /// Nobody knows here.
    Anything,
}

impl Fits {
    fn accepts(&self, data: &BTreeSet<Data>) -> bool {
        let all = |accepted: &dyn Fn(&str) -> bool| {
            !data.is_empty()
                && data
                    .iter()
                    .all(|record| record.kind == RecordKind::Mx && record.host().is_some_and(accepted))
        };
        match self {
            Self::Exactly(wanted) => data == wanted,
            Self::Hosts(hosts) => {
                let named: BTreeSet<String> = data.iter().filter_map(Data::host).map(str::to_owned).collect();
                all(&|_| true) && named == *hosts
            }
            Self::Microsoft { end, letters } => all(&|host| {
                let begins = |label: &str| label.replace('-', "").starts_with(letters.as_str());
                // A tenant with DNSSEC has a name like contoso-com.a-v1.mx.microsoft
                // (learn.microsoft.com/purview/how-smtp-dane-works).
                let known = [*end, "mx.microsoft"].iter().any(|end| {
                    host.strip_suffix(end).is_some_and(|before| before.ends_with('.') && before.len() > 1)
                });
                known && host.split('.').next().is_some_and(begins)
            }),
            Self::Google => all(&|host| host == GOOGLE_MX || GOOGLE_BEFORE.contains(&host)),
            Self::Includes(host) => {
                let records: Vec<&Data> =
                    data.iter().filter(|record| record.kind == RecordKind::Txt).collect();
                matches!(records[..], [one] if includes(&one.value, host))
            }
            Self::AliasOf(ends) => {
                let ends_so = |record: &Data| {
                    record.kind == RecordKind::Cname && ends.iter().any(|end| record.value.ends_with(end))
                };
                !data.is_empty() && data.iter().all(ends_so)
            }
            Self::Present => !data.is_empty(),
            Self::Nothing => data.is_empty(),
            Self::NothingOr(wanted) => data.is_empty() || data == wanted,
            Self::Anything => true,
        }
    }
}

/// Whether an SPF record lets the hosts of a name send.
fn includes(record: &str, host: &str) -> bool {
    let wanted = format!("include:{host}");
    record.split(' ').any(|term| term.trim_start_matches(['+', '~', '?']).eq_ignore_ascii_case(&wanted))
}

/// An SPF record that lets the hosts of a name send beside those that it lets send already: the old servers send until the end.
fn spf_with(record: Option<&str>, host: &str, end: &str) -> String {
    let include = format!("include:{host}");
    let Some(record) = record else { return format!("v=spf1 {include} {end}") };
    if includes(record, host) {
        return record.to_owned();
    }
    let terms: Vec<&str> = record.split(' ').filter(|term| !term.is_empty()).collect();
    // The end of it decides about everybody else, and nothing behind it is read (RFC 7208 §5.1, §6.1).
    let is_end = |term: &&str| {
        let bare = term.trim_start_matches(['+', '-', '~', '?']).to_ascii_lowercase();
        bare == "all" || bare.starts_with("redirect=")
    };
    let at = terms.iter().position(is_end).unwrap_or(terms.len()).max(1).min(terms.len());
    let (before, behind) = terms.split_at(at);
    [before, &[include.as_str()], behind].concat().join(" ")
}

/// A record that the move is about.
struct Rule {
    question: Question,
    purpose: &'static str,
    wanted: Wanted,
    fits: Fits,
}

impl Rule {
    fn new(kind: RecordKind, name: &str, purpose: &'static str, wanted: Wanted, fits: Fits) -> Self {
        Self { question: Question::new(kind, name), purpose, wanted, fits }
    }
}

fn records(records: impl IntoIterator<Item = Data>, or: Option<String>) -> Wanted {
    Wanted::Records { records: records.into_iter().collect(), or }
}

const MX: &str = "takes the mail in";
const SPF: &str = "says who may send (SPF)";
const DKIM: &str = "holds the key of signatures (DKIM)";
const OUTLOOK: &str = "shows Outlook the way (Autodiscover)";
const PROGRAMS: &str = "shows other mail programs the way (autoconfig)";
const SERVICE: &str = "shows mail programs the way (SRV)";

/// The rules of a domain, those of MX first. `spf` is the record that stands.
fn rules(spec: &MailMigrationSpec, domain: &str, spf: Option<&str>) -> Vec<Rule> {
    let target = Target::of(&spec.destination);
    let mut rules = vec![mx_rule(spec, domain, &target)];
    let below = |label: &str| format!("{label}.{domain}");
    let service = |label: &str| format!("{label}._tcp.{domain}");
    let srv = |label: &str, wanted: Wanted, fits: Fits| {
        Rule::new(RecordKind::Srv, &service(label), SERVICE, wanted, fits)
    };
    let absent = |kind, name: &str, purpose| Rule::new(kind, name, purpose, Wanted::Absent, Fits::Nothing);
    let includes = |host: &'static str, end: &str| {
        let wanted = records([Data::txt(&spf_with(spf, host, end))], None);
        Rule::new(RecordKind::Txt, domain, SPF, wanted, Fits::Includes(host))
    };
    let at_server = |host: &str, port: u16| {
        let wanted = BTreeSet::from([Data::srv(0, 1, port, host)]);
        (records(wanted.clone(), Some("or no such record".to_owned())), Fits::NothingOr(wanted))
    };
    match target {
        Target::Microsoft(cloud) => {
            let (_, sender, outlook) = microsoft(cloud);
            rules.push(includes(sender, "-all"));
            let alias = [Data::cname(outlook)];
            let fits = Fits::Exactly(BTreeSet::from(alias.clone()));
            let name = below("autodiscover");
            rules.push(Rule::new(RecordKind::Cname, &name, OUTLOOK, records(alias, None), fits));
            for selector in ["selector1", "selector2"] {
                rules.push(microsoft_key(domain, selector));
            }
            // Thunderbird knows Microsoft 365 by its MX; whatever the old servers publish leads back to them.
            rules.push(absent(RecordKind::Cname, &below("autoconfig"), PROGRAMS));
            let (wanted, fits) = at_server(cloud.preset().imap, 993);
            rules.push(srv("_imaps", wanted, fits));
            rules.push(absent(RecordKind::Srv, &service("_autodiscover"), OUTLOOK));
            rules.push(absent(RecordKind::Srv, &service("_pop3s"), SERVICE));
            rules.push(absent(RecordKind::Srv, &service("_submissions"), SERVICE));
        }
        Target::Google => {
            // support.google.com/a/answer/33786 (SPF) and support.google.com/a/answer/174124 (DKIM).
            rules.push(includes("_spf.google.com", "~all"));
            let words =
                "the key that the Admin console makes, Apps > Google Workspace > Gmail > Authenticate email";
            let name = below("google._domainkey");
            let wanted = Wanted::Ask(words.to_owned());
            rules.push(Rule::new(RecordKind::Txt, &name, DKIM, wanted, Fits::Present));
            rules.push(absent(RecordKind::Cname, &below("autodiscover"), OUTLOOK));
            rules.push(absent(RecordKind::Cname, &below("autoconfig"), PROGRAMS));
            let (wanted, fits) = at_server("imap.gmail.com", 993);
            rules.push(srv("_imaps", wanted, fits));
            let (wanted, fits) = at_server("pop.gmail.com", 995);
            rules.push(srv("_pop3s", wanted, fits));
            let (wanted, fits) = at_server("smtp.gmail.com", 465);
            rules.push(srv("_submissions", wanted, fits));
            rules.push(absent(RecordKind::Srv, &service("_autodiscover"), OUTLOOK));
        }
        Target::Server { host, port } => {
            let ask = |words: &str| Wanted::Ask(words.to_owned());
            let open =
                |kind, name: &str, purpose, words| Rule::new(kind, name, purpose, ask(words), Fits::Anything);
            let sends = "whoever runs the new servers says who sends for them; keep the old servers in it until the end";
            let leads =
                "the new servers' own, or no such record; the one of the old servers leads back to them";
            rules.push(open(RecordKind::Txt, domain, SPF, sends));
            rules.push(open(RecordKind::Cname, &below("autodiscover"), OUTLOOK, leads));
            rules.push(open(RecordKind::Cname, &below("autoconfig"), PROGRAMS, leads));
            match port {
                Some(port) if host.parse::<std::net::IpAddr>().is_err() => {
                    let (wanted, fits) = at_server(host, port);
                    rules.push(srv("_imaps", wanted, fits));
                }
                _ => rules.push(open(RecordKind::Srv, &service("_imaps"), SERVICE, leads)),
            }
            rules.push(open(RecordKind::Srv, &service("_pop3s"), SERVICE, leads));
            rules.push(open(RecordKind::Srv, &service("_submissions"), SERVICE, leads));
            rules.push(open(RecordKind::Srv, &service("_autodiscover"), OUTLOOK, leads));
        }
        // A copy in files takes over nothing.
        Target::Files => {}
    }
    rules
}

fn mx_rule(spec: &MailMigrationSpec, domain: &str, target: &Target<'_>) -> Rule {
    let rule = |wanted, fits| Rule::new(RecordKind::Mx, domain, MX, wanted, fits);
    let named = spec.cutover.as_deref().and_then(|cutover| cutover.mx_of(domain));
    if let Some(hosts) = named {
        let hosts: Vec<String> = hosts.iter().map(|host| bare(host)).collect();
        let preference = |at: usize, host: &str| match by_host(host).map(|provider| provider.kind) {
            Some(Kind::Microsoft) if hosts.len() == 1 => 0,
            Some(Kind::Google) if hosts.len() == 1 => 1,
            _ => u16::try_from(at + 1).unwrap_or(u16::MAX).saturating_mul(10),
        };
        let wanted = hosts.iter().enumerate().map(|(at, host)| Data::mx(preference(at, host), host));
        return rule(records(wanted, None), Fits::Hosts(hosts.iter().cloned().collect()));
    }
    match target {
        Target::Microsoft(cloud) => {
            let (end, ..) = microsoft(*cloud);
            let label = domain.replace('.', "-");
            // Of a domain with a dash the name cannot be told: contoso.com and con-toso.com would meet.
            let sure = if domain.contains('-') {
                "the name has digits or fewer dashes where the domain has dashes: the admin center shows it, Settings > Domains"
            } else {
                "newer tenants have a name like LABEL.a-v1.mx.microsoft: the admin center shows it, Settings > Domains"
            };
            let or = sure.replace("LABEL", &label);
            let wanted = records([Data::mx(0, &format!("{label}.{end}"))], Some(or));
            rule(wanted, Fits::Microsoft { end, letters: domain.replace(['.', '-'], "") })
        }
        Target::Google => {
            let or = "the five hosts of aspmx.l.google.com are right too".to_owned();
            rule(records([Data::mx(1, GOOGLE_MX)], Some(or)), Fits::Google)
        }
        Target::Server { .. } => {
            let words =
                "name the hosts in spec.cutover.domains[].mx: whoever runs the new servers knows them";
            rule(Wanted::Ask(words.to_owned()), Fits::Anything)
        }
        Target::Files => {
            let words = "the destination is a copy in files and takes no mail in; name hosts in spec.cutover.domains[].mx where mail moves elsewhere";
            rule(Wanted::Ask(words.to_owned()), Fits::Anything)
        }
    }
}

/// Sources: learn.microsoft.com/defender-office-365/email-authentication-dkim-configure; domains that were added since May 2025
/// have the second form, whose middle Microsoft chooses.
fn microsoft_key(domain: &str, selector: &str) -> Rule {
    let label = domain.replace('.', "-");
    let words = format!(
        "CNAME {selector}-{label}._domainkey.TENANT.onmicrosoft.com, or for a domain that was added since May 2025 \
         {selector}-{label}._domainkey.TENANT.X-v1.dkim.mail.microsoft: the Defender portal shows it, Email authentication settings > DKIM"
    );
    let name = format!("{selector}._domainkey.{domain}");
    let ends = &[".onmicrosoft.com", ".dkim.mail.microsoft", ".onmicrosoft.us", ".partner.onmschina.cn"];
    Rule::new(RecordKind::Cname, &name, DKIM, Wanted::Ask(words), Fits::AliasOf(ends))
}

/// The name by which the DNS knows a domain of the specification.
fn dns_name(domain: &str) -> String {
    domain.parse::<Domain>().map_or_else(|_| bare(domain), |domain| domain.as_str().to_owned())
}

/// The question whose answer says what a name gets that nobody has.
fn wildcard(domain: &str) -> Question {
    Question::new(RecordKind::Cname, &format!("{NO_SUCH_NAME}.{domain}"))
}

/// The questions to ask about a domain.
pub fn questions(spec: &MailMigrationSpec, domain: &str) -> BTreeSet<Question> {
    let domain = dns_name(domain);
    let rules = rules(spec, &domain, None).into_iter().map(|rule| rule.question);
    rules.chain([wildcard(&domain)]).collect()
}

/// Where the records of a domain stand.
pub fn stand(spec: &MailMigrationSpec, domain: &str, facts: &DnsFacts, now: Timestamp) -> DomainRecords {
    let name = dns_name(domain);
    let spf = Question::new(RecordKind::Txt, &name);
    let mut looking = Looking { facts, now, question: &spf };
    let spf = looking.answers(&Fits::Anything).into_iter().next();
    let spf = spf.and_then(|answer| answer.records.into_iter().next()).map(|record| record.value);
    let rules = rules(spec, &name, spf.as_deref());
    let wildcard = wildcard(&name);
    looking.question = &wildcard;
    let everywhere: BTreeSet<Vec<Data>> =
        looking.answers(&Fits::Anything).into_iter().map(|answer| answer.records).collect();
    let rows = rules.into_iter().map(|rule| {
        let looking = Looking { facts, now, question: &rule.question };
        looking.row(&rule, &everywhere)
    });
    let rows: Vec<RecordRow> = rows.collect();
    let mx = Question::new(RecordKind::Mx, &name);
    let looking = Looking { facts, now, question: &mx };
    let resolver = facts.of(&mx).find(|(server, _)| **server == Server::Resolver);
    let resolver = resolver.and_then(|(_, line)| problem_of(line));
    DomainRecords {
        name,
        zone: facts.zone.as_ref().map(|(_, zone)| zone.clone()),
        asked: facts.last,
        servers: looking.name_servers(),
        resolver,
        notes: zone_notes(facts, &looking, resolver),
        records: rows,
    }
}

fn problem_of(line: &Timeline) -> Option<Problem> {
    match line.last()?.said {
        Said::Failed(problem) => Some(problem),
        _ => None,
    }
}

/// Facts about one question.
struct Looking<'a> {
    facts: &'a DnsFacts,
    now: Timestamp,
    question: &'a Question,
}

/// The word of a name server at the last look, over all its addresses.
enum Word<'a> {
    /// These lines, which all ended with an answer.
    Said(Vec<&'a Timeline>),
    /// Nothing, for this reason.
    Failed(Problem),
}

impl<'a> Looking<'a> {
    /// The lines of the name servers that count, by their names.
    fn words(&self) -> BTreeMap<&'a str, Word<'a>> {
        let mut words = BTreeMap::new();
        for (name, listed) in self.facts.serving(self.now) {
            // What it said at addresses that it no longer has says nothing of now.
            let lines = self.facts.of(self.question).filter(|(server, _)| match server {
                Server::Authority { name: other, address } => {
                    other == name
                        && match address {
                            Some(address) => listed.addresses.contains(address),
                            None => listed.addresses.is_empty(),
                        }
                }
                Server::Resolver => false,
            });
            let lines: Vec<&Timeline> = lines.map(|(_, line)| line).collect();
            let said: Vec<&Timeline> =
                lines.iter().copied().filter(|line| problem_of(line).is_none()).collect();
            let problem = lines.iter().find_map(|line| problem_of(line));
            match problem {
                _ if !said.is_empty() => words.insert(name.as_str(), Word::Said(said)),
                Some(problem) => words.insert(name.as_str(), Word::Failed(problem)),
                None => None,
            };
        }
        words
    }

    /// Each answer that name servers give now, the one that most give first.
    fn answers(&self, fits: &Fits) -> Vec<Answer> {
        let mut answers: BTreeMap<Vec<Data>, Answer> = BTreeMap::new();
        for (name, word) in self.words() {
            let Word::Said(lines) = word else { continue };
            for line in lines {
                let Some((last, data)) = line.last().and_then(|last| Some((last, last.said.data()?))) else {
                    continue;
                };
                let ttl = last.said.ttl().unwrap_or_default();
                let since = since(line, |other| *other == data).unwrap_or(last.at);
                let records: Vec<Data> = data.into_iter().collect();
                let answer = answers.entry(records.clone()).or_insert_with(|| Answer {
                    records,
                    ttl,
                    servers: Vec::new(),
                    since,
                });
                answer.ttl = answer.ttl.max(ttl);
                answer.since = answer.since.max(since);
                if answer.servers.last().is_none_or(|last| last != name) {
                    answer.servers.push(name.to_owned());
                }
            }
        }
        let mut answers: Vec<Answer> = answers.into_values().collect();
        // Of two that as many give, the one that is still to change is shown first.
        answers.sort_by_key(|answer| {
            (usize::MAX - answer.servers.len(), fits.accepts(&answer.records.iter().cloned().collect()))
        });
        answers
    }

    fn row(&self, rule: &Rule, everywhere: &BTreeSet<Vec<Data>>) -> RecordRow {
        let fits = |data: &BTreeSet<Data>| rule.fits.accepts(data);
        let now = self.answers(&rule.fits);
        let seen = self.seen(&fits);
        let old = self.old(&fits, &seen);
        let absent = now.iter().all(|answer| answer.records.is_empty());
        let optional = matches!(rule.fits, Fits::Nothing | Fits::NothingOr(_) | Fits::Anything);
        let asks = matches!(rule.wanted, Wanted::Ask(_));
        let is_mx = rule.question.kind == RecordKind::Mx;
        let state = if now.is_empty() {
            RecordState::Unseen
        } else if absent && optional && !(is_mx && asks) {
            RecordState::NotNeeded
        } else if matches!(rule.fits, Fits::Anything) {
            RecordState::Review
        } else if seen.with == 0 {
            RecordState::Open
        } else if !seen.without.is_empty() {
            RecordState::Partly
        } else {
            RecordState::InPlace
        };
        let mut row = RecordRow {
            name: rule.question.name.clone(),
            kind: rule.question.kind,
            purpose: rule.purpose,
            now,
            wanted: rule.wanted.clone(),
            state,
            seen,
            old,
            ttl_lowered: self.ttl_lowered(),
            notes: Vec::new(),
        };
        row.notes = self.notes(&row, rule, everywhere);
        row
    }

    fn seen(&self, fits: &impl Fn(&BTreeSet<Data>) -> bool) -> Seen {
        let mut seen =
            Seen { with: 0, of: 0, without: Vec::new(), silent: Vec::new(), resolver: None, since: None };
        for (name, word) in self.words() {
            seen.of += 1;
            match word {
                Word::Failed(_) => seen.silent.push(name.to_owned()),
                Word::Said(lines) => {
                    let has =
                        |line: &&Timeline| line.last().and_then(|l| l.said.data()).is_some_and(|d| fits(&d));
                    if lines.iter().all(has) {
                        seen.with += 1;
                        let begun = lines.iter().filter_map(|line| since(line, fits)).max();
                        seen.since = seen.since.max(begun);
                    } else {
                        seen.without.push(name.to_owned());
                    }
                }
            }
        }
        let resolver = self.resolver().and_then(Timeline::last);
        seen.resolver = resolver.and_then(|last| last.said.data()).map(|data| fits(&data));
        seen
    }

    fn resolver(&self) -> Option<&'a Timeline> {
        self.facts.of(self.question).find(|(server, _)| **server == Server::Resolver).map(|(_, line)| line)
    }

    /// When the last record that is not as it must become has ended everywhere. One that was seen may have stood until the
    /// next look, and may be remembered for its TTL after that.
    fn old(&self, fits: &impl Fn(&BTreeSet<Data>) -> bool, seen: &Seen) -> Old {
        if seen.with == 0 || !seen.without.is_empty() || seen.resolver == Some(false) {
            return Old::Standing;
        }
        let ends = self.facts.of(self.question).filter_map(|(server, line)| last_end(server, line, fits));
        ends.max().map_or(Old::NeverSeen, Old::EndsAt)
    }

    /// When nobody remembers a TTL above an hour any more.
    fn ttl_lowered(&self) -> Option<Timestamp> {
        let words = self.words();
        let mut lines = words.values().filter_map(|word| match word {
            Word::Said(lines) => Some(lines),
            Word::Failed(_) => None,
        });
        let low =
            |line: &&Timeline| line.last().and_then(|last| last.said.ttl()).is_some_and(|ttl| ttl <= TTL_LOW);
        if words.is_empty() || !lines.all(|lines| lines.iter().all(low)) {
            return None;
        }
        let ends = self.facts.of(self.question).filter(|(server, _)| **server != Server::Resolver);
        let ends = ends.filter_map(|(_, line)| {
            ends_of(line, |sighting| sighting.said.ttl().is_some_and(|ttl| ttl > TTL_LOW)).max()
        });
        ends.max().or(self.facts.first)
    }

    fn notes(&self, row: &RecordRow, rule: &Rule, everywhere: &BTreeSet<Vec<Data>>) -> Vec<String> {
        let mut notes = Vec::new();
        let fits = |data: &BTreeSet<Data>| rule.fits.accepts(data);
        let wild = row.now.iter().any(|answer| {
            !answer.records.is_empty()
                && everywhere.contains(&answer.records)
                && row.kind == RecordKind::Cname
        });
        if wild {
            notes.push(format!(
                "a wildcard record answers here, as it does for every name below {}: it goes on answering until a record of this name, or an end of the wildcard",
                row.name.split_once('.').map_or(row.name.as_str(), |(_, domain)| domain)
            ));
        }
        if row.kind == RecordKind::Txt && row.purpose == SPF {
            let several = row.now.iter().any(|answer| answer.records.len() > 1);
            if several {
                notes.push("there are several SPF records, and receivers take none of them (RFC 7208 §4.5): make one of them".into());
            }
        }
        if let (Old::Standing, Some(answer)) = (row.old, row.now.first())
            && matches!(row.state, RecordState::Open | RecordState::Partly)
        {
            notes.extend(ttl_note(answer.ttl, row.kind));
        }
        for (server, line) in self.facts.of(self.question) {
            let back = lost(line, &fits);
            if let Some((times, at)) = back {
                notes.push(format!(
                    "{} went back from what it must become {}, last at {}: two systems may be writing the zone",
                    of_server(server),
                    counted(times, "time", "times"),
                    at.strftime("%Y-%m-%d %H:%M UTC")
                ));
            }
        }
        notes.extend(self.other_view(row, &fits));
        notes
    }

    /// A resolver that says what no name server of the zone says, longer than it could remember it.
    fn other_view(&self, row: &RecordRow, fits: &impl Fn(&BTreeSet<Data>) -> bool) -> Option<String> {
        let last = self.resolver()?.last()?;
        let data = last.said.data()?;
        let said: Vec<Data> = data.iter().cloned().collect();
        if row.now.is_empty() || row.now.iter().any(|answer| answer.records == said) {
            return None;
        }
        // Until when it may remember what an authority said last.
        let authorities = self.facts.of(self.question).filter(|(server, _)| **server != Server::Resolver);
        let ends = authorities.filter_map(|(_, line)| {
            ends_of(line, |sighting| sighting.said.data().as_ref() == Some(&data)).max()
        });
        let ends = ends.max();
        let shown = shown(&data);
        if ends.is_some_and(|ends| last.at <= ends) {
            let until = last.ends().strftime("%H:%M UTC");
            return (!fits(&data)).then(|| format!("the resolver remembers {shown} until {until}"));
        }
        Some(format!(
            "the resolver answers {shown}, which no name server of the zone does: it has another view of the zone (split horizon) or remembers for too long; ask another one with --resolver IP:PORT, and change the record inside as well"
        ))
    }

    fn name_servers(&self) -> Vec<NameServerRow> {
        let words = self.words();
        let serving = self.facts.serving(self.now).map(|(name, listed)| {
            let is_listed = self.facts.is_listed(name);
            let problem = match words.get(name.as_str()) {
                Some(Word::Failed(problem)) => Some(*problem),
                _ => None,
            };
            NameServerRow {
                name: name.clone(),
                addresses: listed.addresses.iter().copied().collect(),
                listed: is_listed,
                until: (!is_listed).then(|| listed.ends()),
                problem,
            }
        });
        serving.collect()
    }
}

/// Since when a line has said only what fits; moments at which it said nothing do not count.
fn since(line: &Timeline, fits: impl Fn(&BTreeSet<Data>) -> bool) -> Option<Timestamp> {
    let answers = line.sightings().iter().rev().filter_map(|s| Some((s.at, s.said.data()?)));
    answers.take_while(|(_, data)| fits(data)).map(|(at, _)| at).last()
}

/// The ends of the sightings of an authority that are meant: each may have stood until the next look, and be remembered for its
/// TTL from there.
fn ends_of<'l>(
    line: &'l Timeline,
    meant: impl Fn(&Sighting) -> bool + 'l,
) -> impl Iterator<Item = Timestamp> + 'l {
    let all = line.sightings();
    all.iter().enumerate().filter(move |(_, sighting)| meant(sighting)).map(|(at, sighting)| {
        let stood = all.get(at + 1).map_or(sighting.at, |next| next.at);
        after(stood, sighting.said.ttl().unwrap_or_default())
    })
}

/// The end of the last sighting of a server that does not fit.
fn last_end(server: &Server, line: &Timeline, fits: &impl Fn(&BTreeSet<Data>) -> bool) -> Option<Timestamp> {
    let is_old = |sighting: &Sighting| sighting.said.data().is_some_and(|data| !fits(&data));
    match server {
        // It says what is left of the time.
        Server::Resolver => line.sightings().iter().filter(|s| is_old(s)).map(Sighting::ends).max(),
        Server::Authority { .. } => ends_of(line, is_old).max(),
    }
}

/// How often a line went from what fits to what does not, and when last.
fn lost(line: &Timeline, fits: &impl Fn(&BTreeSet<Data>) -> bool) -> Option<(u64, Timestamp)> {
    let mut before = false;
    let mut lost = None;
    for (at, data) in line.sightings().iter().filter_map(|s| Some((s.at, s.said.data()?))) {
        let now = fits(&data);
        if before && !now {
            lost = Some((lost.map_or(0, |(times, _)| times) + 1, at));
        }
        before = now;
    }
    lost
}

fn ttl_note(ttl: u32, kind: RecordKind) -> Option<String> {
    match ttl {
        0 => Some("its TTL is 0: nobody remembers it, so a change is through at once; set one of minutes after the move".into()),
        ttl if ttl > TTL_LOW && kind == RecordKind::Mx => {
            let length = length(ttl);
            Some(format!(
                "its TTL is {length}: lower it to an hour or less at least {length} before the change, or mail goes to the old servers for {length} after it"
            ))
        }
        _ => None,
    }
}

fn shown(data: &BTreeSet<Data>) -> String {
    if data.is_empty() {
        return "that there is no such record".to_owned();
    }
    let records: Vec<String> = data.iter().map(|record| printable(&record.to_string())).collect();
    records.join(", ")
}

fn of_server(server: &Server) -> String {
    match server {
        Server::Resolver => "the resolver".to_owned(),
        Server::Authority { name, .. } => printable(name),
    }
}

/// All that is odd about a zone as a whole.
fn zone_notes(facts: &DnsFacts, looking: &Looking<'_>, resolver: Option<Problem>) -> Vec<String> {
    let mut notes = Vec::new();
    if facts.last.is_none() {
        return vec!["nobody asked yet: mailferry dns asks".to_owned()];
    }
    if facts.name_servers.is_empty() {
        notes.push(
            "no name server of a zone was found: check the spelling of the domain, and the resolver or give one with --resolver IP:PORT"
                .to_owned(),
        );
    }
    for row in looking.name_servers() {
        if let Some(problem) = row.problem {
            notes.push(format!("{} {problem}: {}; the others count", printable(&row.name), problem.remedy()));
        }
        if let Some(until) = row.until {
            notes.push(format!(
                "{} is no longer a name server of the zone; others may ask it until {}",
                printable(&row.name),
                until.strftime("%Y-%m-%d %H:%M UTC")
            ));
        }
    }
    let first = facts.name_servers.values().map(|listed| listed.first).min();
    let new: Vec<String> = facts
        .name_servers
        .iter()
        .filter(|(name, listed)| facts.is_listed(name) && first.is_some_and(|first| listed.first > first))
        .map(|(name, listed)| {
            format!("{} (since {})", printable(name), listed.first.strftime("%Y-%m-%d %H:%M UTC"))
        })
        .collect();
    if !new.is_empty() {
        notes.push(format!("the name servers of the zone changed: {} came", new.join(", ")));
    }
    if let Some(problem) = resolver {
        let remedy = match problem {
            Problem::Bogus => problem.remedy(),
            _ => "give another one with --resolver IP:PORT",
        };
        notes.push(format!("the resolver {problem}: {remedy}"));
    }
    let gone = looking.words().into_values().any(|word| {
        let Word::Said(lines) = word else { return false };
        lines
            .iter()
            .filter_map(|line| line.last())
            .any(|last| matches!(last.said, Said::Absent { no_name: true, .. }))
    });
    if gone {
        notes.push("the zone does not know the domain: check its spelling, or register it".to_owned());
    }
    notes
}

#[cfg(test)]
#[path = "tests/records.rs"]
mod tests;
