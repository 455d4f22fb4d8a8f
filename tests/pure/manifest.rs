//! The manifests that users write: read whole, refused with file, line, path and remedy, and never with a secret
//! in the message.

use std::fs;
use std::path::Path;

use mailferry::api::domain::{Mailboxes, Match, Usernames};
use mailferry::api::manifest::{self, Manifest, Part, SecretValue};
use mailferry::api::policy::Verify;
use mailferry::api::{Destination, LedgerSpec, MailMigration, Stage, crd, schema};
use mailferry::model::failure::Failure;
use proptest::prelude::*;

fn text_of(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(name);
    fs::read_to_string(path).unwrap()
}

fn read(text: &str) -> Result<Manifest, Failure> {
    manifest::read(&[("m.yaml", text)])
}

const NONE: &[&str] = &[];

/// The shortest manifest, which the tables below spoil line by line.
const GOOD: &str = "\
apiVersion: mailferry.dev/v1alpha1
kind: MailMigration
metadata:
  name: demo
spec:
  destination:
    imap:
      host: new.test
      credentialsRef: {name: new}
  domains:
  - name: a.test
    credentialsRef: {name: old}
    mailboxes:
      list:
      - address: anna@a.test
";

const SECRETS: &str = "\
---
apiVersion: v1
kind: Secret
metadata: {name: old}
stringData: {username: anna, password: hunter2}
---
apiVersion: v1
kind: Secret
metadata: {name: new}
stringData: {username: anna, password: hunter2}
";

#[test]
fn the_contract_is_read_as_it_stands() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/contract");
    for name in ["mixed.yaml", "single.yaml"] {
        let ours = text_of(name);
        if let Ok(theirs) = fs::read_to_string(shared.join(name)) {
            assert_eq!(ours, theirs, "tests/manifests/{name} is no longer the contract's");
        }
        let manifest = read(&ours).unwrap_or_else(|failure| panic!("{name}: {failure}"));
        check_references(&manifest, NONE).unwrap();
        assert_eq!(manifest.migrations[0].spec.stage, Stage::Sync);
    }
}

/// The manifest of a domain that goes over is the contract's; what it says of the cutover itself is not read yet.
#[test]
fn the_schedule_of_the_contract_is_read_as_it_stands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/contract/cutover.yaml");
    let Ok(text) = fs::read_to_string(path) else { return };
    let (before, rest) = text.split_once("  cutover:\n").unwrap();
    let after = rest.split_once("  destination:\n").unwrap().1;
    let manifest =
        read(&format!("{before}  destination:\n{after}")).unwrap_or_else(|failure| panic!("{failure}"));
    let schedule = manifest.migrations[0].spec.schedule.as_ref().unwrap();
    assert_eq!(schedule.every.unwrap().to_string(), "1m");
}

#[test]
fn every_field_arrives_and_goes_out_again() {
    let manifest = read(&text_of("full.yaml")).unwrap();
    let migration = &manifest.migrations[0];
    let spec = &migration.spec;
    let Destination::Imap(imap) = &spec.destination else { panic!("another destination") };
    assert_eq!(
        (imap.port, imap.endpoint().to_string().as_str()),
        (143, "IMAP imap.new.example:143 (STARTTLS)")
    );
    assert_eq!(spec.domains[0].servers[1].endpoint().to_string(), "POP3 [::1]:995 (TLS)");
    assert_eq!(
        spec.domains[0].overrides[0].endpoint().unwrap().to_string(),
        "POP3 pop.old.example:995 (TLS)"
    );
    assert!(matches!(&spec.domains[0].overrides[1].matches, Match::Addresses(a) if a.len() == 1));
    assert!(matches!(&spec.domains[1].mailboxes, Mailboxes::ConfigMapRef(rows) if rows.key == "users.csv"));
    assert_eq!((spec.policy.verify, spec.policy.settle_seconds), (Verify::Full, 20));
    assert!(matches!(&spec.ledger, LedgerSpec::Postgres(p) if p.credentials_ref.name == "ledger-db"));
    assert_eq!(manifest.place(migration, "spec.domains[1].mailboxes").as_deref(), Some("m.yaml:26"));
    assert_eq!(manifest.config_map("contoso-mail", "old-ca").unwrap()["ca.crt"], "");

    let secret = manifest.secret("contoso-mail", "contoso-source").unwrap();
    assert!(matches!(&secret["password"], SecretValue::Literal(secret) if secret.expose() == "hunter2"));
    assert!(matches!(&secret["username"], SecretValue::File(path) if path == "/run/secrets/user"));
    assert!(matches!(&secret["masterPassword"], SecretValue::Env(name) if name == "MASTER"));
    assert!(!format!("{manifest:?}").contains("hunter2"));

    let again = read(&manifest::to_yaml(migration).unwrap()).unwrap();
    assert_eq!(&again.migrations[0], migration);
}

