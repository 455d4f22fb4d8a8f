//! The meaning of a failure of the database: its SQLSTATE, or the end of the connection, as a class and a sentence.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError as E;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::model::failure::{Class, Failure};
use crate::model::text::printable;

/// The failure for an error, without its place.
pub(super) fn explain(error: &Error) -> Failure {
    let failure = match (error.as_db_error(), tls_error(error)) {
        (Some(said), _) => explain_state(said),
        (None, Some(tls)) => explain_tls(tls),
        (None, None) => explain_connection(error),
    };
    failure.caused_by(error)
}

fn explain_state(said: &DbError) -> Failure {
    let message = printable(said.message());
    let configuration = |what: String, hint: &str| Failure::configuration(what).hint(hint);
    match said.code() {
        state
            if *state == SqlState::INVALID_PASSWORD
                || *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            Failure::new(Class::Credentials, format!("refused the login: {message}"))
                .hint("correct username and password in the Secret of spec.ledger.postgres")
        }
        state if *state == SqlState::UNDEFINED_DATABASE => configuration(
            format!("there is no such database: {message}"),
            "create it, or correct the key database of the Secret",
        ),
        state if *state == SqlState::DISK_FULL => {
            configuration("the disk is full".to_owned(), "make room, then run again: it goes on from here")
        }
        state if *state == SqlState::INSUFFICIENT_PRIVILEGE => configuration(
            format!("the user may not do this: {message}"),
            "GRANT CREATE ON DATABASE … TO the user, or let it own the schema mailferry",
        ),
        state if *state == SqlState::READ_ONLY_SQL_TRANSACTION => {
            configuration("is read-only".to_owned(), "give the primary server in the Secret, not a standby")
        }
        state if *state == SqlState::DATA_CORRUPTED || *state == SqlState::INDEX_CORRUPTED => configuration(
            format!("is damaged: {message}"),
            "restore it from a backup: what has arrived since is recognised at the destination",
        ),
        state if *state == SqlState::TOO_MANY_CONNECTIONS => {
            Failure::new(Class::Unreachable, "has no connection left")
                .hint("raise max_connections, or lower spec.workers.concurrency")
        }
        state
            if *state == SqlState::LOCK_NOT_AVAILABLE
                || *state == SqlState::T_R_DEADLOCK_DETECTED
                || *state == SqlState::T_R_SERIALIZATION_FAILURE =>
        {
            Failure::new(Class::Conflict, format!("somebody else holds what is needed: {message}"))
        }
        // Operator intervention, system errors, connection exceptions, lack of resources.
        state if ["57", "58", "08", "53"].iter().any(|class| state.code().starts_with(class)) => {
            Failure::new(Class::Unreachable, format!("cannot serve: {message}"))
                .hint("look at the database's own log; it is tried again")
        }
        state => Failure::internal(format!("the ledger failed: {message} (SQLSTATE {})", state.code())),
    }
}

fn explain_connection(error: &Error) -> Failure {
    let chain: Vec<String> = causes(error).map(|cause| printable(&cause.to_string())).collect();
    // The kinds of error are private to the crate; their words are not.
    let head = chain.first().map(String::as_str).unwrap_or_default();
    let why = chain.last().cloned().unwrap_or_default();
    if head.starts_with("error performing TLS") && why.contains("does not support TLS") {
        return Failure::new(Class::Tls, "does not offer TLS")
            .hint("no password was sent; switch ssl on at the server, or write sslmode: disable if it is on a private network");
    }
    if head.starts_with("authentication") {
        return Failure::new(Class::Credentials, format!("cannot be logged in to: {why}"))
            .hint("the server must take a password by SCRAM-SHA-256 or md5");
    }
    if error.is_closed() {
        return Failure::new(Class::Unreachable, "the connection was lost")
            .hint("it is tried again; look at the database's own log if this goes on");
    }
    let refused = causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if refused {
        return Failure::new(Class::Unreachable, "refuses connections")
            .hint("check host and port in the Secret, and the firewall");
    }
    let network = ["error connecting", "error communicating", "timeout", "error performing TLS"];
    if network.iter().any(|words| head.starts_with(words)) {
        return Failure::new(Class::Unreachable, format!("cannot be talked to: {why}"))
            .hint("check host and port in the Secret, and the firewall");
    }
    Failure::internal(format!("the ledger failed: {}", chain.join(": ")))
}

fn explain_tls(error: &rustls::Error) -> Failure {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return Failure::new(
            Class::Tls,
            format!("the TLS handshake failed: {}", printable(&error.to_string())),
        )
        .hint("no password was sent; the server must speak TLS 1.2 or newer");
    };
    let (why, hint) = match reason {
        E::Expired | E::ExpiredContext { .. } => ("it has expired".to_owned(), "have it renewed"),
        E::NotValidForName | E::NotValidForNameContext { .. } => (
            "it is for another name".to_owned(),
            "set the key host of the Secret to a name that is on the certificate",
        ),
        E::UnknownIssuer | E::BadSignature => (
            "its authority is not known here".to_owned(),
            "give the certificate of the authority in the key ca.crt of the Secret",
        ),
        other => (printable(&format!("{other:?}")), "have it replaced"),
    };
    Failure::new(Class::Tls, format!("refused the certificate: {why}"))
        .hint(format!("no password was sent; {hint}"))
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// rustls's own error, which lies inside one of the system's.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .find_map(|error| error.get_ref()?.downcast_ref::<rustls::Error>())
}
