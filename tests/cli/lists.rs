//! Lists of mailboxes as administrators have them: exported from spreadsheets, mistyped, for both ends at once. An
//! invalid row is reported by its line before anything is connected to, and valid ones are carried by real servers.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::ferry::{Ended, Ferry, Manifest, assert_equation, figure, server};
use crate::support::ca::Ca;
use crate::support::corpus::Corpus;
use crate::support::dns::{Dns, Record};
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

/// Runs the binary in a directory, as an administrator would.
fn mailferry(directory: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
    command.args(args).current_dir(directory).stdin(Stdio::null()).env_remove("MAILFERRY_LOG");
    // Nobody may be asked for a name.
    command.env("DESTINATION_PASSWORD", "boss-secret");
    Ended::from(command.output().expect("mailferry can be started"))
}

/// The lines that begin with `error: `, each with the remedy below it.
fn errors(ended: &Ended) -> Vec<(String, String)> {
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let told = (0..lines.len()).filter_map(|at| {
        let error = lines[at].strip_prefix("error: ")?;
        let hint = lines.get(at + 1).and_then(|line| line.strip_prefix("  hint: ")).unwrap_or_default();
        Some((error.to_owned(), hint.to_owned()))
    });
    told.collect()
}

/// The employees of the example: name, address, password, and where they go.
const STAFF: [(&str, &str, &str, &str, &str); 3] = [
    ("Jörg Müller", "joerg@alt.test", "Straße;7", "j.mueller@neu.test", "Grüße\"1"),
    ("Anna Groß", "anna@alt.test", "anna-alt", "anna@neu.test", "anna-neu"),
    ("Böse, Bernd", "bernd@zweig.test", "ärger", "bernd@neu.test", "bernd,neu"),
];

fn old() -> Dovecot {
    let mut old = Dovecot::builder().imap(LOOPBACK);
    for (_, address, password, ..) in STAFF {
        old = old.user(User::new(address, password));
    }
    let old = old.start();
    for (at, (_, address, ..)) in (90..).zip(STAFF) {
        old.mailbox(address).seed(Corpus::new(at).messages(12));
    }
    old
}

fn new() -> Dovecot {
    let mut new = Dovecot::builder().imap(LOOPBACK).master("boss", "boss-secret");
    for (_, _, _, address, password) in STAFF {
        new = new.user(User::new(address, password));
    }
    new.start()
}

