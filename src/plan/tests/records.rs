//! What each record must become, and where it stands, by tables: what was seen by whom and when, and the rows of it.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::api::manifest;
use crate::model::dns::Listed;

const DOMAIN: &str = "old.test";
const ADDRESS: &str = "192.0.2.1";

fn at(minute: i64) -> Timestamp {
    "2027-02-01T20:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

fn spec_to(destination: &str, domain: &str, cutover: &str) -> MailMigrationSpec {
    let text = format!(
        "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m}}\nspec:\n  \
         destination: {{{destination}}}\n  domains: [{{name: {domain}, credentialsRef: {{name: old}}}}]\n  {cutover}\n"
    );
    manifest::read(&[("m.yaml", text)]).unwrap().migrations.remove(0).spec
}

const IMAP: &str = "imap: {host: imap.new.test, credentialsRef: {name: new}}";

fn spec() -> MailMigrationSpec {
    spec_to(IMAP, DOMAIN, "cutover: {domains: [{name: old.test, mx: [mx.new.test]}]}")
}

fn of(data: impl IntoIterator<Item = Data>, ttl: u32) -> Said {
    Said::Records { data: data.into_iter().collect(), ttl }
}

fn old(ttl: u32) -> Said {
    of([Data::mx(10, "mail.old.test")], ttl)
}

fn new(ttl: u32) -> Said {
    of([Data::mx(10, "mx.new.test")], ttl)
}

fn server(name: &str) -> Server {
    match name {
        "resolver" => Server::Resolver,
        _ => Server::Authority { name: format!("{name}.old.test"), address: Some(ADDRESS.parse().unwrap()) },
    }
}

/// Facts about MX: who said what in which minute. Two name servers are listed as long as anybody was asked.
fn facts(said: &[(&str, i64, Said)]) -> DnsFacts {
    let mut facts = DnsFacts::default();
    let mx = Question::new(RecordKind::Mx, DOMAIN);
    for (who, minute, said) in said {
        facts.add(&mx, &server(who), Sighting { at: at(*minute), said: said.clone() });
        for name in ["ns1.old.test", "ns2.old.test"] {
            list(&mut facts, name, *minute, *minute);
        }
        facts.listed = facts.listed.max(Some(at(*minute)));
    }
    facts
}

fn list(facts: &mut DnsFacts, name: &str, first: i64, last: i64) {
    let listed = Listed {
        first: at(first),
        last: at(last),
        ttl: 7_200,
        addresses: BTreeSet::from([ADDRESS.parse().unwrap()]),
    };
    facts.list(name.to_owned(), listed);
}

fn row(said: &[(&str, i64, Said)], now: i64) -> RecordRow {
    stand(&spec(), DOMAIN, &facts(said), at(now)).records.remove(0)
}

#[test]
fn a_move_is_seen_server_by_server_and_ends_after_the_ttl_of_what_was_there() {
    let step = |n: usize| {
        let told = [
            ("ns1", 0, old(3_600)),
            ("ns2", 0, old(3_600)),
            ("resolver", 0, old(3_000)),
            ("ns1", 10, new(300)),
            ("ns2", 10, old(3_600)),
            ("resolver", 10, old(2_400)),
            ("ns1", 20, new(300)),
            ("ns2", 20, new(300)),
            ("resolver", 20, old(1_800)),
            ("ns1", 50, new(300)),
            ("ns2", 50, new(300)),
            ("resolver", 50, new(300)),
        ];
        row(&told[..n * 3], 50)
    };
    let before = step(1);
    assert_eq!(
        (before.state, before.old, before.seen.with, before.seen.of),
        (RecordState::Open, Old::Standing, 0, 2)
    );
    assert_eq!(before.now[0].records, [Data::mx(10, "mail.old.test")]);
    assert_eq!(before.now[0].servers, ["ns1.old.test", "ns2.old.test"]);
    let partly = step(2);
    assert_eq!((partly.state, partly.old), (RecordState::Partly, Old::Standing));
    assert_eq!(partly.seen.without, ["ns2.old.test"]);
    assert_eq!(partly.now.len(), 2);
    // All name servers have it; the resolver has not heard of it.
    let authorities = step(3);
    assert_eq!((authorities.state, authorities.seen.with), (RecordState::InPlace, 2));
    assert_eq!((authorities.seen.since, authorities.seen.resolver), (Some(at(20)), Some(false)));
    assert_eq!(authorities.old, Old::Standing);
    assert!(
        authorities.notes[0].contains("the resolver remembers 10 mail.old.test until"),
        "{:?}",
        authorities.notes
    );
    // The old record of ns2 may have stood until minute 20, and an hour from there somebody may remember it.
    let done = step(4);
    assert_eq!(
        (done.state, done.old, done.seen.resolver),
        (RecordState::InPlace, Old::EndsAt(at(80)), Some(true))
    );
    assert_eq!(done.seen.since, Some(at(20)));
    assert!(done.notes.is_empty(), "{:?}", done.notes);
}

#[test]
fn servers_that_say_nothing_are_told_and_do_not_count() {
    for problem in [Problem::Silent, Problem::Unreachable, Problem::Lame, Problem::Refused, Problem::Failing]
    {
        let told = [
            ("ns1", 0, old(600)),
            ("ns2", 0, old(600)),
            ("ns1", 10, new(600)),
            ("ns2", 10, Said::Failed(problem)),
        ];
        let mx = row(&told, 10);
        assert_eq!((mx.state, mx.seen.with, mx.seen.of), (RecordState::InPlace, 1, 2), "{problem}");
        assert_eq!(mx.seen.silent, ["ns2.old.test"]);
        assert_eq!(mx.old, Old::EndsAt(at(20)), "it cannot have given the old one since");
        let all = stand(&spec(), DOMAIN, &facts(&told), at(10));
        assert_eq!(all.servers[1].problem, Some(problem));
        assert!(all.notes[0].starts_with(&format!("ns2.old.test {problem}: ")), "{:?}", all.notes);
        // It comes back with the old one: a secondary that lagged.
        let back = [&told[..], &[("ns2", 20, old(600)), ("ns1", 20, new(600))]].concat();
        let mx = row(&back, 20);
        assert_eq!((mx.state, mx.old), (RecordState::Partly, Old::Standing));
    }
    let nobody =
        row(&[("ns1", 0, Said::Failed(Problem::Silent)), ("ns2", 0, Said::Failed(Problem::Silent))], 0);
    assert_eq!((nobody.state, nobody.seen.with, nobody.old), (RecordState::Unseen, 0, Old::Standing));
    let none = stand(&spec(), DOMAIN, &DnsFacts::default(), at(0));
    assert_eq!(none.records[0].state, RecordState::Unseen);
    assert_eq!(none.notes, ["nobody asked yet: mailferry dns asks"]);
}

#[test]
fn an_mx_that_flaps_begins_anew_and_is_told() {
    let mut told = Vec::new();
    for (minute, said) in
        [(0, old(60)), (10, new(60)), (20, old(60)), (30, new(60)), (40, old(60)), (50, new(60))]
    {
        told.push(("ns1", minute, said.clone()));
        told.push(("ns2", minute, said));
    }
    let mx = row(&told, 50);
    assert_eq!((mx.state, mx.seen.since), (RecordState::InPlace, Some(at(50))));
    assert_eq!(mx.old, Old::EndsAt(at(51)));
    assert!(
        mx.notes[0].contains(
            "ns1.old.test went back from what it must become 2 times, last at 2027-02-01 20:40 UTC"
        ),
        "{:?}",
        mx.notes
    );
    // A moment at which it said nothing breaks nothing.
    let silent = [
        ("ns1", 0, new(60)),
        ("ns2", 0, new(60)),
        ("ns1", 5, Said::Failed(Problem::Silent)),
        ("ns2", 5, new(60)),
        ("ns1", 9, new(60)),
        ("ns2", 9, new(60)),
    ];
    let mx = row(&silent, 9);
    assert_eq!((mx.seen.since, mx.old), (Some(at(0)), Old::NeverSeen));
    assert!(mx.notes.is_empty());
}

#[test]
fn ttls_of_nothing_and_of_a_week() {
    let week = row(&[("ns1", 0, old(604_800)), ("ns2", 0, old(604_800))], 0);
    assert!(
        week.notes[0].starts_with("its TTL is 7 days: lower it to an hour or less at least 7 days before"),
        "{:?}",
        week.notes
    );
    assert_eq!(week.ttl_lowered, None);
    let lowered =
        [("ns1", 0, old(604_800)), ("ns2", 0, old(604_800)), ("ns1", 60, old(300)), ("ns2", 60, old(300))];
    let mx = row(&lowered, 60);
    assert_eq!(mx.ttl_lowered, Some(at(60 + 7 * 24 * 60)));
    assert!(mx.notes.is_empty());
    // It was changed before the week was over: the week counts.
    let early = [&lowered[..], &[("ns1", 120, new(300)), ("ns2", 120, new(300))]].concat();
    assert_eq!(row(&early, 120).old, Old::EndsAt(at(60 + 7 * 24 * 60)));
    let zero = row(&[("ns1", 0, old(0)), ("ns2", 0, old(0))], 0);
    assert!(zero.notes[0].starts_with("its TTL is 0"), "{:?}", zero.notes);
    assert_eq!(zero.ttl_lowered, Some(at(0)));
    let gone = [("ns1", 0, old(0)), ("ns2", 0, old(0)), ("ns1", 1, new(0)), ("ns2", 1, new(0))];
    assert_eq!(row(&gone, 1).old, Old::EndsAt(at(1)));
    // No MX at all is remembered as well.
    let none = Said::Absent { ttl: 1_800, no_name: false };
    let mx = row(&[("ns1", 0, none.clone()), ("ns2", 0, none), ("ns1", 5, new(60)), ("ns2", 5, new(60))], 5);
    assert_eq!(mx.old, Old::EndsAt(at(35)));
}

#[test]
fn a_resolver_with_another_view_is_told_from_one_that_remembers() {
    let moved = [("ns1", 0, old(600)), ("ns2", 0, old(600)), ("ns1", 10, new(600)), ("ns2", 10, new(600))];
    let with = |minute: i64, said: Said| {
        let told =
            [&moved[..], &[("ns1", minute, new(600)), ("ns2", minute, new(600)), ("resolver", minute, said)]]
                .concat();
        row(&told, minute)
    };
    let remembers = with(15, old(300));
    assert!(
        remembers.notes[0].starts_with("the resolver remembers 10 mail.old.test until 20:20 UTC"),
        "{:?}",
        remembers.notes
    );
    let other = with(60, old(300));
    assert!(other.notes[0].contains("split horizon"), "{:?}", other.notes);
    assert_eq!(other.old, Old::Standing);
    let third = with(15, of([Data::mx(5, "inside.test")], 60));
    assert!(third.notes[0].contains("answers 5 inside.test, which no name server"), "{:?}", third.notes);
    assert!(with(60, new(300)).notes.is_empty());
    let broken = [&moved[..], &[("resolver", 20, Said::Failed(Problem::Bogus))]].concat();
    let all = stand(&spec(), DOMAIN, &facts(&broken), at(20));
    assert_eq!(all.resolver, Some(Problem::Bogus));
    assert!(
        all.notes.iter().any(|note| note.contains("DNSSEC") && note.contains("DS record")),
        "{:?}",
        all.notes
    );
    assert_eq!(all.records[0].old, Old::EndsAt(at(20)), "who says nothing does not hold it");
}

#[test]
fn a_name_server_that_was_taken_out_counts_as_long_as_others_may_ask_it() {
    let mut facts =
        facts(&[("ns1", 0, old(60)), ("ns2", 0, old(60)), ("ns1", 10, new(60)), ("ns2", 10, new(60))]);
    let mx = Question::new(RecordKind::Mx, DOMAIN);
    let ns3 = Server::Authority { name: "ns3.old.test".into(), address: Some(ADDRESS.parse().unwrap()) };
    list(&mut facts, "ns3.old.test", 0, 5);
    facts.add(&mx, &ns3, Sighting { at: at(10), said: old(60) });
    let all = stand(&spec(), DOMAIN, &facts, at(10));
    assert_eq!((all.records[0].state, all.records[0].seen.of), (RecordState::Partly, 3));
    let row = &all.servers[2];
    assert_eq!((row.listed, row.until), (false, Some(at(125))));
    assert!(all.notes[0].contains("ns3.old.test is no longer a name server of the zone"), "{:?}", all.notes);
    // Nobody asks it any more, and what it said last has ended.
    let later = stand(&spec(), DOMAIN, &facts, at(126));
    assert_eq!((later.records[0].state, later.records[0].seen.of), (RecordState::InPlace, 2));
    list(&mut facts, "ns4.old.test", 10, 10);
    let all = stand(&spec(), DOMAIN, &facts, at(10));
    assert!(
        all.notes.iter().any(|note| note.contains("changed: ns4.old.test (since 2027-02-01 20:10 UTC) came")),
        "{:?}",
        all.notes
    );
}

/// A row by its name and type, of a domain whose name servers both say this.
#[allow(clippy::needless_pass_by_value, reason = "tables read better with values")]
fn only(spec: &MailMigrationSpec, domain: &str, kind: RecordKind, name: &str, said: Said) -> RecordRow {
    let mut facts = DnsFacts { listed: Some(at(0)), ..DnsFacts::default() };
    let question = Question::new(kind, name);
    for who in ["ns1", "ns2"] {
        list(&mut facts, &format!("{who}.old.test"), 0, 0);
        facts.add(&question, &server(who), Sighting { at: at(0), said: said.clone() });
    }
    assert!(questions(spec, domain).contains(&question), "{question} is not asked");
    let rows = stand(spec, domain, &facts, at(0)).records;
    rows.into_iter().find(|row| row.name == name && row.kind == kind).unwrap()
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn mx_must_become_what_is_derived_or_named_and_all_that_is_right_counts() {
    const MICROSOFT: &str = "microsoft365: {credentialsRef: {name: new}}";
    const GOOGLE: &str = "imap: {host: imap.gmail.com, credentialsRef: {name: new}}";
    let explicit = "cutover: {domains: [{name: Contoso.example, mx: [mx1.new.test, MX2.new.test.]}]}";
    let chinese = "microsoft365: {cloud: China21Vianet, credentialsRef: {name: new}}";
    let outlook = "imap: {host: outlook.office365.com, credentialsRef: {name: new}}";
    for (destination, domain, cutover, wanted, seen, fits) in [
        (
            MICROSOFT,
            "contoso.example",
            "",
            "0 contoso-example.mail.protection.outlook.com",
            vec![(0, "contoso-example.mail.protection.outlook.com")],
            true,
        ),
        (
            MICROSOFT,
            "contoso.example",
            "",
            "0 contoso-example.mail.protection.outlook.com",
            vec![(5, "Contoso-Example.a-v1.mx.microsoft.")],
            true,
        ),
        (
            MICROSOFT,
            "contoso.example",
            "",
            "0 contoso-example.mail.protection.outlook.com",
            vec![(0, "fabrikam-example.mail.protection.outlook.com")],
            false,
        ),
        (
            MICROSOFT,
            "contoso.example",
            "",
            "0 contoso-example.mail.protection.outlook.com",
            vec![(0, "contoso-example.mail.protection.outlook.com"), (10, "mail.old.test")],
            false,
        ),
        (
            MICROSOFT,
            "contoso.example",
            "",
            "0 contoso-example.mail.protection.outlook.com",
            vec![(0, "contoso-example.mail.protection.outlook.com.evil.test")],
            false,
        ),
        (
            MICROSOFT,
            "con-toso.example",
            "",
            "0 con-toso-example.mail.protection.outlook.com",
            vec![(0, "contoso-example01b.mail.protection.outlook.com")],
            true,
        ),
        (
            MICROSOFT,
            "contoso.example",
            explicit,
            "10 mx1.new.test, 20 mx2.new.test",
            vec![(0, "contoso-example.mail.protection.outlook.com")],
            false,
        ),
        (
            outlook,
            "contoso.example",
            "",
            "0 contoso-example.mail.protection.outlook.com",
            vec![(0, "contoso-example.mail.protection.outlook.com")],
            true,
        ),
        (
            chinese,
            "contoso.example",
            "",
            "0 contoso-example.mail.protection.partner.outlook.cn",
            vec![(0, "contoso-example.mail.protection.outlook.com")],
            false,
        ),
        (GOOGLE, "contoso.example", "", "1 smtp.google.com", vec![(1, "SMTP.google.com")], true),
        (
            GOOGLE,
            "contoso.example",
            "",
            "1 smtp.google.com",
            vec![
                (1, "aspmx.l.google.com"),
                (5, "alt1.aspmx.l.google.com"),
                (5, "alt2.aspmx.l.google.com"),
                (10, "alt3.aspmx.l.google.com"),
                (10, "alt4.aspmx.l.google.com"),
            ],
            true,
        ),
        (
            GOOGLE,
            "contoso.example",
            "",
            "1 smtp.google.com",
            vec![(1, "aspmx.l.google.com"), (5, "mail.old.test")],
            false,
        ),
        (
            IMAP,
            "contoso.example",
            explicit,
            "10 mx1.new.test, 20 mx2.new.test",
            vec![(20, "mx1.new.test"), (20, "mx2.new.test")],
            true,
        ),
        (
            IMAP,
            "contoso.example",
            explicit,
            "10 mx1.new.test, 20 mx2.new.test",
            vec![(10, "mx1.new.test")],
            false,
        ),
    ] {
        let spec = spec_to(destination, domain, cutover);
        let said = of(seen.iter().map(|(preference, host)| Data::mx(*preference, host)), 60);
        let row = only(&spec, domain, RecordKind::Mx, domain, said);
        let Wanted::Records { records, .. } = &row.wanted else { panic!("{row:?}") };
        let records: Vec<String> = records.iter().map(ToString::to_string).collect();
        assert_eq!(records.join(", "), wanted);
        let state = if fits { RecordState::InPlace } else { RecordState::Open };
        assert_eq!(row.state, state, "{destination} {domain} {seen:?}");
    }
    // A destination that is not known by name does not say who takes mail in.
    let spec = spec_to(IMAP, "contoso.example", "");
    let row = only(&spec, "contoso.example", RecordKind::Mx, "contoso.example", old(60));
    assert_eq!(row.state, RecordState::Review);
    assert!(matches!(&row.wanted, Wanted::Ask(words) if words.contains("spec.cutover.domains[].mx")));
    let none = only(
        &spec,
        "contoso.example",
        RecordKind::Mx,
        "contoso.example",
        Said::Absent { ttl: 60, no_name: false },
    );
    assert_eq!(none.state, RecordState::Review);
}

#[test]
fn other_records_of_the_move_have_their_rules() {
    use RecordKind::{Cname, Srv, Txt};
    use RecordState::{InPlace, NotNeeded, Open};

    let microsoft = spec_to("microsoft365: {credentialsRef: {name: new}}", DOMAIN, "");
    let absent = || Said::Absent { ttl: 60, no_name: false };
    let alias = |host: &str| of([Data::cname(host)], 60);
    let address = || of([Data::address("192.0.2.9".parse().unwrap())], 60);
    let srv = |host: &str| of([Data::srv(0, 1, 993, host)], 60);
    for (kind, name, said, state) in [
        (Cname, "autodiscover.old.test", alias("autodiscover.outlook.com"), InPlace),
        (Cname, "autodiscover.old.test", alias("mail.old.test"), Open),
        (Cname, "autodiscover.old.test", address(), Open),
        (Cname, "autodiscover.old.test", absent(), Open),
        (Cname, "autoconfig.old.test", absent(), NotNeeded),
        (Cname, "autoconfig.old.test", address(), Open),
        (Srv, "_imaps._tcp.old.test", absent(), NotNeeded),
        (Srv, "_imaps._tcp.old.test", srv("outlook.office365.com"), InPlace),
        (Srv, "_imaps._tcp.old.test", srv("imap.old.test"), Open),
        (Srv, "_autodiscover._tcp.old.test", srv("mail.old.test"), Open),
        (
            Cname,
            "selector1._domainkey.old.test",
            alias("selector1-old-test._domainkey.contoso.onmicrosoft.com"),
            InPlace,
        ),
        (
            Cname,
            "selector2._domainkey.old.test",
            alias("selector2-old-test._domainkey.contoso.n-v1.dkim.mail.microsoft"),
            InPlace,
        ),
        (Cname, "selector2._domainkey.old.test", absent(), Open),
        (Cname, "selector2._domainkey.old.test", alias("key.old.test"), Open),
        (Txt, "old.test", of([Data::txt("v=spf1 mx -all")], 60), Open),
        (Txt, "old.test", of([Data::txt("v=spf1 mx include:spf.protection.outlook.com -all")], 60), InPlace),
        (Txt, "old.test", of([Data::txt("v=spf1 -include:spf.protection.outlook.com -all")], 60), Open),
        (
            Txt,
            "old.test",
            of(
                [Data::txt("v=spf1 mx -all"), Data::txt("v=spf1 include:spf.protection.outlook.com -all")],
                60,
            ),
            Open,
        ),
    ] {
        let row = only(&microsoft, DOMAIN, kind, name, said.clone());
        assert_eq!(row.state, state, "{name} {said:?}");
    }
    let google = spec_to("imap: {host: imap.gmail.com, credentialsRef: {name: new}}", DOMAIN, "");
    let key = of([Data::txt("v=DKIM1; k=rsa; p=MIGf")], 60);
    assert_eq!(only(&google, DOMAIN, Txt, "google._domainkey.old.test", key).state, InPlace);
    assert_eq!(only(&google, DOMAIN, Cname, "autodiscover.old.test", alias("mail.old.test")).state, Open);
    let other = spec();
    assert_eq!(only(&other, DOMAIN, Srv, "_imaps._tcp.old.test", srv("imap.new.test")).state, InPlace);
    assert_eq!(
        only(&other, DOMAIN, Cname, "autodiscover.old.test", alias("mail.old.test")).state,
        RecordState::Review
    );
    assert_eq!(only(&other, DOMAIN, Cname, "autodiscover.old.test", absent()).state, NotNeeded);
    let files = spec_to("files: {format: Mbox, path: a}", DOMAIN, "");
    assert_eq!(questions(&files, DOMAIN).len(), 2, "a copy in files takes nothing over");
}

#[test]
fn spf_keeps_who_may_send_and_gets_who_will() {
    let host = "spf.protection.outlook.com";
    for (before, after) in [
        (None, "v=spf1 include:spf.protection.outlook.com -all"),
        (Some("v=spf1 -all"), "v=spf1 include:spf.protection.outlook.com -all"),
        (
            Some("v=spf1 mx ip4:192.0.2.1 ~all"),
            "v=spf1 mx ip4:192.0.2.1 include:spf.protection.outlook.com ~all",
        ),
        (Some("v=spf1  a"), "v=spf1 a include:spf.protection.outlook.com"),
        (
            Some("v=spf1 a redirect=_spf.old.test"),
            "v=spf1 a include:spf.protection.outlook.com redirect=_spf.old.test",
        ),
        (
            Some("v=spf1 include:SPF.protection.outlook.com -all"),
            "v=spf1 include:SPF.protection.outlook.com -all",
        ),
        (Some("v=spf1"), "v=spf1 include:spf.protection.outlook.com"),
    ] {
        let wanted = spf_with(before, host, "-all");
        assert_eq!(wanted, after);
        assert!(includes(&wanted, host));
    }
}

#[test]
fn what_a_wildcard_answers_is_no_record_of_its_own() {
    let microsoft = spec_to("microsoft365: {credentialsRef: {name: new}}", DOMAIN, "");
    let mut facts = DnsFacts { listed: Some(at(0)), ..DnsFacts::default() };
    list(&mut facts, "ns1.old.test", 0, 0);
    for name in ["autodiscover.old.test", "autoconfig.old.test", "mailferry-looks-for-nothing-here.old.test"]
    {
        let said = of([Data::address("192.0.2.9".parse().unwrap())], 60);
        facts.add(&Question::new(RecordKind::Cname, name), &server("ns1"), Sighting { at: at(0), said });
    }
    let rows = stand(&microsoft, DOMAIN, &facts, at(0)).records;
    let notes = |name: &str| rows.iter().find(|row| row.name == name).unwrap().notes.clone();
    assert!(notes("autodiscover.old.test")[0].starts_with("a wildcard record answers here"));
    assert!(notes("autoconfig.old.test")[0].contains("every name below old.test"));
    assert!(notes("_imaps._tcp.old.test").is_empty());
}

#[test]
fn an_international_domain_is_asked_for_as_the_dns_knows_it() {
    let spec =
        spec_to(IMAP, "münchen.example", "cutover: {domains: [{name: MÜNCHEN.example, mx: [mx.new.test]}]}");
    let rows = stand(&spec, "münchen.example", &DnsFacts::default(), at(0));
    assert_eq!(rows.name, "xn--mnchen-3ya.example");
    assert!(matches!(rows.records[0].wanted, Wanted::Records { .. }));
    assert!(questions(&spec, "münchen.example").iter().all(|question| question.name.is_ascii()));
}

proptest! {
    /// Whatever was seen in whatever order: nothing is said to have ended while anybody answers with it, an end is never before the
    /// last look at what ended, and a later look changes nothing that it does not contradict.
    #[test]
    fn nothing_ends_before_it_can_have_ended(
        said in proptest::collection::vec((0..3_usize, 0..90_i64, 0..4_u8), 1..40)
    ) {
        let words = |kind: u8| match kind {
            0 => old(600),
            1 => new(300),
            2 => Said::Absent { ttl: 1_200, no_name: false },
            _ => Said::Failed(Problem::Silent),
        };
        let told: Vec<(&str, i64, Said)> =
            said.iter().map(|(who, minute, kind)| (["ns1", "ns2", "resolver"][*who], *minute, words(*kind))).collect();
        let facts = facts(&told);
        let rows = stand(&spec(), DOMAIN, &facts, at(90));
        let mx = rows.mx().unwrap();
        let seen = &mx.seen;
        prop_assert!(seen.with as usize + seen.without.len() + seen.silent.len() == seen.of as usize);
        if let Old::EndsAt(end) = mx.old {
            prop_assert!(seen.without.is_empty() && seen.with > 0 && seen.resolver != Some(false));
            for (_, line) in facts.of(&Question::new(RecordKind::Mx, DOMAIN)) {
                for sighting in line.sightings() {
                    let unfit = sighting.said.data().is_some_and(|data| data != BTreeSet::from([Data::mx(10, "mx.new.test")]));
                    prop_assert!(!unfit || sighting.ends() <= end);
                }
            }
        }
        if mx.state == RecordState::InPlace {
            let since = seen.since.unwrap();
            prop_assert!(since <= facts.last.unwrap());
        }
    }
}
