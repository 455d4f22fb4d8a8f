//! Greetings of other protocols than the one that was waited for: ports are mistaken for one another. A peer that is told by
//! its first line is named with the remedy, where it would else be silent or talk nonsense.

use crate::model::failure::{Failure, FailureCode};
use crate::model::protocol::Protocol;

/// First lines, and the protocols that begin with them.
const GREETINGS: [(&[u8], &str); 9] = [
    (b"+OK", "POP3"),
    (b"-ERR", "POP3"),
    (b"* OK", "IMAP"),
    (b"* PREAUTH", "IMAP"),
    (b"* BYE", "IMAP"),
    (b"220", "SMTP"),
    (b"\"IMPLEMENTATION\"", "ManageSieve"),
    (b"HTTP/", "HTTP"),
    (b"SSH-", "SSH"),
];

/// The failure of a peer whose first line is that of another protocol than the one that is wanted.
pub(super) fn of_another(line: &[u8], wanted: Protocol) -> Option<Failure> {
    let begins = |(begin, _): &&(&[u8], &str)| {
        line.get(..begin.len()).is_some_and(|head| head.eq_ignore_ascii_case(begin))
    };
    let (_, spoken) = GREETINGS.iter().find(begins)?;
    let (name, remedy) = match wanted {
        Protocol::Imap => ("IMAP", "give the port that speaks IMAP (993 with TLS, 143 with StartTLS)"),
        Protocol::Pop3 => ("POP3", "give the port that speaks POP3 (995 with TLS, 110 with StartTLS)"),
        // Files greet nobody.
        Protocol::Maildir | Protocol::Mbox | Protocol::Eml => return None,
    };
    // A source may be read by either.
    let other = match *spoken {
        "IMAP" | "POP3" => format!(", or write protocol: {spoken} for it if it is a source"),
        _ => String::new(),
    };
    let failure = || {
        Failure::protocol(format!("speaks {spoken} on this port, and {name} was wanted"))
            .code(FailureCode::SpeaksAnother)
            .hint(format!("no password was sent; {remedy}{other}"))
    };
    (*spoken != name).then(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_of_another_protocol_is_told_with_the_port_or_the_protocol_to_write() {
        let told = |line: &str, wanted| of_another(line.as_bytes(), wanted).map(|failure| failure.what);
        for (line, wanted, spoken) in [
            ("+OK Dovecot ready.", Protocol::Imap, Some("POP3")),
            ("220 mail.a.test ESMTP", Protocol::Imap, Some("SMTP")),
            ("* OK [CAPABILITY IMAP4rev1] ready", Protocol::Pop3, Some("IMAP")),
            ("http/1.1 400 Bad Request", Protocol::Pop3, Some("HTTP")),
            ("* OK ready", Protocol::Imap, None),
            ("+OK ready", Protocol::Pop3, None),
            ("hello", Protocol::Pop3, None),
        ] {
            let what = told(line, wanted);
            let is_told =
                |spoken| what.as_ref().is_some_and(|what| what.starts_with(&format!("speaks {spoken} ")));
            assert!(spoken.map_or(what.is_none(), is_told), "{line}: {what:?}");
        }
        let hint = of_another(b"+OK", Protocol::Imap).unwrap().hint.unwrap();
        assert!(hint.contains("993") && hint.contains("protocol: POP3"), "{hint}");
    }
}