#[test]
fn defaults_are_those_of_the_api_server() {
    let good = GOOD.replace("    mailboxes:\n      list:\n      - address: anna@a.test\n", "");
    let spec = read(&good).unwrap().migrations.remove(0).spec;
    assert_eq!((spec.stage, spec.suspend, spec.workers.concurrency), (Stage::Plan, false, 4));
    assert_eq!((spec.policy.limits.per_host_connections, spec.policy.settle_seconds), (8, 10));
    assert_eq!((spec.policy.verify, spec.domains[0].usernames), (Verify::Sampled, Usernames::Address));
    assert_eq!(spec.domains[0].mailboxes, Mailboxes::default());
    assert_eq!(spec.ledger, LedgerSpec::default());
    let LedgerSpec::Sqlite(sqlite) = spec.ledger else { panic!("SQLite is the default") };
    assert_eq!((sqlite.size.as_str(), sqlite.storage_class_name), ("10Gi", None));
    let sqlite = GOOD.replace("  domains:", "  ledger: {sqlite: {storageClassName: fast}}\n  domains:");
    let spec = read(&sqlite).unwrap().migrations.remove(0).spec;
    let LedgerSpec::Sqlite(sqlite) = spec.ledger else { panic!("SQLite was asked for") };
    assert_eq!((sqlite.size.as_str(), sqlite.storage_class_name.as_deref()), ("10Gi", Some("fast")));
    let schema = crd::schema_of::<MailMigration>().unwrap();
    let bare = serde_json::json!({"spec": {"domains": [{"servers": [{}]}], "policy": {"verify": null}}});
    let filled = schema::with_defaults(&schema, &bare);
    assert_eq!(filled["spec"]["policy"]["limits"]["perHostConnections"], 8);
    assert_eq!(filled["spec"]["policy"]["verify"], "Sampled");
    // A list stays as it was written, or it would differ from what is in Git for ever; see api::crd.
    assert_eq!(filled["spec"]["domains"], bare["spec"]["domains"]);
}

