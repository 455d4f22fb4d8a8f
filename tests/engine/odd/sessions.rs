//! Servers that are odd in how they greet, let in, name themselves and list their folders, or that offer what they cannot do.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::ferry::{Manifest, csv, files, server};
use crate::odd::world::{ADMIN, ANNA, World, lies_in, lying, manifest};
use crate::support::script::store::letter;
use crate::support::script::{PASSWORD, Reaction, Script, Store};

/// All five letters of the standard mailbox.
const ALL: [(&str, &[&str]); 2] = [("INBOX", &["one", "two", "three"]), ("Work", &["four", "five"])];

fn pair(store: Store) -> (Script, Script) {
    (Script::imap(store), Script::imap(Store::empty()))
}

/// Stops the test unless discovery kept this as evidence, and reports show it.
fn expect_evidence(world: &World, part: &str) {
    let report = world.ferry.report("html");
    assert!(report.contains(part), "{part} is not in {report}");
}

/// A manifest whose mailbox has another password than usual.
fn with_password(source: SocketAddr, destination: SocketAddr, password: &str) -> Manifest {
    Manifest::to(destination, ADMIN, PASSWORD)
        .secret("old.test", &[("mailboxes.csv", &csv(&[(ANNA, "", password)]))])
        .domain("old.test", &["anna"], &server("IMAP", source))
        .policy("settleSeconds: 1")
}

#[test]
fn lines_with_blanks_tabs_and_nothing_in_them_are_read() {
    let (source, destination) = pair(Store::standard());
    source.bend(|command| {
        (command.verb != "GREETING").then(|| {
            Reaction::edit(|answer| {
                for response in &mut answer.responses {
                    if response.starts_with(b"* ") {
                        response.splice(1..1, *b" \t");
                    }
                }
                answer.before_last("\r\n");
                answer.before("  \r\n\n");
            })
        })
    });
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    source.store().folder("INBOX").add(&[], letter("six"));
    source.store().folder("INBOX").set_flags(2, &["\\Seen"]);
    world.run().expect(0, (6, 6, 0, 0, 0));
    assert_eq!(destination.store().folder("INBOX").letter(2).flags, ["\\Seen"]);
}

#[test]
fn a_list_with_options_that_shows_subscribed_folders_alone_is_not_believed() {
    let (source, destination) = pair(Store::standard());
    source.also("LIST-EXTENDED LIST-STATUS SPECIAL-USE").store().folder("Work").subscribed = false;
    source.bend(|command| {
        (command.verb == "LIST" && command.has("RETURN")).then(|| {
            Reaction::edit(|answer| {
                answer.responses.retain(|response| {
                    let text = String::from_utf8_lossy(response);
                    !text.starts_with("* ")
                        || text.contains("\\Subscribed")
                        || text.starts_with("* STATUS INBOX")
                });
            })
        })
    });
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    expect_evidence(&world, "fails at LIST-EXTENDED");
    assert_eq!(lies_in(&destination), lying(&ALL));
}

#[test]
fn an_extension_that_is_offered_and_refused_is_asked_for_once() {
    for (offered, refused) in [
        ("LIST-EXTENDED", "RETURN"),
        ("LIST-EXTENDED LIST-STATUS", "STATUS ("),
        ("CONDSTORE", "(CONDSTORE)"),
        ("ID", "mailferry"),
        ("NAMESPACE", "NAMESPACE"),
    ] {
        let (source, destination) = pair(Store::standard());
        source
            .also(offered)
            .bend(move |command| command.has(refused).then(|| Reaction::bad("what is that?")));
        let world = World::imap(&source, &destination);
        world.run().expect(0, (5, 5, 0, 0, 0));
        assert_eq!(lies_in(&destination), lying(&ALL), "{offered}");
        let asked = source.heard().iter().filter(|command| command.has(refused)).count();
        // Once by a run, and twice where it is offered as two.
        assert!(asked <= 2, "{offered}: {asked}");
    }
}

