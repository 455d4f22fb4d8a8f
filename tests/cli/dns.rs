//! `mailferry dns` against real name servers: primaries and secondaries that change between two looks, lag, fail, and are
//! down. All that was seen is kept, and the reports are made of it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ferry::Ferry;
use crate::support::authority::{Authority, Zone, addresses};
use crate::support::dns::{Dns, Failing, Record};

const ZONE: &str = "old.test";

fn manifest(network: &str, destination: &str, mx: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{username: a@old.test, password: secret}}\n---\n\
         apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: going-over, namespace: demo}}\nspec:\n  \
         stage: Cutover\n  destination: {{{destination}}}\n  \
         domains: [{{name: old.test, credentialsRef: {{name: login}}}}]\n  {mx}\n  \
         policy: {{allowedNetworks: [\"{network}\"]}}\n"
    )
}

const IMAP: &str = "imap: {host: imap.new.test, credentialsRef: {name: login}}";
const TO_NEW: &str = "cutover: {domains: [{name: old.test, mx: [mx.new.test]}]}";

/// A zone with these name servers and records; each new one has another serial.
fn zone(serial: u32, servers: &[IpAddr], records: &str) -> String {
    let mut text =
        format!("$ORIGIN old.test.\n$TTL 3600\n@ IN SOA ns1 hostmaster {serial} 3600 600 604800 300\n");
    for (n, address) in (1..).zip(servers) {
        text.push_str(&format!("@ IN NS ns{n}\nns{n} IN A {address}\n"));
    }
    text + records + "\n"
}

fn primary(serial: u32, servers: &[IpAddr], records: &str, told: &[IpAddr]) -> Zone {
    Zone::Primary(ZONE.to_owned(), zone(serial, servers, records), told.to_vec())
}

fn look(ferry: &Ferry) -> Value {
    let ended = ferry.call("dns", &["--output", "json"]);
    assert_eq!(ended.code, 0, "{}\n{}", ended.stderr, ended.stdout);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn mx(report: &Value) -> &Value {
    let mx = &report["domains"][0]["records"][0];
    assert_eq!(mx["type"], "MX");
    mx
}

fn record<'a>(report: &'a Value, name: &str, kind: &str) -> &'a Value {
    let records = report["domains"][0]["records"].as_array().unwrap();
    records.iter().find(|row| row["name"] == name && row["type"] == kind).unwrap()
}

fn notes(report: &Value) -> String {
    report["domains"][0]["notes"].to_string()
}

#[test]
fn a_move_is_watched_at_a_primary_a_secondary_that_lags_and_one_that_is_down() {
    let (network, at) = addresses(3);
    let old = "@ 600 IN MX 10 mail";
    let new = "@ 300 IN MX 10 mx.new.test.";
    let mut ns1 = Authority::start(at[0], primary(1, &at, old, &[]));
    let _ns2 = Authority::start(at[1], Zone::Secondary(ZONE.to_owned(), at[0]));
    let dns = Dns::start(&[Record::forward(ZONE, at[0])]);
    let ferry = Ferry::new(&manifest(&network, IMAP, TO_NEW)).resolver(dns.addr());

    // The secondary fetches the zone when it starts.
    let end = Instant::now() + Duration::from_secs(20);
    let before = loop {
        let report = look(&ferry);
        if mx(&report)["now"][0]["servers"].as_array().is_some_and(|servers| servers.len() == 2) {
            break report;
        }
        assert!(Instant::now() < end, "{report}");
    };
    assert_eq!((&mx(&before)["state"], &mx(&before)["seen"]["of"]), (&"Open".into(), &3.into()), "{before}");
    assert_eq!(mx(&before)["now"][0]["records"][0]["value"], "10 mail.old.test");
    assert_eq!(mx(&before)["now"][0]["ttl"], 600);
    assert_eq!(mx(&before)["wanted"]["records"]["records"][0]["value"], "10 mx.new.test");
    assert_eq!(before["domains"][0]["zone"], ZONE);
    assert!(notes(&before).contains("ns3.old.test cannot be reached: start it"), "{}", notes(&before));

    // The primary has it, and the secondary does not know yet.
    ns1.serve(primary(2, &at, new, &[]));
    let lagging = look(&ferry);
    let seen = &mx(&lagging)["seen"];
    assert_eq!((&mx(&lagging)["state"], &seen["with"]), (&"Partly".into(), &1.into()), "{lagging}");
    assert_eq!((&seen["without"][0], &seen["silent"][0]), (&"ns2.old.test".into(), &"ns3.old.test".into()));
    assert_eq!((&mx(&lagging)["old"], &lagging["switched"]), (&"standing".into(), &false.into()));
    let told = ferry.call("dns", &[]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    for words in [
        "Mailferry changes no DNS",
        "seen at 1 of 3 name servers since",
        "not yet at ns2.old.test; no answer from ns3.old.test",
    ] {
        let said = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words), "{words}\n{}", told.stdout);
    }

    // It is told, and fetches the zone.
    ns1.serve(primary(3, &at, new, &[at[1]]));
    let end = Instant::now() + Duration::from_secs(20);
    let after = loop {
        let report = look(&ferry);
        if mx(&report)["state"] == "InPlace" {
            break report;
        }
        assert!(Instant::now() < end, "{report}");
    };
    assert_eq!((&mx(&after)["seen"]["with"], &after["switched"]), (&2.into(), &true.into()));
    assert_eq!(mx(&after)["seen"]["resolver"], true);
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (since, ends) = (time(&mx(&after)["seen"]["since"]), time(&mx(&after)["old"]["endsAt"]));
    // Who had it last had the old one until then, and others may remember that for ten minutes.
    assert_eq!(ends.duration_since(since), jiff::SignedDuration::from_mins(10), "{after}");

    // What is kept says the same, without a question to anybody.
    ns1.stop();
    let kept = |format: &str| ferry.call("report", &["--kind", "dns", "--format", format]);
    let json: Value = serde_json::from_str(&kept("json").stdout).unwrap();
    assert_eq!(
        (mx(&json)["seen"]["since"].clone(), mx(&json)["old"].clone()),
        (mx(&after)["seen"]["since"].clone(), mx(&after)["old"].clone())
    );
    let html = kept("html").stdout;
    assert!(
        html.contains("seen at 2 of 3 name servers since") && html.contains("Mailferry changes no DNS"),
        "{html}"
    );
    assert!(kept("csv").stdout.contains("\"old.test\",\"MX\",\"old.test\""));
    let book = ferry.path("dns.xlsx");
    assert_eq!(ferry.call("report", &["--kind", "dns", "--out", book.to_str().unwrap()]).code, 0);
    assert!(book.metadata().unwrap().len() > 2_000);

    // The primary is gone: the one that answers counts, and when it was seen first stays a fact.
    let gone = look(&ferry);
    assert_eq!((&mx(&gone)["state"], &mx(&gone)["seen"]["with"]), (&"InPlace".into(), &1.into()), "{gone}");
    assert_eq!(mx(&gone)["seen"]["since"], mx(&after)["seen"]["since"]);
    assert_eq!(mx(&gone)["old"], mx(&after)["old"]);
}