/// Spoiled manifests: (text of GOOD, its replacement, the first line of the error).
const BAD: &[(&str, &str, &str)] = &[
    (
        "    credentialsRef: {name: old}",
        "    credentalsRef: {name: old}",
        "m.yaml:12: spec.domains[0].credentalsRef: unknown field; did you mean credentialsRef?",
    ),
    (
        "      host: new.test",
        "      hots: x\n      host: new.test",
        "m.yaml:8: spec.destination.imap.hots: unknown field; did you mean host?",
    ),
    (
        "  domains:",
        "  ledger: {sqlite: {}, postgres: {credentialsRef: {name: db}}}\n  domains:",
        "m.yaml:10: spec.ledger: give exactly one of sqlite and postgres",
    ),
    (
        "  domains:",
        "  ledger: {}\n  domains:",
        "m.yaml:10: spec.ledger: give exactly one of sqlite and postgres",
    ),
    (
        "  domains:",
        "  ledger: {postgresql: {credentialsRef: {name: db}}}\n  domains:",
        "m.yaml:10: spec.ledger.postgresql: unknown field; did you mean postgres?",
    ),
    (
        "  domains:",
        "  ledger: {sqlite: {size: much}}\n  domains:",
        "m.yaml:10: spec.ledger.sqlite.size: it is not of the form ^[1-9][0-9]*(\\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
    ),
    ("  domains:", "  stage: Snyc\n  domains:", "m.yaml:10: spec.stage: unknown value; did you mean Sync?"),
    (
        "  domains:",
        "  suspend: maybe\n  domains:",
        "m.yaml:10: spec.suspend: true or false is wanted, not a text",
    ),
    (
        "      host: new.test",
        "      host: imaps://new.test",
        "m.yaml:8: spec.destination.imap.host: it holds more than a name",
    ),
    (
        "      host: new.test",
        "      host: new.test\n      port: 0",
        "m.yaml:9: spec.destination.imap.port: 0 is less than 1",
    ),
    (
        "      host: new.test",
        "      host: new.test\n      port: 70000",
        "m.yaml:9: spec.destination.imap.port: 70000 is more than 65535",
    ),
    (
        "      host: new.test",
        "      host: new.test\n      port: \"993\"",
        "m.yaml:9: spec.destination.imap.port: a whole number is wanted, not a text",
    ),
    ("      host: new.test", "      host: ''", "m.yaml:8: spec.destination.imap.host: it is empty"),
    (
        "    imap:\n      host: new.test\n      credentialsRef: {name: new}",
        "    {}",
        "m.yaml:6: spec.destination: name the destination, imap {host, credentialsRef}, microsoft365 {credentialsRef} or files {format, path or claimRef}",
    ),
    (
        "      list:",
        "      discover: {}\n      list:",
        "m.yaml:13: spec.domains[0].mailboxes: give exactly one of discover, list and configMapRef",
    ),
    (
        "      list:\n      - address: anna@a.test",
        "      {}",
        "m.yaml:13: spec.domains[0].mailboxes: give exactly one of discover, list and configMapRef",
    ),
    (
        "      - address: anna@a.test",
        "      - address: anna@b.test",
        "m.yaml:15: spec.domains[0].mailboxes.list[0].address: anna@b.test is not an address of a.test",
    ),
    (
        "      - address: anna@a.test",
        "      - address: anna@a.test\n      - address: ANNA@A.test",
        "m.yaml:16: spec.domains[0].mailboxes.list[1].address: ANNA@a.test stands in the list already, as number 0 (from 0)",
    ),
    (
        "      list:\n      - address: anna@a.test",
        "      list: []",
        "m.yaml:14: spec.domains[0].mailboxes.list: at least 1 is needed",
    ),
    (
        "    mailboxes:",
        "    overrides:\n    - match: {pattern: x, addresses: [anna@a.test]}\n      protocol: POP3\n    mailboxes:",
        "m.yaml:14: spec.domains[0].overrides[0].match: give exactly one of pattern and addresses",
    ),
    (
        "    mailboxes:",
        "    overrides: [{match: {pattern: '[x'}, protocol: IMAP}]\n    mailboxes:",
        "m.yaml:13: spec.domains[0].overrides[0].match.pattern: it is not a pattern: unclosed character class; missing ']'",
    ),
    (
        "  domains:",
        "  policy: {allowedNetworks: [127.0.0.1]}\n  domains:",
        "m.yaml:10: spec.policy.allowedNetworks: write each network in CIDR notation, as in 10.0.0.0/8 or fd00::/8",
    ),
    (
        "  domains:",
        "  policy: {since: 2019-02-30}\n  domains:",
        "m.yaml:10: spec.policy.since: it is not a day of the calendar, written YYYY-MM-DD",
    ),
    (
        "  domains:",
        "  schedule: {every: 5s}\n  domains:",
        "m.yaml:10: spec.schedule.every: 5s is not between 10s and 8760h; write how long after the last pass began the next one begins, as in 6h",
    ),
    (
        "  domains:",
        "  schedule: {every: 8761h}\n  domains:",
        "m.yaml:10: spec.schedule.every: 8761h is not between 10s and 8760h; write how long after the last pass began the next one begins, as in 6h",
    ),
    (
        "  domains:",
        "  schedule: {every: 1d}\n  domains:",
        "m.yaml:10: spec.schedule.every: it is not of the form ^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$",
    ),
    (
        "  domains:",
        "  schedule: {windows: [{from: \"20:00\", to: \"20:00\"}]}\n  domains:",
        "m.yaml:10: spec.schedule.windows[0]: from and to are both 20:00, so that it never opens; write another time, or from: \"00:00\" and to: \"24:00\" for whole days",
    ),
    (
        "  domains:",
        "  schedule: {windows: [{days: [], from: \"20:00\", to: \"06:00\"}]}\n  domains:",
        "m.yaml:10: spec.schedule.windows[0].days: at least 1 is needed",
    ),
    (
        "  domains:",
        "  schedule: {windows: [{days: [Saturday], from: \"20:00\", to: \"06:00\"}]}\n  domains:",
        "m.yaml:10: spec.schedule.windows[0].days[0]: unknown value",
    ),
    (
        "  domains:",
        "  schedule: {windows: [{from: 8pm, to: \"06:00\"}]}\n  domains:",
        "m.yaml:10: spec.schedule.windows[0].from: it is not of the form ^([01][0-9]|2[0-3]):[0-5][0-9]$",
    ),
    (
        "  domains:",
        "  schedule: {windows: [{from: \"20:00\", to: \"06:00\", timeZone: Europe/Berln}]}\n  domains:",
        "m.yaml:10: spec.schedule.windows[0].timeZone: Europe/Berln is no time zone that is known; did you mean Europe/Berlin?",
    ),
    (
        "  domains:",
        "  approvedPlan: sha256:abc\n  domains:",
        "m.yaml:10: spec.approvedPlan: it is not of the form ^sha256:[0-9a-f]{64}$",
    ),
    (
        "  domains:",
        "  acknowledge: [{finding: PopMailboxesPresent, domain: b.test, reason: x}]\n  domains:",
        "m.yaml:10: spec.acknowledge[0].domain: no domain of this migration has that name",
    ),
    (
        "  domains:",
        "  domains:\n  - {name: a.test, credentialsRef: {name: old}}",
        "m.yaml:12: spec.domains[1].name: \"a.test\" stands in this list already",
    ),
    (
        "  domains:",
        "  domains:\n  - {name: A.test, credentialsRef: {name: old}}",
        "m.yaml:12: spec.domains[1].name: it is the same domain as spec.domains[0]",
    ),
    ("  name: demo", "  name: Demo", "m.yaml:4: metadata.name: it is not a name that Kubernetes takes"),
    ("  name: demo", "  labels: {}", "m.yaml:3: metadata: name is missing"),
    (
        "  name: demo",
        "  name: demo\n  namspace: x",
        "m.yaml:5: metadata.namspace: unknown field; did you mean namespace?",
    ),
    ("  name: demo", "  name: demo\n  name: demo", "m.yaml:5: name stands twice, first in line 4"),
    ("  name: demo", "\tname: demo", "m.yaml:4: a tab stands in the indentation"),
    ("kind: MailMigration", "kind: Deployment", "m.yaml:2: kind: \"Deployment\" is not read here"),
    (
        "mailferry.dev/v1alpha1",
        "mailferry.dev/v1",
        "m.yaml:1: apiVersion: \"mailferry.dev/v1\" has no MailMigration",
    ),
    ("kind: MailMigration\n", "", "m.yaml:1: kind is missing"),
    ("spec:", "spec: !tag", "m.yaml:5: a tag (a word that begins with !) stands before the value"),
];