/// The sheet as Excel exports it in Germany: semicolons, CR LF, blank rows, a column that is nobody's business.
fn sheet() -> String {
    let cell = |text: &str| {
        let special = text.contains([';', '"']);
        if special { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
    };
    let mut text = "Mitarbeiter;E-Mail-Adresse;Kennwort;Neue Adresse;Neues Kennwort\r\n;;;;\r\n".to_owned();
    for (name, address, password, to, other) in STAFF {
        let cells = [name, address, password, to, other].map(cell);
        text.push_str(&format!("{}\r\n\r\n", cells.join(";")));
    }
    text
}

fn windows_1252(text: &str) -> Vec<u8> {
    let (bytes, _, unmapped) = encoding_rs::WINDOWS_1252.encode(text);
    assert!(!unmapped);
    bytes.into_owned()
}

/// The sheet as Excel's "Unicode text": UTF-16 with tabs, where a semicolon is a letter like any other.
fn unicode_text(sheet: &str) -> Vec<u8> {
    let text = sheet.replace("\"Straße;7\"", "Straße\u{1}7").replace(';', "\t").replace('\u{1}', ";");
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// Servers without TLS are only for tests; an administrator's have it.
fn without_tls(manifest: &Path) {
    let text = fs::read_to_string(manifest).unwrap();
    assert!(text.contains("tls: Implicit"), "{text}");
    fs::write(manifest, text.replace("tls: Implicit", "tls: None")).unwrap();
}

#[test]
fn an_administrators_way_from_a_spreadsheet_to_verified_has_two_failed_commands_at_most() {
    // The last one is as people leave lists: one mailbox twice with other passwords, and a name without a domain.
    let spoiled = format!("{};anna@alt.test;other;;x\r\nNeu;hans;x;;x\r\n", "Anna");
    let cases: [(&str, Vec<u8>, bool); 4] = [
        ("Windows-1252", windows_1252(&sheet()), false),
        ("UTF-8", format!("\u{feff}{}", sheet()).into_bytes(), false),
        ("UTF-16", unicode_text(&sheet()), false),
        ("Windows-1252", windows_1252(&format!("{}{spoiled}", sheet())), true),
    ];
    for (form, bytes, is_spoiled) in cases {
        let (old, new) = (old(), new());
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        fs::write(home.join("liste.csv"), bytes).unwrap();
        let mut failed = 0;
        let (from, to) = (old.imap().to_string(), new.imap().to_string());
        let init = ["init", "--from", "liste.csv", "--source", &from, "--destination", &to];
        let mut first = mailferry(home, &init);
        if first.code != 0 {
            failed += 1;
            let (line, hint) = first.error();
            println!("error: {line}\n  hint: {hint}");
            assert!(is_spoiled, "{line}");
            // Every row at once, by the lines that the editor shows.
            assert!(line.contains("liste.csv:9: ") && line.contains("liste.csv:10: "), "{line}");
            assert!(!hint.is_empty() && !home.join("migration.yaml").exists());
            let text = sheet();
            fs::write(home.join("liste.csv"), windows_1252(&text)).unwrap();
            first = mailferry(home, &init);
        }
        first.expect_code(0);
        println!("{}", first.stdout);
        assert!(first.stdout.contains(&format!("was read as {form}")), "{}", first.stdout);
        assert!(first.stdout.contains("\"Mitarbeiter\" is not read"), "{}", first.stdout);
        assert!(first.stdout.contains("2 domains, 3 mailboxes"), "{}", first.stdout);
        let manifest = fs::read_to_string(home.join("migration.yaml")).unwrap();
        for (.., password, _, other) in STAFF {
            assert!(!manifest.contains(password) && !manifest.contains(other), "{manifest}");
        }
        without_tls(&home.join("migration.yaml"));
        mailferry(home, &["validate", "-f", "migration.yaml"]).expect_code(0);
        mailferry(home, &["run", "-f", "migration.yaml", "--state", "state", "--stage", "Plan"])
            .expect_code(0);
        let ran = mailferry(
            home,
            &["run", "-f", "migration.yaml", "--state", "state", "--stage", "Sync", "-o", "json"],
        );
        ran.expect_code(0);
        let status = ran.json();
        assert_equation(&status);
        assert_eq!(figure(&status, "copied"), 36);
        let conditions = status["status"]["conditions"].as_array().unwrap();
        let verified = conditions.iter().find(|one| one["type"] == "Verified").unwrap();
        assert_eq!(verified["status"], "True", "{verified}");
        for (_, address, _, to, _) in STAFF {
            let (there, here) =
                (new.mailbox(to).read_all().messages(), old.mailbox(address).read_all().messages());
            assert_eq!(there, here, "{address} → {to}");
        }
        assert!(failed <= 2);
    }
}

/// Servers that a domain publishes, with private addresses of their own and certificates of an authority of one's own.
#[test]
fn the_way_into_a_private_network_fails_twice_at_most_and_each_time_with_the_remedy() {
    let ca = Ca::new();
    let [here, there]: [SocketAddr; 2] = ["127.0.0.1:0"; 2].map(|at| at.parse().unwrap());
    let mut old = Dovecot::builder().imaps(here).tls(&ca.issue(&["imap.alt.test"]));
    let mut new = Dovecot::builder().imaps(there).tls(&ca.issue(&["imap.neu.test"]));
    // A host outside of a domain would have to be let in by hand: all are of one.
    let staff =
        STAFF.map(|(_, address, password, to, other)| (address.replace("zweig", "alt"), password, to, other));
    for (address, password, to, other) in &staff {
        (old, new) = (old.user(User::new(address, password)), new.user(User::new(to, other)));
    }
    let (old, new) = (old.start(), new.start());
    for (at, (address, ..)) in (90..).zip(&staff) {
        old.mailbox(address).seed(Corpus::new(at).messages(5));
    }
    let dns = Dns::start(&[
        Record::mx("alt.test", "imap.alt.test", 10),
        Record::srv("_imaps._tcp.alt.test", "imap.alt.test", old.imaps().port()),
        Record::a("imap.alt.test", "127.0.0.1"),
        Record::a("imap.neu.test", "127.0.0.1"),
    ]);
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    fs::write(home.join("liste.csv"), windows_1252(&sheet().replace("bernd@zweig.test", "bernd@alt.test")))
        .unwrap();
    fs::write(home.join("ca.pem"), ca.pem()).unwrap();
    let to = format!("imap.neu.test:{}", new.imaps().port());
    let resolver = dns.addr().to_string();
    let mut failed = 0;
    let tell = |ended: &Ended, failed: &mut u32| {
        println!("[{}] {}{}", ended.code, ended.stdout, ended.stderr);
        *failed += u32::from(ended.code != 0);
    };
    let made = mailferry(home, &["init", "--from", "liste.csv", "--destination", &to]);
    tell(&made, &mut failed);
    assert!(
        made.stdout.contains("spec.policy.allowedNetworks") && made.stdout.contains("--ca"),
        "{}",
        made.stdout
    );
    tell(&mailferry(home, &["validate", "-f", "migration.yaml"]), &mut failed);
    // Somebody who does not read it asks for the plan first.
    let plan = mailferry(home, &["plan", "-f", "migration.yaml", "--state", "state"]);
    tell(&plan, &mut failed);
    let (_, hint) = plan.error();
    assert!(hint.contains("--stage Plan"), "{hint}");
    let run = |more: &[&str]| {
        let common = ["run", "-f", "migration.yaml", "--state", "state", "--resolver", &resolver];
        mailferry(home, &[&common[..], more].concat())
    };
    let first = run(&["--stage", "Plan"]);
    tell(&first, &mut failed);
    // The network, and the authority that would be missed next.
    let told = format!("{}{}", first.stdout, first.stderr);
    for part in ["[\"127.0.0.1/32\"]", "spec.policy.allowedNetworks", "--ca"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let text = fs::read_to_string(home.join("migration.yaml")).unwrap();
    let text = text
        .replace("  # policy:", "  policy:")
        .replace("  #   allowedNetworks: [\"10.0.0.0/8\"]", "    allowedNetworks: [\"127.0.0.1/32\"]");
    fs::write(home.join("migration.yaml"), text).unwrap();
    tell(&run(&["--stage", "Plan", "--ca", "ca.pem"]), &mut failed);
    let ran = run(&["--stage", "Sync", "--ca", "ca.pem", "-o", "json"]);
    tell(&ran, &mut failed);
    assert_equation(&ran.json());
    assert_eq!(figure(&ran.json(), "copied"), 15);
    assert!(failed <= 2, "{failed} commands failed");
}

#[test]
fn init_wants_what_opens_the_mailboxes_and_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let (line, hint) = mailferry(home, &["init"]).expect_code(23).error();
    assert!(
        line.contains("--from LIST or --mailbox ADDRESS is missing") && hint.contains("terminal"),
        "{line} {hint}"
    );
    fs::write(home.join("liste.csv"), "address,password\nanna@alt.test,x\n").unwrap();
    let to = ["--from", "liste.csv", "--destination", "imap.neu.test"];
    let (line, hint) = mailferry(home, &[&["init"][..], &to].concat()).expect_code(23).error();
    assert!(
        line.contains("destinationPassword") && hint.contains("--destination-admin USER"),
        "{line} {hint}"
    );
    let with_admin = [&["init"][..], &to, &["--destination-admin", "boss", "--output", "json"]].concat();
    let made = mailferry(home, &with_admin).expect_code(0).json();
    assert_eq!(made["variables"], serde_json::json!(["DESTINATION_PASSWORD"]));
    let before = fs::read(home.join("migration.yaml")).unwrap();
    let (line, hint) = mailferry(home, &with_admin).expect_code(23).error();
    assert!(line.contains("migration.yaml: is there already") && hint.contains("--out"), "{line} {hint}");
    assert_eq!(fs::read(home.join("migration.yaml")).unwrap(), before);
    for (path, mode) in [("", 0o755), ("migration.yaml", 0o644), ("liste.csv", 0o644)] {
        fs::set_permissions(home.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let ended = mailferry(home, &["validate", "-f", "migration.yaml"]);
    // Names and references are no passwords; the list has some.
    assert_eq!(ended.expect_code(0).stderr.matches("holds passwords").count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("migration.yaml"), "{}", ended.stderr);
    let one = ["init", "--mailbox", "anna@alt.test", "--destination", "imap.neu.test", "--out", "-"];
    let text = &mailferry(home, &one).expect_code(0).stdout.clone();
    assert!(
        text.contains("password: \"env:SOURCE_PASSWORD\"") && text.contains("address: anna@alt.test"),
        "{text}"
    );
}

/// A manifest with its list in it, in a ConfigMap's file, or in a Secret's file.
fn manifest_of(list: &str, more: &str) -> String {
    let indented: String = list.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData:\n  mailboxes.csv: |\n{indented}---\n\
         apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m}}\nspec:\n  stage: Sync\n  \
         destination: {{imap: {{host: imap.new.test, credentialsRef: {{name: s}}}}}}\n{more}"
    )
}

#[test]
fn validate_tells_everything_at_once_with_lines_and_connects_to_nobody() {
    let domains = "  domains:\n  - {name: a.test, credentialsRef: {name: s}}\n  - {name: b.test, credentialsRef: {name: s}}\n";
    for (list, wanted) in [
        (
            "address,password\na@a.test,\"x\nb@a.test,y",
            &[("m.yaml:7", "begins with a quote that does not end on its line")][..],
        ),
        (
            "address,password\na@a.test,pa,ss\nb@a.test,y",
            &[("m.yaml:7", "has 3 cells, and the first line names 2")],
        ),
        (
            "address;password\n\nanna;x\na@a.test;\nb@b.test;y\nB@B.test;z",
            &[
                ("m.yaml:8", "is no mail address"),
                ("m.yaml:11", "lists a mailbox again and says something else of it than m.yaml:10"),
            ],
        ),
        (
            "address;password\n\na@a.test;\nb@b.test;",
            &[("m.yaml:8", "has no password"), ("m.yaml:9", "has no password")],
        ),
        (
            "E-Mail-Konto;Kennwort\na@a.test;x",
            &[("m.yaml:6", "its columns are \"E-Mail-Konto\", \"Kennwort\"")],
        ),
    ] {
        let ferry = Ferry::new("");
        let path = ferry.path("m.yaml");
        fs::write(&path, manifest_of(list, domains)).unwrap();
        let ended = mailferry(path.parent().unwrap(), &["validate", "-f", "m.yaml"]);
        ended.expect_code(23);
        let told = errors(&ended)
            .iter()
            .map(|(line, hint)| format!("{line} | {hint}"))
            .collect::<Vec<_>>()
            .join("\n");
        println!("{told}\n");
        for (line, what) in wanted {
            assert!(
                told.lines().any(|one| one.contains(line) && one.contains(what) && !one.ends_with("| ")),
                "{told}"
            );
        }
        assert!(!ferry.state().exists());
    }
    // Faults in the manifest itself, in a reference and in a list are reported together.
    let ferry = Ferry::new("");
    let home = ferry.path("m.yaml").parent().unwrap().to_owned();
    fs::write(home.join("liste.csv"), windows_1252("Adresse;Kennwort\r\n\r\na@a.test;ärger;\r\nb;x\r\n"))
        .unwrap();
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {username: u, pasword: x}\n---\n\
                apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {users.csv: \"file:liste.csv\"}\n---\n\
                apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {name: m}\nspec:\n  \
                destination: {imap: {host: imap.new.test, credentialsRef: {name: s}}}\n  columns: {address: [adresse]}\n  domains:\n  \
                - {name: a.test, credentialsRef: {name: s}, mailboxes: {configMapRef: {name: c, key: users.csv}}}\n  \
                - {name: b.test, credentialsRef: {name: nobody}}\n";
    fs::write(home.join("m.yaml"), text).unwrap();
    let ended = mailferry(&home, &["validate", "-f", "m.yaml", "--output", "json"]);
    let found = ended.expect_code(23).json();
    let told: Vec<String> = found["errors"].as_array().unwrap().iter().map(ToString::to_string).collect();
    println!("{told:#?}");
    for part in [
        "liste.csv:3",
        "liste.csv:4",
        "has username but no key password",
        "\\\"nobody\\\" is not in the manifest",
    ] {
        assert!(told.iter().any(|one| one.contains(part)), "{part}: {told:#?}");
    }
    fs::write(home.join("x.yaml"), "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {name: m}\nspec: {stagee: Plan}\n").unwrap();
    let told = errors(&mailferry(&home, &["validate", "-f", "x.yaml"]));
    assert!(told.len() >= 3 && told[0].0.contains("did you mean stage?"), "{told:?}");
}

#[test]
fn every_row_is_told_at_once_within_bounds_and_so_is_what_the_manifest_lacks() {
    let domains = "  domains:\n  - {name: a.test, credentialsRef: {name: s}}\n";
    let validate = |text: &str, more: &[&str]| {
        let ferry = Ferry::new("");
        let path = ferry.path("m.yaml");
        fs::write(&path, text).unwrap();
        let ended = mailferry(path.parent().unwrap(), &[&["validate", "-f", "m.yaml"][..], more].concat());
        println!("{}{}", ended.stderr, ended.stdout);
        ended
    };
    // A quote without an end, rows below it, and a row of a domain that is mistyped.
    let list = "address,password\na@a.test,\"x\nb@a.test,y\nhans,z\nc@a.tset,z";
    let ended = validate(&manifest_of(list, domains), &[]);
    ended.expect_code(23);
    for part in ["m.yaml:7: ", "m.yaml:9: ", "note: 1 row of ", "c@a.tset (m.yaml:10, is a.test meant?)"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    // Hundreds of errors: some, how many more, and first of all what is about the manifest itself.
    let rows: String = (0..300).map(|n| format!("\nname{n},x")).collect();
    let text = manifest_of(&format!("address,password{rows}"), domains);
    let text = text.replace(
        "{name: a.test, credentialsRef: {name: s}}",
        "{name: a.test, credentialsRef: {name: s}}\n  - {name: b.test, credentialsRef: {name: nobody}}",
    );
    let ended = validate(&text, &[]);
    ended.expect_code(23);
    let told = errors(&ended);
    assert!(told.len() == 20 && told[0].0.contains("\"nobody\""), "{told:?}");
    assert!(ended.stderr.contains("and 281 errors more; --output json has all of them"), "{}", ended.stderr);
    assert!(ended.stdout.contains("301 errors"), "{}", ended.stdout);
    let all = validate(&text, &["--output", "json"]).expect_code(23).json();
    assert_eq!(all["errors"].as_array().unwrap().len(), 301);
    // Private addresses are known without a network.
    let good = manifest_of(
        "address,password\na@a.test,x",
        "  domains:\n  - {name: a.test, credentialsRef: {name: s}, servers: [{protocol: IMAP, host: 10.0.0.7}]}\n",
    );
    let ended = validate(&good.replace("host: imap.new.test", "host: 10.0.0.5"), &[]);
    ended.expect_code(23);
    for part in [
        "allowedNetworks: [\"10.0.0.5/32\"]",
        "allowedNetworks: [\"10.0.0.5/32\", \"10.0.0.7/32\"]",
        "--ca",
        "spec.domains[0].servers[0].host",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    // Passwords that others can read; into the directory of the other tests nobody else comes.
    let ferry = Ferry::new("");
    let home = ferry.path("m.yaml").parent().unwrap().to_owned();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(home.join("m.yaml"), manifest_of("address,password\na@a.test,x", domains)).unwrap();
    let ended = mailferry(&home, &["validate", "-f", "m.yaml"]);
    ended.expect_code(0);
    assert!(
        ended.stderr.contains("chmod 600 m.yaml") && ended.stdout.contains(", 1 note"),
        "{}",
        ended.stderr
    );
}

#[test]
fn two_lists_that_send_a_mailbox_to_two_places_are_refused_with_both_lines() {
    let list = "address,password,destination\na@a.test,x,anna@new.test\nb@a.test,y,";
    let with = |mailboxes: &str| {
        manifest_of(
            list,
            &format!(
                "  domains:\n  - {{name: a.test, credentialsRef: {{name: s}}, mailboxes: {mailboxes}}}\n"
            ),
        )
    };
    let ferry = Ferry::new("");
    let home = ferry.path("m.yaml").parent().unwrap().to_owned();
    let entries = "{list: [{address: b@a.test}, {address: A@a.test, destination: annika@new.test}]}";
    let config =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {users.csv: \"file:users.csv\"}\n---\n";
    fs::write(home.join("users.csv"), "address,destination\na@a.test,annika@new.test\nb@a.test,\n").unwrap();
    for (text, other) in [
        (with(entries), "spec.domains[0].mailboxes.list[1].destination sends it to annika@new.test"),
        (
            format!("{config}{}", with("{configMapRef: {name: c, key: users.csv}}")),
            "users.csv:2 sends it to annika@new.test",
        ),
    ] {
        fs::write(home.join("m.yaml"), text).unwrap();
        let ended = mailferry(&home, &["validate", "-f", "m.yaml"]);
        let told = errors(ended.expect_code(23));
        println!("{told:#?}");
        let (line, hint) = &told[0];
        assert!(
            line.to_lowercase().contains("sends a@a.test to anna@new.test, and ") && line.contains(other),
            "{line}"
        );
        assert!(line.starts_with("m.yaml:") && hint.contains("say the same in both"), "{line} {hint}");
        let (line, _) = mailferry(&home, &["run", "-f", "m.yaml", "--state", "state", "--stage", "Plan"])
            .expect_code(23)
            .error();
        assert!(line.contains(other), "{line}");
    }
    // A mapping that a row overrules is reported.
    let text = with("{discover: {}}")
        .replace("  domains:", "  mapping: {addresses: {a@a.test: annika@new.test}}\n  domains:");
    fs::write(home.join("m.yaml"), text).unwrap();
    let ended = mailferry(&home, &["validate", "-f", "m.yaml"]);
    ended.expect_code(0);
    assert!(
        ended.stderr.contains("a@a.test (to annika@new.test, and its row to anna@new.test)"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_misspelt_field_hides_no_missing_secret_and_nothing_is_left_behind() {
    let ferry = Ferry::new("");
    let path = ferry.path("m.yaml");
    let home = path.parent().unwrap();
    let text = "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {name: m}\nspec:\n  stage: Sync\n  \
                destination: {imap: {host: imap.new.test, credentialsRef: {name: new}}}\n  \
                policy: {maxMesageBytes: 5}\n  domains: [{name: a.test, credentialsRef: {name: old}}]\n";
    fs::write(&path, text).unwrap();
    let ended = mailferry(home, &["validate", "-f", "m.yaml"]);
    ended.expect_code(23);
    let told = errors(&ended);
    for (at, part) in ["maxMesageBytes", "\"new\"", "\"old\""].into_iter().enumerate() {
        assert!(told[at].0.contains(part), "{told:?}");
    }
    assert!(ended.stdout.contains("m  1 domain, mailboxes not known"), "{}", ended.stdout);
    assert!(ended.stdout.contains("3 errors"), "{}", ended.stdout);
    let run = ["run", "-f", "m.yaml", "--state", "here"];
    let (line, hint) = mailferry(home, &run).expect_code(23).error();
    assert!(line.contains("maxMesageBytes"), "{line}");
    assert!(hint.ends_with("told by mailferry validate -f m.yaml"), "{hint}");
    // A Secret that is missing is found before anything is made.
    fs::write(&path, text.replace("maxMesageBytes", "maxMessageBytes")).unwrap();
    let (line, hint) = mailferry(home, &run).expect_code(23).error();
    assert!(line.contains("\"new\"") && hint.contains("1 more error is told by"), "{line} {hint}");
    assert!(!home.join("here").exists());
}

#[test]
fn init_reads_a_column_of_new_addresses_that_few_rows_fill_and_names_what_a_list_lacks() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let sheet = "Name;E-Mail-Adresse;Kennwort;Neue Adresse\r\nA;a@alt.test;x;\r\nB;b@alt.test;y;\r\nC;c@alt.test;z;carla@neu.test\r\n";
    fs::write(home.join("liste.csv"), sheet).unwrap();
    let args =
        ["init", "--from", "liste.csv", "--destination", "imap.neu.test", "--destination-admin", "boss"];
    let made = mailferry(home, &[&args[..], &["--output", "json"]].concat()).expect_code(0).json();
    println!("{made}");
    assert!(
        made["columns"].to_string().contains(r#"{"column":"destination","name":"Neue Adresse"}"#),
        "{made}"
    );
    for (text, told, remedy) in [
        (
            "address,address,password\na@alt.test,b@alt.test,x\n",
            "has 2 columns for address",
            "name it otherwise in line 1",
        ),
        ("E-Mail-Adresse;Kennwort\r\n", "is the only line", "each line below it is a mailbox"),
        (
            "address,password\na@alt.test;x\n",
            "the rows below it are parted by semicolons",
            "parted by semicolons as the rows are",
        ),
        (
            "address,password\nmailto:a@alt.test,x\n",
            "liste.csv:2: the cell under \"address\" has a prefix",
            "write the address alone",
        ),
    ] {
        fs::write(home.join("liste.csv"), text).unwrap();
        let _ = fs::remove_file(home.join("migration.yaml"));
        let (line, hint) = mailferry(home, &args).expect_code(23).error();
        assert!(line.contains(told) && hint.contains(remedy), "{line} {hint}");
    }
}

#[test]
fn rows_and_rules_that_match_nothing_are_told_and_the_rest_is_carried() {
    let (old, new) = (old(), new());
    let at = |place: SocketAddr| format!("host: {}, port: {}, tls: None", place.ip(), place.port());
    // One domain is mistyped, one mailbox is listed twice in another case, and the mapping is in another case as well.
    let list = "EmailAddress,Password,destination,destinationPassword\nanna@alt.test,anna-alt,,\nANNA@alt.test,anna-alt,,\n\
                joerg@atl.test,x,,\nbernd@zweig.test,ärger,bernd@neu.test,\"bernd,neu\"\n";
    let indented: String = list.lines().map(|line| format!("    {line}\n")).collect();
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: test}}\nstringData:\n  mailboxes.csv: |\n{indented}---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: new, namespace: test}}\nstringData: {{masterUser: boss, masterPassword: boss-secret, masterSeparator: \"*\"}}\n---\n\
         apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m, namespace: test}}\nspec:\n  stage: Sync\n  \
         destination: {{imap: {{{}, credentialsRef: {{name: new}}}}}}\n  \
         mapping:\n    exclude: [\"No such folder\"]\n    folders: [{{from: Nowhere, to: There}}]\n    \
         addresses: {{Anna@ALT.test: anna@neu.test, nobody@alt.test: anna@neu.test}}\n  domains:\n  \
         - {{name: alt.test, credentialsRef: {{name: s}}, servers: [{{protocol: IMAP, {}}}]}}\n  \
         - {{name: zweig.test, credentialsRef: {{name: s}}, servers: [{{protocol: IMAP, {}}}]}}\n  \
         policy: {{allowedNetworks: [\"127.0.0.0/8\"]}}\n",
        at(new.imap()),
        at(old.imap()),
        at(old.imap())
    );
    let ferry = Ferry::new(&text);
    let home = ferry.manifest().parent().unwrap().to_owned();
    let notes = mailferry(&home, &["validate", "-f", "migration.yaml"]);
    notes.expect_code(0);
    for part in ["joerg@atl.test", "is alt.test meant?", "migration.yaml:8 as ", "nobody@alt.test"] {
        assert!(notes.stderr.contains(part), "{part}: {}", notes.stderr);
    }
    ferry.run(&[]).expect_code(0);
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!(figure(&status, "copied"), 24);
    for to in ["anna@neu.test", "bernd@neu.test"] {
        assert_eq!(new.mailbox(to).read_all().messages(), 12, "{to}");
    }
    // Bernd's own password of the list opened his new mailbox, and nobody else's.
    assert!(new.log().contains("user=<bernd@neu.test>"), "{}", new.log());
    let report = ferry.report("json");
    for part in [
        "joerg@atl.test",
        "No such folder",
        "Nowhere",
        "nobody@alt.test",
        "RowsLeftOut",
        "RuleMatchesNothing",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    // A rule that nobody asked about yet may fit a folder.
    ferry.write(&text.replace("No such folder", "Not asked about yet"));
    let status = ferry.status();
    let told = status["status"]["findings"].to_string() + &status["status"]["domains"].to_string();
    assert!(told.contains("Nowhere") && !told.contains("Not asked about yet"), "{told}");
    // Another case of the same list is the same mailbox: nothing is sent again.
    ferry.write(
        &text.replace(
            "anna@alt.test,anna-alt,,\n    ANNA@alt.test,anna-alt,,\n",
            "Anna@Alt.test,anna-alt,,\n",
        ),
    );
    let again = ferry.run(&["--output", "json"]);
    assert_eq!(figure(&again.expect_code(0).json(), "copied"), 24);
    assert_eq!(new.mailbox("anna@neu.test").read_all().messages(), 12);
}

/// Ledgers are found again by the address as the list spells it: what an earlier version wrote for an address in capitals is
/// gone on with, and nothing is sent again.
#[test]
fn an_address_in_capitals_keeps_the_ledger_that_it_had() {
    // Dovecot takes names in any case and knows them in small letters.
    let old = Dovecot::builder().imap(LOOPBACK).user(User::new("anna.b@contoso.example", "x")).start();
    old.mailbox("anna.b@contoso.example").seed(Corpus::new(7).messages(12));
    let new = new();
    let at = |place: SocketAddr| format!("host: {}, port: {}, tls: None", place.ip(), place.port());
    let ferry = Ferry::new(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: test}}\nstringData: {{username: Anna.B@contoso.example, password: x}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: new, namespace: test}}\nstringData: {{masterUser: boss, masterPassword: boss-secret, masterSeparator: \"*\"}}\n---\n\
         apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: contoso, namespace: test}}\nspec:\n  stage: Sync\n  \
         destination: {{imap: {{{}, credentialsRef: {{name: new}}}}}}\n  domains:\n  \
         - {{name: contoso.example, credentialsRef: {{name: s}}, servers: [{{protocol: IMAP, {}}}], \
         mailboxes: {{list: [{{address: Anna.B@contoso.example, destination: anna@neu.test}}]}}}}\n  \
         policy: {{allowedNetworks: [\"127.0.0.0/8\"]}}\n",
        at(new.imap()),
        at(old.imap())
    ));
    let first = ferry.run(&["--output", "json"]).expect_code(0).json();
    assert_eq!(first["run"]["new"], 12, "{first}");
    // The name is the one that was written before addresses were compared without regard to case.
    let ledgers = fs::read_dir(ferry.state().join("test/contoso/mailboxes")).unwrap();
    let names: Vec<String> = ledgers.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| name.starts_with("contoso-anna-b-aae57e21.")), "{names:?}");
    let again = ferry.run(&["--output", "json"]).expect_code(0).json();
    assert_eq!((&again["run"]["new"], figure(&again, "copied")), (&serde_json::json!(0), 12), "{again}");
    assert_eq!(new.mailbox("anna@neu.test").read_all().messages(), 12);
}

#[test]
fn broken_rows_stop_a_run_before_anything_is_connected_to_and_no_password_is_shown_or_sent() {
    let (old, new) = (old(), new());
    let good = Manifest::to(new.imap(), "boss", "boss-secret")
        .secret("zweig.test", &[("mailboxes.csv", "address,password\nbernd@zweig.test,ärger\n")])
        .domain("zweig.test", &["bernd"], &server("IMAP", old.imap()))
        .text()
        .replace("bernd@new.test", "bernd@neu.test");
    let list = "address,password\nanna@alt.test,anna,alt\njoerg@alt.test,\"hunter2\n";
    let bad = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: bad, namespace: test}}\nstringData: {{mailboxes.csv: \"file:liste.csv\"}}\n---\n{}",
        good.replace(
            "  domains:\n",
            &format!(
                "  domains:\n  - name: alt.test\n    credentialsRef: {{name: bad}}\n    {}\n",
                server("IMAP", old.imap())
            )
        )
    );
    let ferry = Ferry::new(&bad);
    fs::write(ferry.path("liste.csv"), list).unwrap();
    let heard = |old: &Dovecot| old.log().lines().filter(|line| line.contains("alt.test")).count();
    let before = heard(&old);
    let ended = ferry.run(&[]);
    let (line, hint) = ended.expect_code(23).error();
    println!("error: {line}\n  hint: {hint}");
    assert!(
        line.contains("liste.csv:2: has 3 cells") && line.contains("liste.csv:3: ") && !hint.is_empty(),
        "{line}"
    );
    let seen = format!("{}{}{}", ended.stdout, ended.stderr, ferry.report("json"));
    assert!(!seen.contains("hunter2") && !seen.contains("anna-alt"), "{seen}");
    assert!(seen.contains("ListRefused"), "{seen}");
    // Nobody of that list was tried, and the neighbour was carried.
    assert_eq!(heard(&old), before, "{}", old.log());
    assert_eq!(new.mailbox("bernd@neu.test").read_all().messages(), 12);
}

#[test]
fn an_administrators_wrong_password_is_refused_three_times_over_all_runs_and_both_protocols() {
    let mut old = Dovecot::builder().imap(LOOPBACK).pop3(LOOPBACK).master("boss", "boss-secret");
    for name in ["m1", "m2", "m3", "m4"] {
        old = old.user(User::new(&format!("{name}@alt.test"), "x"));
    }
    let (old, new) = (old.start(), new());
    let servers = format!(
        "servers: [{{protocol: IMAP, host: 127.0.0.1, port: {}, tls: None}}, {{protocol: POP3, host: 127.0.0.1, port: {}, tls: None}}]",
        old.imap().port(),
        old.pop3().port()
    );
    let keys = [("masterUser", "boss"), ("masterPassword", "wrong"), ("masterSeparator", "*")];
    let manifest = Manifest::to(new.imap(), "boss", "boss-secret").secret("alt.test", &keys).domain(
        "alt.test",
        &["m1", "m2", "m3", "m4"],
        &servers,
    );
    let ferry = Ferry::new(&manifest.text());
    for _ in 0..3 {
        let (line, hint) = ferry.run(&[]).expect_code(21).error();
        println!("error: {line}\n  hint: {hint}");
        assert!(hint.contains("password"), "{line} {hint}");
    }
    let log = old.log();
    let refused = log.lines().filter(|line| line.contains("auth failed")).count();
    assert!((1..=3).contains(&refused), "{log}");
}

#[test]
fn many_domains_are_looked_at_within_the_descriptors_that_a_shell_gives() {
    let names: Vec<String> = (0..20).map(|n| format!("d{n}.test")).collect();
    let mut old = Dovecot::builder().imap(LOOPBACK);
    for name in &names {
        old = old.user(User::new(&format!("a@{name}"), "a-secret"));
    }
    let (old, new) = (
        old.start(),
        Dovecot::builder().imap(LOOPBACK).any_user("x", None).master("boss", "boss-secret").start(),
    );
    let mut list = "address,password,destination\n".to_owned();
    let mut manifest = String::new();
    for name in &names {
        list.push_str(&format!("a@{name},a-secret,a-{name}@new.test\n"));
        manifest.push_str(&format!(
            "  - {{name: {name}, credentialsRef: {{name: s}}, {}}}\n",
            server("IMAP", old.imap())
        ));
    }
    let indented: String = list.lines().map(|line| format!("    {line}\n")).collect();
    let at = new.imap();
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: test}}\nstringData:\n  masterUser: boss\n  masterPassword: boss-secret\n  masterSeparator: \"*\"\n  mailboxes.csv: |\n{indented}---\n\
         apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m, namespace: test}}\nspec:\n  stage: Sync\n  \
         destination: {{imap: {{host: {}, port: {}, tls: None, credentialsRef: {{name: s}}}}}}\n  domains:\n{manifest}  \
         policy: {{allowedNetworks: [\"127.0.0.0/8\"]}}\n",
        at.ip(),
        at.port()
    );
    let ferry = Ferry::new(&text);
    // One domain's document cannot be written: there is a directory in its place.
    fs::create_dir_all(ferry.state().join("test/m/domains/d7.test.json")).unwrap();
    let shell = format!(
        "ulimit -n 256 && exec {} run -f {} --state {} --output json",
        env!("CARGO_BIN_EXE_mailferry"),
        ferry.manifest().display(),
        ferry.state().display()
    );
    let ended = Ended::from(Command::new("bash").args(["-c", &shell]).output().unwrap());
    ended.expect_code(23);
    let run = ended.json();
    let counts = &run["status"]["counts"];
    println!("{counts}");
    let text = run.to_string();
    assert!(text.contains("d7.test.json") && !text.contains("Too many open files"), "{text}");
    assert_eq!(counts["synced"], 19, "{counts}");
}