#[test]
fn what_a_server_fails_at_is_evidence() {
    let (source, destination) = pair(Store::standard());
    source.also("CONDSTORE").bend(|command| command.has("(CONDSTORE)").then(|| Reaction::bad("no")));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    expect_evidence(&world, "fails at CONDSTORE");
}

#[test]
fn a_session_that_ends_at_an_extension_twice_goes_on_without() {
    let (source, destination) = pair(Store::standard());
    source.also("CONDSTORE").bend(|command| command.has("(CONDSTORE)").then(Reaction::close));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination), lying(&ALL));
}

#[test]
fn a_server_hears_our_name_before_any_folder_is_opened() {
    let (source, destination) = pair(Store::standard());
    source
        .on("CAPABILITY", Reaction::replace(" ID", ""))
        .on("GREETING", Reaction::say("* OK [CAPABILITY IMAP4rev1 ID] ready\r\n"));
    let named: Arc<Mutex<BTreeSet<usize>>> = Arc::default();
    source.bend(move |command| match command.verb.as_str() {
        "ID" => {
            named.lock().unwrap().insert(command.connection);
            None
        }
        "EXAMINE" | "STATUS" | "SELECT" if !named.lock().unwrap().contains(&command.connection) => {
            Some(Reaction::no(&format!("{} Unsafe Login. Please contact us", command.verb)))
        }
        _ => None,
    });
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert!(source.heard().iter().any(|command| command.verb == "ID" && command.has("mailferry")));
}

#[test]
fn a_folder_that_cannot_be_opened_stops_no_other() {
    for refusal in ["Access denied", "[SERVERBUG] broken index", "[NOPERM] no", "cannot open it"] {
        let (source, destination) = pair(Store::standard());
        source.on("EXAMINE Work", Reaction::no(refusal));
        let world = World::imap(&source, &destination);
        let outcome = world.run();
        assert_eq!(lies_in(&destination), lying(&ALL[..1]), "{refusal}: {outcome:#?}");
        outcome.expect_told("FoldersUnreadable").expect_told("Work");
    }
}

#[test]
fn a_line_of_the_list_of_folders_that_cannot_be_read_is_told_and_the_others_arrive() {
    let (source, destination) = pair(Store::standard());
    let odd = "* LIST (\\HasNoChildren) \"/\" (\"Offers\")\r\n";
    source.on("LIST  *", Reaction::edit(move |answer| answer.before_last(odd)));
    let world = World::imap(&source, &destination);
    for _ in 0..2 {
        let outcome = world.run();
        assert_eq!(outcome.ended.code, 22, "{outcome:#?}");
        assert_eq!(lies_in(&destination), lying(&ALL), "{outcome:#?}");
        outcome.expect_told("FoldersUnreadable").expect_told("Offers");
    }
}

#[test]
fn a_folder_at_which_sessions_end_is_left_out_of_the_measuring() {
    let (source, destination) = pair(Store::standard());
    source.on("EXAMINE Work", Reaction::close());
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    assert_eq!(destination.store().folder("INBOX").subjects(), ["one", "two", "three"], "{outcome:#?}");
    outcome.expect_told("FoldersUnreadable");
}

#[test]
fn a_folder_that_is_left_out_is_not_opened_for_measuring() {
    let (source, destination) = pair(Store::standard());
    source.on("EXAMINE Work", Reaction::no("Access denied"));
    let yaml = manifest("IMAP", source.address(), destination.address(), "").text();
    let world = World::imap(&source, &destination);
    world.ferry.write(&yaml.replacen("spec:\n", "spec:\n  mapping: {exclude: [Work]}\n", 1));
    let outcome = world.run();
    assert_eq!(lies_in(&destination), lying(&ALL[..1]), "{outcome:#?}");
    assert!(!outcome.tells("FoldersUnreadable"), "{outcome:#?}");
}