#[test]
fn what_cannot_stand_is_refused_with_its_line_and_path() {
    assert!(read(GOOD).is_ok());
    for &(good, bad, wanted) in BAD {
        assert!(GOOD.contains(good), "{good:?} is not in the good manifest");
        let failure = read(&GOOD.replacen(good, bad, 1)).expect_err(wanted);
        assert_eq!(failure.sentence(), wanted);
        assert_eq!(failure.class.exit_code(), 23, "{wanted}");
    }
}

#[test]
fn other_violations_are_kept_for_those_who_ask() {
    let failure = read(&GOOD.replace("- name: a.test", "- nme: a.test")).unwrap_err();
    // A misspelt field is a missing one as well; the spelling is said first.
    assert_eq!(failure.causes, ["m.yaml:11: spec.domains[0]: name is missing"]);
}

#[test]
fn whole_files_that_cannot_stand_are_refused() {
    let nested = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let row = format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
        bomb.push_str(&row);
    }
    let twice = format!("{GOOD}---\n{GOOD}");
    let table = [
        ("", "m.yaml: the file is empty"),
        ("# nothing\n---\n---\n", "m.yaml: the file is empty"),
        ("just a text", "m.yaml:1: it is not an object"),
        ("a: [1, 2\nb: 3\n", "m.yaml:2: this is not YAML: "),
        (nested.as_str(), "m.yaml:1: it is nested deeper than 64 levels"),
        (bomb.as_str(), "m.yaml:7: it is larger than 4000000 values once its aliases are written out"),
        (twice.as_str(), "m.yaml:17: MailMigration \"demo\" is there already, at m.yaml:1"),
        (&SECRETS[4..], "m.yaml: there is no MailMigration in it"),
    ];
    for (text, wanted) in table {
        let failure = read(text).expect_err(wanted);
        assert!(failure.sentence().starts_with(wanted), "{} instead of {wanted}", failure.sentence());
        assert!(failure.hint.is_some() || text == nested, "{wanted} has no remedy");
    }
    // A laptop refuses the same names as the API server: the rule is in the definition.
    let long = GOOD.replace("name: demo", &format!("name: {}", "a".repeat(64)));
    let failure = read(&long).unwrap_err().sentence();
    assert!(failure.contains("metadata.name: use at most 63 characters"), "{failure}");
    let large = "#".repeat(manifest::FILE_MAX + 1);
    assert!(read(&large).unwrap_err().sentence().contains("more than the 16777216 that are read"));
}

