//! Domains that are opened by passwords: everybody's own, or a master user's; found in the DNS or named.

use std::fs;

use serde_json::{Value, json};

use crate::examples::scene::{
    ADMIN, NEW_HOST, Scene, account, arrived, bodies, fill, fill_inbox, findings, inbox_arrived, spoken,
};
use crate::support::corpus::{Corpus, Message};
use crate::support::dns::Record;
use crate::support::dovecot::{Access, LOOPBACK, User};
use crate::support::mixed::Mixed;

#[test]
fn a_first_run_on_a_single_imap_domain() {
    let scene = Scene::of("single-imap.yaml");
    let source = scene
        .server("mail.contoso.example")
        .imaps(LOOPBACK)
        .user(User::new("anna@contoso.example", "anna-old-password"))
        .user(User::new("ben@contoso.example", "ben-old-password"))
        .start();
    let destination = scene
        .server(NEW_HOST)
        .imaps(LOOPBACK)
        .user(User::new("anna@contoso.example", "anna-new-password"))
        .user(User::new("ben@contoso.example", "ben-new-password"))
        .start();
    let filled = fill(&source, "anna@contoso.example", 1, 60) + fill(&source, "ben@contoso.example", 2, 30);
    let played = scene.between("mail.contoso.example", &source, &destination);

    // The README's own first run, command by command.
    let planned = played.succeeds("run", &["--stage", "Plan"]);
    assert!(planned.contains("report.html"), "{planned}");
    assert_eq!(account(&destination, "anna@contoso.example").messages(), 0, "a plan writes nothing");
    let result = played.copies(filled, 0);
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 2}), false));
    for user in ["anna@contoso.example", "ben@contoso.example"] {
        arrived((&source, user), (&destination, user));
    }
    let status: Value = serde_json::from_str(&played.succeeds("status", &["--output", "json"])).unwrap();
    assert_eq!(status["status"]["messages"], result["status"]["messages"]);
    assert!(played.succeeds("status", &[]).contains("contoso.example"));
    let rows = played.succeeds("report", &["--format", "csv"]);
    assert_eq!(rows.lines().count(), 3, "a head and a row for each mailbox: {rows}");
    let messages = played.succeeds("report", &["--format", "json", "--kind", "messages"]);
    assert_eq!(messages.lines().count(), filled);
    let verified = played.succeeds("verify", &["--depth", "Full"]);
    assert!(verified.contains("0 missing"), "{verified}");

    // Again: nothing is sent.
    let before = destination.mailbox("anna@contoso.example").uid_next();
    played.copies(filled, 0);
    assert_eq!(destination.mailbox("anna@contoso.example").uid_next(), before);
}

#[test]
fn a_migration_that_is_kept_in_step() {
    let mut scene = Scene::of("schedule.yaml");
    // The example's nights are its own; this test is tried at any time.
    scene.text = scene.text.replace("from: \"20:00\", to: \"06:00\"", "from: \"00:00\", to: \"24:00\"");
    let users = ["fay@proseware.example", "gus@proseware.example"];
    let source =
        scene.server("mail.proseware.example").imaps(LOOPBACK).master("archivist", "archivist-password");
    let source =
        users.iter().fold(source, |source, user| source.user(User::new(user, "of-no-use-here"))).start();
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 7, 30) + fill(&source, users[1], 8, 10);
    let played = scene.between("mail.proseware.example", &source, &destination);
    let told = played.succeeds("run", &[]);
    assert!(told.contains("spec.schedule.every says 6h"), "{told}");
    for user in users {
        arrived((&source, user), (&destination, user));
    }
    // Again, with what came in between.
    let filled = filled + fill_inbox(&source, users[1], 9, 3);
    let result = played.copies(filled, 0);
    assert_eq!(result["run"]["new"], 3, "{}", result["run"]);
    assert_eq!(result["status"]["schedule"], Value::Null, "nobody stays");
    assert!(result["status"]["pass"]["ended"].is_string(), "{}", result["status"]["pass"]);
}

#[test]
fn a_domain_with_pop3_only() {
    let scene = Scene::of("pop3-domain.yaml");
    let source = scene
        .server("pop.fabrikam.example")
        .pop3s(LOOPBACK)
        .user(User::new("p1001", "orders-password"))
        .user(User::new("p1002", "info-password"))
        .start();
    let destination = scene.destination(&["orders@fabrikam.example", "info@fabrikam.example"]);
    let filled = fill_inbox(&source, "p1001", 3, 40) + fill_inbox(&source, "p1002", 4, 10);
    let played = scene.plays("pop.fabrikam.example", 995, source.pop3s()).into(&destination);
    let result = played.copies(filled, 0);
    assert_eq!(spoken(&result, 0), (json!({"POP3": 2}), false));
    inbox_arrived((&source, "p1001"), (&destination, "orders@fabrikam.example"));
    inbox_arrived((&source, "p1002"), (&destination, "info@fabrikam.example"));
    let pop = result["status"]["domains"][0]["findings"].as_array().unwrap();
    let pop = pop.iter().find(|finding| finding["code"] == "PopMailboxesPresent").unwrap();
    assert_eq!(pop["acknowledged"], true);
    let safe = result["status"]["conditions"].as_array().unwrap();
    assert!(safe.iter().any(|c| c["type"] == "CutoverSafe" && c["status"] == "True"), "{safe:?}");
}

