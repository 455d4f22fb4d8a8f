//! A tenant of Microsoft 365 as the destination, and sources that take tokens too: pods come by them by a secret, by a
//! certificate and through a service account, discovery asks each mailbox ahead, and no secret, key, assertion or token is found
//! anywhere.

use std::net::SocketAddr;

use serde_json::json;

use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::{Pair, list, secret};
use crate::operator::secrecy::{assert_logs_clean, assert_objects_clean};
use crate::support::ca::Ca;
use crate::support::canary::Canary;
use crate::support::cluster::Cluster;
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK, User};
use crate::support::exchange::{Exchange, Quirks};
use crate::support::tokens::{Client, TokenServer, rsa};

const APP: &str = "8f3f1f2e-app";
const APP_SECRET: &str = "Turnstone~app.secret-7";
const SIGNER: &str = "1d4b7c55-app";
const ACCOUNT: &str = "ferry@project.iam.example";

/// A line from the middle of a key: the others look alike in all keys, or are short.
fn line_of(key: &str) -> &str {
    key.lines().nth(7).unwrap()
}

#[test]
fn mailboxes_of_a_tenant_are_filled_by_tokens_and_each_that_is_closed_is_told_of_with_its_line() {
    let host = Cluster::get().host();
    let at = SocketAddr::new(host, 0);
    let ca = Ca::new();
    let certificate = ca.issue(&[&host.to_string()]);
    let (signer, account) = (rsa(), rsa());
    let clients = [
        (APP, Client::Secret(APP_SECRET.to_owned())),
        (SIGNER, Client::Key(signer.1, "PS256")),
        (ACCOUNT, Client::Key(account.1, "RS256")),
    ];
    let tokens = TokenServer::start_at(at, &certificate, &clients, &[]);
    let with = |server: Builder, names: &[&str]| {
        names.iter().fold(server, |server, name| server.user(User::new(name, "of-no-use")))
    };
    let pair = Pair::start(host, 60);
    let old = with(Dovecot::builder().imap(at), &["cara@b.test", "dan@c.test"]);
    let old = tokens.believed_by(old, &["cara@b.test", "dan@c.test"]).start();
    for (seed, name) in (81..).zip(["cara@b.test", "dan@c.test"]) {
        old.mailbox(name).seed(Corpus::new(seed).ordinary_only().inbox_only().messages(10));
    }
    let names = ["anna@new.test", "ben@new.test", "cara@new.test", "dan@new.test"];
    let new = with(Dovecot::builder().imap(LOOPBACK), &names);
    let new = tokens.believed_by(new, &["anna@new.test", "cara@new.test", "dan@new.test"]).start();
    let tenant = Exchange::start_at(at, new.imap(), &certificate, Quirks::default());

    let mut migration = pair.migration(1_000_000);
    let (server, application) = (tenant.address(), json!({"name": "tenant"}));
    let ca_ref = json!({"kind": "ConfigMap", "name": "mail-ca", "key": "ca.crt"});
    migration["spec"]["destination"] = json!({"microsoft365": {
        "host": server.ip(), "port": server.port(), "credentialsRef": application,
        "caRef": ca_ref,
    }});
    for (domain, name) in [("b.test", "cara"), ("c.test", "dan")] {
        let mailbox =
            json!({"address": format!("{name}@{domain}"), "destination": format!("{name}@new.test")});
        migration["spec"]["domains"].as_array_mut().unwrap().push(json!({
            "name": domain,
            "credentialsRef": {"name": domain},
            // For whoever gives the tokens.
            "caRef": ca_ref,
            "servers": [{"protocol": "IMAP", "host": host, "port": old.imap().port(), "tls": "None"}],
            "mailboxes": {"list": [mailbox]},
        }));
    }
    let document = json!({
        "type": "service_account", "client_email": ACCOUNT, "private_key": account.0,
        "private_key_id": "one", "token_uri": tokens.url(),
    });
    let account_secret = secret("b.test", &json!({"serviceAccount.json": document.to_string()}));
    let signer_secret = secret(
        "c.test",
        &json!({
            "clientId": SIGNER, "clientCertificate": signer.2, "clientKey": signer.0, "tokenUrl": tokens.url(),
        }),
    );
    let authority = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mail-ca"},
        "data": {"ca.crt": ca.pem()}});
    let application =
        secret("tenant", &json!({"clientId": APP, "clientSecret": APP_SECRET, "tokenUrl": tokens.url()}));
    let installed = Installed::new(None, &["log.filter=trace"]);
    let space = &installed.space;
    let secrets = [Pair::source_secret("secret"), application, account_secret, signer_secret];
    space.apply(&list(&[&secrets[..], &[authority, migration]].concat()));

    let found = space.wait_until("three mailboxes are through, and one is told of", PATIENCE, || {
        let status = installed.migration("move")["status"].clone();
        let findings = status["domains"][0]["findings"].as_array().cloned().unwrap_or_default();
        let closed = findings.into_iter().find(|finding| finding["code"] == "DestinationMailboxClosed");
        closed.filter(|_| status["counts"]["synced"] == 3).ok_or_else(|| status.to_string())
    });
    let line = format!("Add-MailboxPermission -Identity ben@new.test -User {APP} -AccessRights FullAccess");
    assert!(found.to_string().contains(&line), "{found}");
    let told = installed.migration("move");
    let refused = condition_of(&told, "CredentialsAccepted").unwrap()["message"].as_str().unwrap();
    assert!(refused.starts_with("1 mailbox could not log in. ben@old.test: destination: "), "{refused}");
    let here = [pair.old.mailbox("anna@old.test"), old.mailbox("cara@b.test"), old.mailbox("dan@c.test")];
    for (mut here, there) in here.into_iter().zip(["anna@new.test", "cara@new.test", "dan@new.test"]) {
        assert_eq!(differences(&here.read_all(), &new.mailbox(there).read_all()), [""; 0], "{there}");
    }

    let (given, assertions) = (tokens.tokens(), tokens.assertions());
    assert!(given.len() >= 6 && assertions.len() >= 4, "for discovery and for the mail, at each server");
    let keys = [line_of(&signer.0), line_of(&account.0), APP_SECRET];
    let texts = keys.into_iter().chain(given.iter().chain(&assertions).map(String::as_str));
    let canaries: Vec<_> = texts.map(|text| Canary::new(text, &[])).collect();
    assert_objects_clean(&canaries, space);
    // The Job of the mailbox that is tried again may just be replaced.
    assert!(assert_logs_clean(&canaries, space) > 5, "those of the operator and of both kinds of workers");
}