#[test]
fn secrets_are_refused_without_being_told() {
    let table = [
        ("stringData: {password: 31337}", "m.yaml:20: stringData.password: a text is wanted"),
        ("data: {password: 'hunter2!'}", "m.yaml:20: data.password: it is not base64"),
        ("data: {password: /w==}", "m.yaml:20: data.password: it is not text in UTF-8"),
        ("stringdata: {password: hunter2}", "m.yaml:20: stringdata: unknown field; did you mean stringData?"),
        ("stringData: [hunter2]", "m.yaml:20: stringData: a mapping is wanted"),
        ("stringData: {a: 'hunter2, b}", "m.yaml:20: this is not YAML: "),
        (
            "stringData: {password: !x hunter2}",
            "m.yaml:20: a tag (a word that begins with !) stands before the value",
        ),
    ];
    for (line, wanted) in table {
        let text = format!("{GOOD}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: old}}\n{line}\n");
        let Err(failure) = read(&text) else { panic!("{line} was read") };
        let said = format!("{failure}{:?}", failure.causes);
        assert!(failure.sentence().starts_with(wanted), "{said} instead of {wanted}");
        assert!(!said.contains("hunter2") && !said.contains("31337"), "{said}");
    }
}

/// All references of all migrations, as a run looks at them one part after the other.
fn check_references(manifest: &Manifest, given: &[&str]) -> Result<(), Failure> {
    for migration in &manifest.migrations {
        let domains = (0..migration.spec.domains.len()).map(Part::Domain);
        for part in std::iter::once(Part::Common).chain(domains) {
            manifest.check_references(migration, part, given)?;
        }
    }
    Ok(())
}

