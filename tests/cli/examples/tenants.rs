//! Mailboxes of large providers, opened by tokens.

use std::fs;

use serde_json::json;

use crate::examples::scene::{Scene, account, arrived, fill};
use crate::support::dns::Record;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::gmail::{Gmail, behind_tls};
use crate::support::tokens::{Client, TokenServer, rsa};

/// A loopback address on which nobody else needs port 443.
const MICROSOFT: &str = "127.0.36.5:443";
/// A loopback address on which nobody else needs port 993.
const EXCHANGE: &str = "127.0.36.6:993";

#[test]
fn an_application_fills_mailboxes_of_microsoft_365() {
    let mut scene = Scene::of("microsoft365.yaml");
    let app = ("66666666-7777-8888-9999-000000000000", Client::Secret("value-of-the-client-secret".into()));
    let certificate = scene.ca.issue(&["login.microsoftonline.com"]);
    let tokens = TokenServer::start_at(MICROSOFT.parse().unwrap(), &certificate, &[app], &[]);
    let source = scene
        .server("mail.fabrikam.example")
        .imaps(LOOPBACK)
        .master("archivist", "old-master-password")
        .user(User::new("anna@fabrikam.example", "x"))
        .user(User::new("ben@fabrikam.example", "x"))
        .start();
    let names = ["anna@fabrikam.example", "benjamin@fabrikam.example"];
    let new = scene.server("outlook.office365.com").imaps(EXCHANGE.parse().unwrap());
    let new = names.iter().fold(new, |server, name| server.user(User::new(name, "of-no-use-here")));
    let new = tokens.believed_by(new, &names).start();
    fill(&source, "anna@fabrikam.example", 51, 20);
    fill(&source, "ben@fabrikam.example", 52, 20);
    scene.records.push(Record::a("login.microsoftonline.com", "127.0.36.5"));
    let played = scene
        .plays("mail.fabrikam.example", 993, source.imaps())
        .publishes([Record::a("outlook.office365.com", "127.0.36.6")])
        .set();
    played.succeeds("run", &[]);
    arrived((&source, "anna@fabrikam.example"), (&new, names[0]));
    arrived((&source, "ben@fabrikam.example"), (&new, names[1]));
    assert_eq!(tokens.given(), 1);
}

#[test]
fn a_service_account_reads_google_workspace() {
    let scene = Scene::of("google-workspace.yaml");
    let (key, public, _) = rsa();
    let service = "mailferry@contoso.iam.gserviceaccount.example";
    let tokens = TokenServer::start(&scene.ca, &[(service, Client::Key(public, "RS256"))], &[]);
    let names = ["anna@contoso.example", "ben@contoso.example"];
    let source =
        names.iter().fold(Dovecot::builder(), |server, name| server.user(User::new(name, "of-no-use")));
    let mut source = Gmail::before(tokens.believed_by(source, &names), &names);
    let new = scene.destination(&names);
    for name in names {
        name.clone_into(&mut source.user);
        source.deliver(&format!("both-of-{name}"), &["\\Inbox", "\\Starred", "Work"]);
        source.deliver(&format!("work-of-{name}"), &["Work"]);
        source.deliver(&format!("archived-by-{name}"), &[]);
        source.put(&format!("for-the-bin-of-{name}"), &["[Gmail]/Trash"]);
    }
    let document = json!({
        "type": "service_account", "client_email": service, "private_key": key, "token_uri": tokens.url(),
    });
    let secrets = scene.place.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("service-account.json"), document.to_string()).unwrap();
    let front = behind_tls(source.address, &scene.ca.issue(&["imap.gmail.com"]));
    let played = scene.plays("imap.gmail.com", 993, front).into(&new);
    played.succeeds("run", &[]);
    for name in names {
        let there = account(&new, name).folders.into_iter().filter(|(_, rows)| !rows.is_empty());
        let there: Vec<(String, usize)> = there.map(|(folder, rows)| (folder, rows.len())).collect();
        assert_eq!(there, ["Archive", "INBOX", "Work"].map(|folder| (folder.to_owned(), 1)), "{name}");
    }
    assert_eq!(tokens.subjects(), names);
}
