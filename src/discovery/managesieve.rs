//! `ManageSieve` (RFC 5804): its greeting tells that there are filter rules, and of what kinds. Only the greeting is read;
//! nobody logs in and nothing is sent.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::timeout;

use super::signals::{Asking, Heard, Named};
use super::trust::is_inside;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::failure::{Class, Failure, Result};
use crate::model::protocol::{Protocol, Tls};
use crate::model::service::{Service, ServiceFacts};
use crate::model::text::{cut, printable};

const SIGNAL: Signal = Signal::ManageSieve;
/// The registered port.
const PORT: u16 = 4190;
/// How long a greeting may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest greeting, in bytes.
const GREETING_MAX: u64 = 8 * 1024;
/// The most hosts that are asked.
const HOSTS_MAX: usize = 3;

/// The words of a greeting, a word and its value in each line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Greeting {
    implementation: String,
    extensions: String,
    starts_tls: bool,
}

/// Asks the hosts that service records name; where there is none, those that the domain's IMAP servers are on.
pub(super) async fn ask(asking: Asking<'_>, named: &[Named], hosts: &[String]) -> Heard {
    let by_srv = named.iter().filter(|named| named.service == Some(Service::ManageSieve));
    let mut places: Vec<(String, u16, bool)> =
        by_srv.map(|named| (named.host.clone(), named.port, true)).take(HOSTS_MAX).collect();
    if places.is_empty() {
        places.extend(hosts.iter().take(HOSTS_MAX).map(|host| (host.clone(), PORT, false)));
    }
    let mut heard = Heard::default();
    for answered in join_all(places.into_iter().map(|place| ask_one(asking, place))).await {
        heard.add(answered);
    }
    heard
}

async fn ask_one(asking: Asking<'_>, (host, port, named): (String, u16, bool)) -> Heard {
    let mut heard = Heard::default();
    let endpoint = Endpoint::new(Protocol::Imap, &host, port, Tls::None);
    let place = printable(&endpoint.address());
    let greeting = match timeout(TIMEOUT, read_greeting(asking, &endpoint)).await {
        Ok(greeting) => greeting,
        Err(_) => {
            Err(Failure::new(Class::Unreachable, format!("says nothing within {} s", TIMEOUT.as_secs())))
        }
    };
    let at = asking.clock.now();
    match greeting {
        Ok(greeting) => {
            let tls = if greeting.starts_tls { "" } else { ", without STARTTLS" };
            let statement = format!("ManageSieve at {place} ({}{tls})", greeting.implementation);
            heard.quote(SIGNAL, Grade::B, at, statement, &greeting.extensions);
            heard.offer(ServiceFacts {
                service: Service::ManageSieve,
                place,
                grade: Grade::B,
                trusted: is_inside(&host, &asking.request.domain),
                words: cut(&greeting.extensions, 300),
            });
        }
        // Where nobody said that there is one, its absence is not a failure.
        Err(failure) if !named && failure.class == Class::Unreachable => {
            let statement = format!("no ManageSieve at {place}: {}", failure.what);
            heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, statement);
        }
        Err(failure) => {
            heard.fail(
                SIGNAL,
                if named { Grade::C } else { Grade::D },
                at,
                &format!("ManageSieve {place}"),
                failure,
            );
        }
    }
    heard
}

async fn read_greeting(asking: Asking<'_>, endpoint: &Endpoint) -> Result<Greeting> {
    let channel = asking.network.connect(endpoint, &asking.request.trust).await?;
    let mut lines = BufReader::new(channel.take(GREETING_MAX));
    let mut text = Vec::new();
    loop {
        let before = text.len();
        let read = lines.read_until(b'\n', &mut text).await;
        read.map_err(|e| {
            Failure::new(Class::Unreachable, "the connection ended in the greeting").caused_by(&e)
        })?;
        let line = &text[before..];
        let ends = [&b"OK"[..], b"NO", b"BYE"]
            .iter()
            .any(|word| line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)));
        if ends || line.is_empty() {
            return parse(&String::from_utf8_lossy(&text));
        }
    }
}

/// Reads a greeting: lines of quoted words, and `OK` at the end.
fn parse(text: &str) -> Result<Greeting> {
    let mut greeting = Greeting::default();
    let mut is_sieve = false;
    for line in text.lines() {
        if line.get(..2).is_some_and(|word| word.eq_ignore_ascii_case("OK")) && is_sieve {
            return Ok(greeting);
        }
        let mut words = line.split('"').skip(1).step_by(2);
        let (name, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match name.to_ascii_uppercase().as_str() {
            "IMPLEMENTATION" => {
                greeting.implementation = cut(&printable(value), 100);
                is_sieve = true;
            }
            "SIEVE" => {
                greeting.extensions = printable(value);
                is_sieve = true;
            }
            "STARTTLS" => greeting.starts_tls = true,
            _ => {}
        }
    }
    Err(Failure::protocol("does not greet as a ManageSieve server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_of_real_servers_are_read() {
        let dovecot = "\"IMPLEMENTATION\" \"Dovecot Pigeonhole\"\r\n\"SIEVE\" \"fileinto reject vacation\"\r\n\
                       \"NOTIFY\" \"mailto\"\r\n\"SASL\" \"\"\r\n\"STARTTLS\"\r\n\"VERSION\" \"1.0\"\r\nOK \"Dovecot ready.\"\r\n";
        let greeting = parse(dovecot).unwrap();
        assert_eq!(greeting.implementation, "Dovecot Pigeonhole");
        assert_eq!(greeting.extensions, "fileinto reject vacation");
        assert!(greeting.starts_tls);
        let cyrus = "\"IMPLEMENTATION\" \"Cyrus timsieved v2.4.17\"\r\n\"SASL\" \"PLAIN\"\r\n\"SIEVE\" \"envelope\"\r\nOK\r\n";
        assert!(!parse(cyrus).unwrap().starts_tls);
    }

    #[test]
    fn what_is_no_greeting_is_refused() {
        for text in [
            "",
            "OK\r\n",
            "* OK IMAP4rev1\r\n",
            "\"SIEVE\" \"fileinto\"\r\n",
            "BYE \"too many\"\r\n",
            "\"\"\"\r\nOK",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