#[test]
fn a_server_that_answers_the_second_command_first_is_given_one_at_a_time() {
    let (source, destination) = pair(Store::standard());
    let hasty = hasty(source.address());
    let world = World::between("IMAP", hasty, destination.address());
    world.run().expect(0, (5, 5, 0, 0, 0));
    expect_evidence(&world, "fails at pipelining");
    assert_eq!(lies_in(&destination), lying(&ALL));
}

/// A way to a server on which of two commands that come at once, the second is refused before the first is answered.
fn hasty(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut server = TcpStream::connect(server).unwrap();
            let mut back = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut back.0, &mut back.1));
            thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(n @ 1..) = client.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
                    let mut lines = text.split_inclusive('\n');
                    let first = lines.next().unwrap_or_default();
                    for late in lines {
                        let tag = late.split(' ').next().unwrap_or_default();
                        let refusal = format!("{tag} NO not valid in this state\r\n");
                        client.write_all(refusal.as_bytes()).unwrap();
                    }
                    thread::sleep(Duration::from_millis(5));
                    server.write_all(first.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn a_password_that_no_quotes_can_hold_goes_as_a_literal() {
    for (password, literals) in [
        ("p\u{e4}55 \"w\u{f6}rt\\", "LITERAL+"),
        ("\u{fc}ber", ""),
        ("a \"b\\ c", ""),
        ("\u{fc}ber", "LITERAL-"),
    ] {
        let (source, destination) = pair(Store::standard());
        source.without("AUTH=PLAIN SASL-IR LITERAL+").also(literals).user(ANNA, password);
        source.bend(|command| {
            let in_quotes =
                command.verb == "LOGIN" && !command.bytes.contains(&b'{') && !command.bytes.is_ascii();
            in_quotes.then(|| Reaction::bad("8-bit in a string"))
        });
        let world = World::of(&with_password(source.address(), destination.address(), password));
        world.run().expect(0, (5, 5, 0, 0, 0));
    }
}

#[test]
fn a_refused_mechanism_is_no_refused_password() {
    for refusal in
        ["NO mechanism not supported", "NO [CANNOT] PLAIN is disabled", "NO not here", "BAD unknown command"]
    {
        let (source, destination) = pair(Store::standard());
        source.on("AUTHENTICATE", Reaction::say(format!("{{tag}} {refusal}\r\n")));
        let world = World::imap(&source, &destination);
        world.run().expect(0, (5, 5, 0, 0, 0));
        assert!(source.count("LOGIN") >= 1, "{refusal}");
    }
}

#[test]
fn a_refused_password_is_tried_in_no_other_way() {
    for refusal in [
        "NO [AUTHENTICATIONFAILED] no",
        "NO LOGIN failed",
        "NO Invalid credentials",
        "BAD Authentication failed",
    ] {
        let (source, destination) = pair(Store::standard());
        source.on("AUTHENTICATE", Reaction::say(format!("{{tag}} {refusal}\r\n")));
        let world = World::imap(&source, &destination);
        assert_eq!(world.run().ended.code, 21, "{refusal}");
        assert_eq!((source.count("AUTHENTICATE"), source.count("LOGIN")), (1, 0), "{refusal}");
    }
}

#[test]
fn an_initial_response_that_is_offered_and_not_taken_is_given_when_it_is_asked_for() {
    let (source, destination) = pair(Store::standard());
    source.bend(|command| {
        let at_once = command.verb == "AUTHENTICATE" && command.text.split(' ').count() > 2;
        at_once.then(|| Reaction::bad("too many arguments"))
    });
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(source.count("LOGIN"), 0);
}

#[test]
fn a_login_that_is_refused_without_a_tag_is_refused_within_seconds() {
    let (source, destination) = pair(Store::standard());
    source.on("AUTHENTICATE", Reaction::say("* NO [AUTHENTICATIONFAILED] no such user\r\n"));
    let world = World::imap(&source, &destination);
    let begun = Instant::now();
    let outcome = world.run();
    assert_eq!(outcome.ended.code, 21, "{outcome:#?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    outcome.expect_told("no such user");
}

#[test]
fn an_alert_at_the_login_is_shown_when_everything_is_refused() {
    let (source, destination) = pair(Store::standard());
    source.on(
        "AUTHENTICATE",
        Reaction::edit(|answer| answer.before("* NO [ALERT] Your account is suspended\r\n")),
    );
    source.bend(|command| {
        let lets_in = ["GREETING", "CAPABILITY", "AUTHENTICATE", "RESPONSE", "LOGIN", "LOGOUT"];
        (!lets_in.contains(&command.verb.as_str())).then(|| Reaction::no("not possible"))
    });
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    assert_ne!(outcome.ended.code, 0);
    outcome.expect_told("Your account is suspended");
}

#[test]
fn nothing_of_a_credential_is_shown_where_a_server_repeats_it() {
    const SECRET: &str = "hunter2-Zq8";
    let plain = BASE64_STANDARD.encode(format!("\0{ANNA}\0{SECRET}"));
    for (mechanism, status, echo) in [
        ("LOGIN", "{tag} BAD unrecognized: ", format!("LOGIN {ANNA} \"{SECRET}\"")),
        ("LOGIN", "{tag} NO [ALERT] no ", format!("LOGIN {ANNA} {}", SECRET.to_uppercase())),
        ("LOGIN", "* BYE went wrong at ", format!("LOGIN {ANNA} {}", &SECRET[..7])),
        ("LOGIN", "what is ", format!("A0001 LOGIN {ANNA} {SECRET}")),
        ("AUTHENTICATE", "{tag} BAD unrecognized: ", format!("AUTHENTICATE PLAIN {plain}")),
        ("AUTHENTICATE", "* NO [ALERT] ", plain[plain.len() / 2..].to_owned()),
        ("AUTHENTICATE", "", format!("AUTHENTICATE PLAIN {plain}")),
    ] {
        let (source, destination) = pair(Store::standard());
        if mechanism == "LOGIN" {
            source.without("AUTH=PLAIN SASL-IR");
        }
        source.user(ANNA, SECRET);
        source.on(mechanism, Reaction::say(format!("{status}{echo}\r\n")).and_close());
        source.on("LOGIN", Reaction::say(format!("{status}{echo}\r\n")).and_close());
        let world = World::of(&with_password(source.address(), destination.address(), SECRET));
        let ended = world.ferry.run(&["-vv"]);
        assert_ne!(ended.code, 0);
        let mut shown = vec![("stdout".to_owned(), ended.stdout), ("stderr".to_owned(), ended.stderr)];
        shown.push(("status".to_owned(), world.ferry.status().to_string()));
        shown.push(("report".to_owned(), world.ferry.report("json")));
        for file in files(&world.ferry.state()) {
            let bytes = fs::read(&file).unwrap();
            shown.push((file.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
        for (place, text) in shown {
            let text = text.to_lowercase();
            for part in ["hunter2", "zq8", &plain[plain.len() - 12..].to_lowercase()] {
                assert!(!text.contains(part), "{status}{echo}: {place} holds {part}: {text}");
            }
        }
    }
}

#[test]
fn an_inbox_that_no_list_names_is_read() {
    let (source, destination) = pair(Store::standard());
    source.bend(|command| {
        matches!(command.verb.as_str(), "LIST" | "LSUB")
            .then(|| Reaction::edit(|answer| answer.leave_out("INBOX")))
    });
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination), lying(&ALL));
}

#[test]
fn folders_of_others_are_told_and_not_carried() {
    let mut store = Store::empty();
    store.separator = '.';
    store.namespace = "((\"INBOX.\" \".\")) ((\"user.\" \".\")) ((\"\" \".\"))".to_owned();
    for name in ["INBOX", "INBOX.Sent", "pub.shared", "Sent", "user.bob.x"] {
        store.make(name).add(&[], letter(name));
    }
    let (source, destination) = pair(store);
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    outcome.expect(0, (2, 2, 0, 0, 0)).expect_told("SharedFoldersSeen").expect_told("3 folders");
    assert_eq!(lies_in(&destination), lying(&[("INBOX", &["INBOX"]), ("Sent", &["INBOX.Sent"])]));
}

#[test]
fn a_folder_is_opened_by_the_name_that_was_listed() {
    for (wire, place) in [
        (&b"Entw\xfcrfe"[..], "Entw\u{fc}rfe"),
        ("Entw\u{fc}rfe".as_bytes(), "Entw\u{fc}rfe"),
        (b"a&b {3}", "a&b {3}"),
        (b"we \"q\"\\x", "we \"q\"\\x"),
    ] {
        let mut store = Store::standard();
        store.create(wire).add(&[], letter("six"));
        let (source, destination) = pair(store);
        let world = World::imap(&source, &destination);
        let outcome = world.run();
        assert_eq!(outcome.counts, (6, 6, 0, 0, 0), "{place}: {outcome:#?}");
        let mut all = lying(&ALL);
        all.insert(place.to_owned(), vec!["six".to_owned()]);
        assert_eq!(lies_in(&destination), all, "{outcome:#?}");
    }
}

#[test]
fn a_folder_with_a_name_that_no_command_can_hold_stops_no_other() {
    let (source, destination) = pair(Store::standard());
    source.bend(|command| {
        (command.verb == "LIST").then(|| {
            Reaction::edit(|answer| {
                answer.before_last(b"* LIST () \"/\" {3}\r\na\0b\r\n");
                answer.before_last("* LIST (() \"/\" odd\r\n");
                answer.before_last("* LIST\r\n");
            })
        })
    });
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    assert_eq!(lies_in(&destination), lying(&ALL), "{outcome:#?}");
    outcome.expect_told("FoldersUnreadable");
}

#[test]
fn a_server_that_takes_its_time_to_open_a_folder_is_waited_for() {
    let (source, destination) = pair(Store::standard());
    source.on_first(1, "EXAMINE Work", Reaction::edit(|answer| answer.wait = Duration::from_secs(11)));
    let world = World::imap(&source, &destination);
    let ended = world.ferry.run(&["-v"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for word in ["looks through a folder", "waiting for 127.0.0.1"] {
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }
}

#[test]
fn one_login_is_one_mailbox_at_both_ends() {
    let (source, destination) = pair(Store::standard());
    let single = [("username", ANNA), ("password", PASSWORD)];
    let at_source = Manifest::to(destination.address(), ADMIN, PASSWORD).secret("old.test", &single).domain(
        "old.test",
        &["anna", "bert"],
        &server("IMAP", source.address()),
    );
    let (host, port) = (destination.address().ip(), destination.address().port());
    let rows = csv(&[(ANNA, "", PASSWORD), ("bert@old.test", "", PASSWORD)]);
    let at_destination = Manifest::default()
        .destination(&format!("{{host: {host}, port: {port}, tls: None, credentialsRef: {{name: one}}}}"))
        .secret("one", &single)
        .secret("old.test", &[("mailboxes.csv", &rows)])
        .domain("old.test", &["anna", "bert"], &server("IMAP", source.address()));
    for (manifest, secret, field) in
        [(&at_source, "old.test", "mailboxes"), (&at_destination, "one", "spec.destination.imap")]
    {
        let world = World::of(manifest);
        let ended = world.ferry.run(&[]);
        assert_eq!(ended.code, 23, "{ended:?}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains(&format!("Secret \"{secret}\"")) && said.contains(field), "{said}");
    }
    let logins = |script: &Script| script.count("LOGIN") + script.count("AUTHENTICATE");
    assert_eq!((logins(&source), logins(&destination)), (0, 0));
}