#[test]
fn records_of_microsoft_365_are_lines_for_a_zone_and_objects_for_external_dns() {
    let (network, at) = addresses(1);
    // The answer about texts does not fit into one packet.
    let others: String = (0..12).map(|n| format!("@ IN TXT \"other-{n}={}\"\n", "x".repeat(200))).collect();
    let records = format!(
        "{others}@ 0 IN MX 10 mail\n@ IN TXT \"v=spf1 mx \" \"-all\"\n* IN A 192.0.2.7\nautodiscover IN CNAME mail\n_imaps._tcp IN SRV 0 1 993 mail\n"
    );
    let mut ns1 = Authority::start(at[0], primary(1, &at, &records, &[]));
    let dns = Dns::start(&[Record::forward(ZONE, at[0])]);
    let to = "microsoft365: {credentialsRef: {name: login}}";
    let ferry = Ferry::new(&manifest(&network, to, "")).resolver(dns.addr());
    let report = look(&ferry);
    assert_eq!(mx(&report)["now"][0]["ttl"], 0);
    assert!(mx(&report)["notes"][0].as_str().unwrap().starts_with("its TTL is 0"), "{report}");
    let spf = record(&report, ZONE, "TXT");
    assert_eq!(spf["now"][0]["records"][0]["value"], "v=spf1 mx -all", "{report}");
    let wild = record(&report, "autoconfig.old.test", "CNAME");
    assert!(wild["notes"][0].as_str().unwrap().starts_with("a wildcard record answers here"), "{wild}");
    assert_eq!(record(&report, "_imaps._tcp.old.test", "SRV")["state"], "Open");

    let zone = ferry.call("dns", &["--output", "zone"]).stdout;
    for line in [
        "; take out: old.test. 0 IN MX 10 mail.old.test.",
        "old.test. 300 IN MX 0 old-test.mail.protection.outlook.com.",
        "; take out: old.test. 3600 IN TXT \"v=spf1 mx -all\"",
        "old.test. 3600 IN TXT \"v=spf1 mx include:spf.protection.outlook.com -all\"",
        "autodiscover.old.test. 3600 IN CNAME autodiscover.outlook.com.",
        "; take out: _imaps._tcp.old.test. 3600 IN SRV 0 1 993 mail.old.test.",
    ] {
        assert!(zone.lines().any(|found| found == line), "{line}\n{zone}");
    }
    let objects = ferry.call("dns", &["--output", "dnsendpoint"]).stdout;
    for words in [
        "apiVersion: externaldns.k8s.io/v1alpha1\nkind: DNSEndpoint\n",
        "  name: going-over-old.test\n  namespace: demo\n",
        "  - dnsName: old.test\n    recordTTL: 300\n    recordType: MX\n    targets:\n    - 0 old-test.mail.protection.outlook.com\n",
        "    recordType: CNAME\n    targets:\n    - autodiscover.outlook.com\n",
        "# By hand, TXT old.test: beside the other texts of the name: v=spf1 mx include:spf.protection.outlook.com -all\n",
        "# By hand, CNAME selector1._domainkey.old.test: CNAME selector1-old-test._domainkey.TENANT.onmicrosoft.com",
    ] {
        assert!(objects.contains(words), "{words}\n{objects}");
    }

    // The lines that it wrote are a zone that it finds in place.
    let made: String =
        zone.lines().filter(|line| !line.starts_with(';')).map(|line| format!("{line}\n")).collect();
    ns1.serve(primary(2, &at, &made, &[]));
    let report = look(&ferry);
    assert_eq!(
        (&mx(&report)["state"], &record(&report, ZONE, "TXT")["state"]),
        (&"InPlace".into(), &"InPlace".into()),
        "{report}"
    );
    assert_eq!(record(&report, "autodiscover.old.test", "CNAME")["state"], "InPlace");
}