#[test]
fn a_mixed_domain_found_by_dns() {
    let scene = Scene::of("mixed-domain.yaml");
    let source = scene
        .server("mail.northwind.example")
        .imap(LOOPBACK)
        .imaps(LOOPBACK)
        .pop3s(LOOPBACK)
        .user(User::new("carol@northwind.example", "carol-password"))
        .user(User::new("chris@northwind.example", "chris-password").only(Access::Pop3))
        .user(User::new("scanner@northwind.example", "scanner-password").only(Access::Pop3))
        .start();
    let users = ["carol@northwind.example", "chris@northwind.example", "scanner@northwind.example"];
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 5, 50)
        + fill_inbox(&source, users[1], 6, 20)
        + fill_inbox(&source, users[2], 7, 5);
    let host = "mail.northwind.example";
    let played = scene
        .plays(NEW_HOST, 993, destination.imaps())
        .knows(host)
        .publishes([
            Record::mx("northwind.example", host, 10),
            Record::srv("_imap._tcp.northwind.example", host, source.imap().port()),
            Record::srv("_imaps._tcp.northwind.example", host, source.imaps().port()),
            Record::srv("_pop3s._tcp.northwind.example", host, source.pop3s().port()),
        ])
        .set();
    let result = played.copies(filled, 0);
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 1, "POP3": 2}), true));
    let found = findings(&result, 0);
    assert!(found.contains("MixedProtocols") && found.contains("PopMailboxesPresent"), "{found:?}");
    arrived((&source, users[0]), (&destination, users[0]));
    inbox_arrived((&source, users[1]), (&destination, users[1]));
    inbox_arrived((&source, users[2]), (&destination, users[2]));
    // That IMAP refuses the others again and again does not count against their passwords.
    for _ in 0..3 {
        played.copies(filled, 0);
    }
}

#[test]
fn a_master_user_opens_every_mailbox() {
    let scene = Scene::of("master-user.yaml");
    let users = ["alice@adventure-works.example", "bert@adventure-works.example"];
    let source = scene
        .server("imap.adventure-works.example")
        .imaps(LOOPBACK)
        .user(User::new(users[0], "nobody-knows"))
        .user(User::new(users[1], "nobody-knows"))
        .master("archivist", "archivist-password")
        .start();
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 8, 40) + fill(&source, users[1], 9, 20);
    let played = scene.between("imap.adventure-works.example", &source, &destination);
    let result = played.copies(filled, 0);
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 2}), false));
    for user in users {
        arrived((&source, user), (&destination, user));
    }
}

#[test]
fn a_master_user_without_a_list_is_told_so() {
    let mut scene = Scene::of("master-user.yaml");
    let from = scene.text.find("    # A master user opens every mailbox and lists none").unwrap();
    scene.text.truncate(from);
    let source = scene.server("imap.adventure-works.example").imaps(LOOPBACK).start();
    let played = scene.plays("imap.adventure-works.example", 993, source.imaps()).set();
    let output = played.mailferry("run", &["--stage", "Plan", "--output", "json"]);
    assert_eq!(output.status.code(), Some(23));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(findings(&result, 0).contains("MailboxListMissing"), "{result}");
}