#[test]
fn references_lead_somewhere() {
    let good = format!("{GOOD}{SECRETS}");
    check_references(&read(&good).unwrap(), NONE).unwrap();
    check_references(&read(GOOD).unwrap(), &["old", "new"]).unwrap();

    let failure = check_references(&read(GOOD).unwrap(), &["new"]).unwrap_err();
    assert_eq!(
        failure.sentence(),
        "m.yaml:12: spec.domains[0].credentialsRef.name: Secret \"old\" is not in the manifest"
    );
    assert_eq!(failure.hint.as_deref(), Some("add it, or give --secret old=DIR (one file a key)"));

    let database =
        good.replace("  domains:", "  ledger: {postgres: {credentialsRef: {name: db}}}\n  domains:");
    let failure = check_references(&read(&database).unwrap(), NONE).unwrap_err();
    assert_eq!(
        failure.sentence(),
        "m.yaml:10: spec.ledger.postgres.credentialsRef.name: Secret \"db\" is not in the manifest"
    );
    check_references(&read(&database).unwrap(), &["db"]).unwrap();

    let elsewhere = good.replace("{name: old}\nstringData", "{name: old, namespace: x}\nstringData");
    let failure = check_references(&read(&elsewhere).unwrap(), NONE).unwrap_err();
    assert!(failure.hint.unwrap().starts_with("it is there in the namespace x"));

    let ca = good.replace("    mailboxes:", "    caRef: {name: ca}\n    mailboxes:");
    let failure = check_references(&read(&ca).unwrap(), NONE).unwrap_err();
    assert_eq!(
        failure.sentence(),
        "m.yaml:13: spec.domains[0].caRef.name: ConfigMap \"ca\" is not in the manifest"
    );
    let keyless =
        format!("{ca}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata: {{x: y}}\n");
    let failure = check_references(&read(&keyless).unwrap(), NONE).unwrap_err();
    assert_eq!(
        failure.sentence(),
        "m.yaml:13: spec.domains[0].caRef.key: ConfigMap \"ca\" has no key \"ca.crt\""
    );
}

#[test]
fn ten_thousand_mailboxes_are_read_and_one_more_is_refused() {
    let rows =
        |n: usize| (0..n).fold(String::new(), |rows, i| rows + &format!("      - address: user{i}@a.test\n"));
    let with = |n| GOOD.replace("      - address: anna@a.test\n", &rows(n));
    let manifest = read(&with(10_000)).unwrap();
    assert!(
        matches!(&manifest.migrations[0].spec.domains[0].mailboxes, Mailboxes::List(list) if list.len() == 10_000)
    );
    let failure = read(&with(10_001)).unwrap_err();
    assert_eq!(
        failure.sentence(),
        "m.yaml:14: spec.domains[0].mailboxes.list: 10001 items are more than the 10000 that are allowed"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_the_reader_panic_or_forget_the_place(at in 0..600_usize, cut in 0..20_usize, put in "[-a-z:{}\\[\\]\"'&*!|>#%@\t\n ,0-9\u{e4}\u{0}]{0,6}") {
        let whole = format!("{GOOD}{SECRETS}");
        let at = at.min(whole.len());
        let spoiled = format!("{}{put}{}", &whole[..at], &whole[(at + cut).min(whole.len())..]);
        if let Err(failure) = read(&spoiled) {
            let said = failure.sentence();
            prop_assert!(said.starts_with("m.yaml"), "{}", said);
        }
    }
}