#[test]
fn each_name_server_that_fails_is_told_and_stops_nobody() {
    let (network, at) = addresses(5);
    let records = "@ IN MX 10 mx.new.test.";
    let mut good = Authority::start(at[0], primary(1, &at, records, &[]));
    let _refusing = Authority::start(
        at[1],
        Zone::Primary("other.test".into(), zone(1, &at, "").replace("old.test", "other.test"), vec![]),
    );
    let parent = "$ORIGIN test.\n$TTL 60\n@ IN SOA ns.test. hostmaster 1 3600 600 604800 300\n@ IN NS ns\nns IN A 192.0.2.1\nold IN NS ns1.old\nns1.old IN A 192.0.2.2\n";
    let _lame = Authority::start(at[2], Zone::Primary("test".into(), parent.into(), vec![]));
    let _failing = Authority::start(at[3], Zone::Broken(ZONE.into()));
    let dns = Dns::start(&[Record::forward(ZONE, at[0])]);
    let checking = Failing::checking(dns.addr(), 15);
    let ferry = Ferry::new(&manifest(&network, IMAP, TO_NEW)).resolver(checking.addr());
    let report = look(&ferry);
    assert_eq!(
        (&mx(&report)["state"], &mx(&report)["seen"]["with"]),
        (&"InPlace".into(), &1.into()),
        "{report}"
    );
    let problem = |n: usize| report["domains"][0]["servers"][n]["problem"].clone();
    let problems: Vec<Value> = (0..5).map(problem).collect();
    assert_eq!(
        problems,
        [Value::Null, "Refused".into(), "Lame".into(), "Failing".into(), "Unreachable".into()],
        "{report}"
    );
    assert_eq!(report["domains"][0]["resolver"], "Bogus", "{report}");
    assert!(
        notes(&report).contains("finds wrong signatures in the zone (DNSSEC): mend the DS record"),
        "{}",
        notes(&report)
    );

    // Name servers change in the middle.
    good.serve(primary(2, &[at[0], at[0]], records, &[]));
    let report = look(&ferry);
    assert!(
        notes(&report)
            .contains("ns5.old.test is no longer a name server of the zone; others may ask it until"),
        "{}",
        notes(&report)
    );
    assert_eq!(report["domains"][0]["servers"][1]["problem"], Value::Null);
}

#[test]
fn nobody_to_ask_is_a_failure_with_a_remedy() {
    let (_, at) = addresses(2);
    let _ns1 = Authority::start(at[0], primary(1, &at[..1], "@ IN MX 10 mail", &[]));
    let dns = Dns::start(&[Record::forward(ZONE, at[0])]);
    // The resolver answers about MX, and the policy keeps us from the name server: that is told, and ends well.
    let ferry = Ferry::new(&manifest("192.0.2.0/24", IMAP, TO_NEW)).resolver(dns.addr());
    let report = look(&ferry);
    assert!(notes(&report).contains("spec.policy.allowedNetworks"), "{}", notes(&report));
    assert_eq!(mx(&report)["state"], "Unseen");
    let failing = Failing::before(dns.addr(), 15);
    let ferry = Ferry::new(&manifest("192.0.2.0/24", IMAP, TO_NEW)).resolver(failing.addr());
    let ended = ferry.call("dns", &[]);
    assert_eq!(ended.code, 22, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("old.test: no name server answers: ns1.old.test is at a private address"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("hint: list its network in spec.policy.allowedNetworks"),
        "{}",
        ended.stderr
    );
    // Nobody at all.
    let ferry = Ferry::new(&manifest("127.0.0.0/8", IMAP, TO_NEW)).resolver((at[1], 53).into());
    let ended = ferry.call("dns", &[]);
    assert_eq!(ended.code, 10, "{}", ended.stderr);
    assert!(ended.stdout.contains("no zone was found"), "{}", ended.stdout);
    assert!(ended.stderr.contains("--resolver IP:PORT"), "{}", ended.stderr);
    // Before anybody asked.
    let ferry = Ferry::new(&manifest("127.0.0.0/8", IMAP, TO_NEW));
    let ended = ferry.call("report", &["--kind", "dns", "--format", "json"]);
    assert_eq!(ended.code, 23, "{}", ended.stderr);
}