#[test]
fn overrides_are_obeyed() {
    let scene = Scene::of("overrides.yaml");
    // All three could be read by IMAP from here: what is said by hand counts more.
    let (dana, erik, kiosk) =
        ("dana@tailspin.example", "erik@tailspin.example", "pop-kiosk@tailspin.example");
    let source = scene
        .server("mail.tailspin.example")
        .imaps(LOOPBACK)
        .pop3s(LOOPBACK)
        .user(User::new(dana, "dana-password"))
        .user(User::new(erik, "erik-password"))
        .user(User::new(kiosk, "kiosk-password"))
        .start();
    let legacy = scene
        .server("legacy.tailspin.example")
        .pop3s(LOOPBACK)
        .user(User::new(kiosk, "kiosk-password"))
        .start();
    let destination = scene.destination(&[dana, erik, "kiosk@tailspin.example"]);
    let inbox = fill_inbox(&source, dana, 10, 10);
    let folders = [("Projects", 4), ("Projects/2024", 3), ("Junk", 2), ("Trash", 1), ("Trash/Old", 2)];
    let mut letters = Corpus::new(11).inbox_only().ordinary_only().messages(12);
    for (folder, count) in folders {
        let of_folder = letters.by_ref().take(count).map(|m| Message { folder: folder.to_owned(), ..m });
        source.mailbox(dana).seed(of_folder);
    }
    let erik_mail = fill_inbox(&source, erik, 12, 15);
    source.mailbox(erik).seed([Message {
        folder: "Private".to_owned(),
        ..Corpus::new(13).ordinary_only().messages(1).next().unwrap()
    }]);
    fill_inbox(&source, kiosk, 14, 3);
    let kiosk_mail = fill_inbox(&legacy, kiosk, 15, 7);
    let (at, pop_at) = (source.imaps(), source.pop3s());
    let played = scene
        .plays("mail.tailspin.example", 993, at)
        .plays("mail.tailspin.example", 995, pop_at)
        .plays("legacy.tailspin.example", 995, legacy.pop3s())
        .into(&destination);
    let result = played.copies(inbox + 12 + erik_mail + kiosk_mail, 5);
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 1, "POP3": 2}), true));
    for (from, to) in
        [("INBOX", "INBOX"), ("Projects", "Archive/Projects"), ("Projects/2024", "Archive/Projects/2024")]
    {
        assert_eq!(bodies(&source, dana, from), bodies(&destination, dana, to), "{from} → {to}");
    }
    let there = account(&destination, dana);
    for folder in ["Projects", "Junk", "Trash", "Trash/Old"] {
        let left = there.folders.get(folder).map_or(0, Vec::len);
        assert_eq!(left, 0, "{folder} was to stay behind or to be called otherwise");
    }
    inbox_arrived((&source, erik), (&destination, erik));
    assert_eq!(account(&destination, erik).messages(), erik_mail, "Erik's folders stay private");
    inbox_arrived((&legacy, kiosk), (&destination, "kiosk@tailspin.example"));
}

#[test]
fn a_list_with_other_destinations() {
    let scene = Scene::of("per-mailbox-list.yaml");
    let people = [
        ("garcia", "garcia-password", "fatima.garcia@woodgrove-bank.example"),
        ("lee", "lee-password", "hana.lee@woodgrove-bank.example"),
        ("office@woodgrove.example", "office-password", "office@woodgrove-bank.example"),
    ];
    let server = scene
        .server("mail.woodgrove.example")
        .imaps(LOOPBACK)
        .user(User::new("former@woodgrove.example", "former-password"));
    let source = people
        .iter()
        .fold(server, |server, (name, password, _)| server.user(User::new(name, password)))
        .start();
    let destination = scene.destination(&people.map(|(.., to)| to));
    let mut filled = 0;
    for (seed, (name, ..)) in (20..).zip(people) {
        filled += fill(&source, name, seed, 20);
    }
    fill(&source, "former@woodgrove.example", 30, 5);
    let played = scene.between("mail.woodgrove.example", &source, &destination);
    let result = played.copies(filled, 0);
    assert_eq!(result["status"]["counts"]["mailboxes"], 3, "whoever is not on the list is not migrated");
    for (name, _, to) in people {
        arrived((&source, name), (&destination, to));
    }
}

#[test]
fn secrets_that_are_elsewhere() {
    let scene = Scene::of("secrets-elsewhere.yaml");
    let source = scene
        .server("mail.wingtip.example")
        .imaps(LOOPBACK)
        .user(User::new("kim@wingtip.example", "nobody-knows"))
        .user(User::new("bear@toys.wingtip.example", "bear-password"))
        .master("archivist", "archivist-password")
        .start();
    let users = ["kim@wingtip.example", "bear@toys.wingtip.example"];
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 40, 20) + fill(&source, users[1], 41, 10);
    let mut played = scene.between("mail.wingtip.example", &source, &destination);
    let admin = played.place.path().join("secrets/new-admin");
    fs::create_dir_all(&admin).unwrap();
    for (key, value) in [("masterUser", ADMIN.0), ("masterPassword", ADMIN.1), ("masterSeparator", "*")] {
        fs::write(admin.join(key), format!("{value}\n")).unwrap();
    }
    let rows = "address,password\nbear@toys.wingtip.example,bear-password\n";
    fs::write(played.place.path().join("secrets/toys.csv"), rows).unwrap();
    played.more = vec!["--secret".to_owned(), format!("new-admin={}", admin.display())];
    played.variables = vec![("WINGTIP_MASTER_PASSWORD", "archivist-password")];
    played.copies(filled, 0);
    for user in users {
        arrived((&source, user), (&destination, user));
    }
}

#[test]
fn the_quickstart_of_the_demo() {
    let world = Mixed::start(LOOPBACK.ip(), 70);
    let mut scene = Scene::of("quickstart.yaml");
    scene.text = world.quickstart();
    let mut played = scene.set();
    played.resolver = world.dns.addr();
    let result = played.copies(70, 0);
    let all = [0, 1, 2].map(|domain| spoken(&result, domain));
    let wanted =
        [(json!({"IMAP": 2}), false), (json!({"POP3": 2}), false), (json!({"IMAP": 1, "POP3": 1}), true)];
    assert_eq!(all, wanted);
    world.assert_moved();
}
