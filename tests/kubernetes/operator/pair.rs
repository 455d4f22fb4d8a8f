//! A small world for tests that are about the cluster and not about mail: one domain with two mailboxes behind a server
//! that is named in the manifest, and a destination.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, User};

/// The mailboxes, by the part before the @.
pub(crate) const NAMES: [&str; 2] = ["anna", "ben"];

/// The servers, with mail in the one.
pub(crate) struct Pair {
    /// The source.
    pub(crate) old: Dovecot,
    /// The destination.
    pub(crate) new: Dovecot,
}

/// An empty destination.
pub(crate) fn destination(ip: IpAddr) -> Dovecot {
    let mut new = Dovecot::builder().imap(SocketAddr::new(ip, 0)).master("admin", "admin-secret");
    for name in NAMES {
        new = new.user(User::new(&format!("{name}@new.test"), "of-no-use"));
    }
    new.start()
}

impl Pair {
    /// Starts the servers and gives each mailbox half of the messages.
    pub(crate) fn start(ip: IpAddr, messages: usize) -> Self {
        let mut old = Dovecot::builder().imap(SocketAddr::new(ip, 0));
        for name in NAMES {
            old = old.user(User::new(&format!("{name}@old.test"), &format!("{name}-secret")));
        }
        let old = old.start();
        for (seed, name) in (71..).zip(NAMES) {
            let corpus = Corpus::new(seed).ordinary_only().inbox_only();
            old.mailbox(&format!("{name}@old.test")).seed(corpus.messages(messages / 2));
        }
        Self { old, new: destination(ip) }
    }

    /// The migration, at a pace that lets a test look on.
    pub(crate) fn migration(&self, bytes_per_second: u64) -> Value {
        let (old, new) = (self.old.imap(), self.new.imap());
        let list = NAMES.map(
            |name| json!({"address": format!("{name}@old.test"), "destination": format!("{name}@new.test")}),
        );
        json!({
            "apiVersion": "mailferry.dev/v1alpha1", "kind": "MailMigration", "metadata": {"name": "move"},
            "spec": {
                "stage": "Sync",
                "destination": {"imap": {"host": new.ip(), "port": new.port(), "tls": "None", "credentialsRef": {"name": "new"}}},
                "domains": [{
                    "name": "old.test",
                    "credentialsRef": {"name": "old"},
                    "servers": [{"protocol": "IMAP", "host": old.ip(), "port": old.port(), "tls": "None"}],
                    "mailboxes": {"list": list},
                }],
                "policy": {
                    "allowedNetworks": [format!("{}/32", old.ip())],
                    "limits": {"bytesPerSecond": bytes_per_second},
                    "settleSeconds": 2,
                },
            },
        })
    }

    /// The same migration without a limit, as a patch.
    pub(crate) const FAST: &str = r#"{"spec":{"policy":{"limits":{"bytesPerSecond":null}}}}"#;

    /// The Secret of the source, with this in place of the end of each password.
    pub(crate) fn source_secret(end: &str) -> Value {
        let rows: String =
            NAMES.map(|name| format!("{name}@old.test,{name}@old.test,{name}-{end}\n")).concat();
        secret("old", &json!({"mailboxes.csv": format!("address,username,password\n{rows}")}))
    }

    /// The Secret of the destination.
    pub(crate) fn destination_secret() -> Value {
        secret(
            "new",
            &json!({"masterUser": "admin", "masterPassword": "admin-secret", "masterSeparator": "*"}),
        )
    }

    /// All that is to be applied.
    pub(crate) fn manifest(&self, bytes_per_second: u64) -> String {
        list(&[Self::source_secret("secret"), Self::destination_secret(), self.migration(bytes_per_second)])
    }

    /// Messages at the destination.
    pub(crate) fn arrived(&self) -> u32 {
        arrived(&self.new)
    }

    /// Stops the test unless everything is at a destination, once.
    #[track_caller]
    pub(crate) fn assert_moved_to(&self, new: &Dovecot) {
        for name in NAMES {
            let source = self.old.mailbox(&format!("{name}@old.test")).read_all();
            let there = new.mailbox(&format!("{name}@new.test")).read_all();
            assert_eq!(differences(&source, &there), [""; 0], "{name}");
        }
    }
}

/// Messages that ever came to a destination.
pub(crate) fn arrived(new: &Dovecot) -> u32 {
    let of = |name: &str| -> u32 {
        new.mailbox(&format!("{name}@new.test")).uid_next().values().map(|(_, next)| next - 1).sum()
    };
    NAMES.iter().map(|name| of(name)).sum()
}

/// Several objects as one text for `kubectl apply`.
pub(crate) fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

pub(crate) fn secret(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}
