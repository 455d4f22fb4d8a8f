//! The facts that a server reports about itself and the account after a login: its name (RFC 2971), its namespaces
//! (RFC 2342), the quota (RFC 9208), and how many folders of others the mailbox sees. Nothing is opened.

use std::collections::HashSet;

use super::command::Ask;
use super::names::Spelling;
use super::session::{Session, split_word};
use super::survey::{ask_for_names, is_selectable, read_list};
use super::tokens::{Value, read_values};
use crate::drivers::registry::Account;
use crate::model::evidence::Quota;
use crate::model::failure::Result;
use crate::model::service::SessionFacts;
use crate::model::text::{cut, printable};

/// The most fields, namespaces or prefixes that are kept of one kind.
const KEPT_MAX: usize = 10;
/// The longest of them, in bytes.
const TEXT_MAX: usize = 100;
/// The most folders of others that are counted.
const FOREIGN_MAX: usize = 100_000;

/// Asks for all of it in two turns at most. A field that the server does not offer or refuses stays empty.
///
/// # Errors
/// Those of the connection.
pub async fn ask_account(session: &mut Session) -> Result<Account> {
    let mut account = Account {
        session: SessionFacts::of(&session.facts().endpoint, session.facts().capabilities.clone()),
        quota: None,
        foreign: 0,
    };
    if let Some(id) = session.id().await? {
        account.session.id = read_values(id).map(|values| read_id(&values)).unwrap_or_default();
    }
    account.session.alert = session.alert().map(str::to_owned);
    let wanted = [("NAMESPACE", "NAMESPACE"), ("QUOTA", "GETQUOTAROOT INBOX")];
    let offered = wanted.iter().filter(|(word, _)| session.offers(word));
    let commands: Vec<String> = offered.map(|(_, command)| (*command).to_owned()).collect();
    let mut spelling = Spelling::default();
    // A refusal is an answer too: the field stays empty.
    session
        .run_all(&commands, |_, line| {
            take(&mut account, &mut spelling, line);
            Ok(())
        })
        .await?;
    // Some servers list folders of others only where their prefix is named.
    let lists: Vec<Ask> =
        spelling.foreign.iter().map(|prefix| ask_for_names(&format!("{prefix}*"))).collect();
    let mut foreign: HashSet<Vec<u8>> = HashSet::new();
    session
        .ask_all(&lists, |_, line| {
            if foreign.len() < FOREIGN_MAX
                && let Some(name) = folder_in(line).filter(|name| spelling.is_foreign(name))
            {
                foreign.insert(name);
            }
            Ok(())
        })
        .await?;
    account.foreign = u32::try_from(foreign.len()).unwrap_or(u32::MAX);
    Ok(account)
}

/// Takes one untagged response in; a response that was not asked for is passed over.
fn take(account: &mut Account, spelling: &mut Spelling, line: &[u8]) {
    let (word, rest) = split_word(line);
    let Ok(values) = read_values(rest) else { return };
    match word.to_ascii_uppercase().as_slice() {
        b"NAMESPACE" => {
            spelling.read_namespaces(rest);
            let facts = &mut account.session;
            [facts.personal, facts.others, facts.shared] = [0, 1, 2].map(|at| read_prefixes(values.get(at)));
        }
        b"QUOTA" => account.quota = account.quota.or_else(|| read_quota(&values)),
        _ => {}
    }
}

fn shown(value: &Value) -> Option<String> {
    Some(cut(&printable(&String::from_utf8_lossy(value.bytes()?)), TEXT_MAX))
}

/// `("name" "Dovecot" "version" NIL)` as `name=Dovecot`.
fn read_id(values: &[Value]) -> Vec<String> {
    let fields = values.first().and_then(Value::list).unwrap_or_default();
    let pairs = fields.chunks_exact(2).filter_map(|pair| Some((shown(&pair[0])?, shown(&pair[1])?)));
    pairs
        .map(|(name, value)| cut(&format!("{}={value}", name.to_lowercase()), TEXT_MAX))
        .take(KEPT_MAX)
        .collect()
}

/// The prefixes of one kind of namespace: NIL, or a list of (prefix delimiter).
fn read_prefixes(value: Option<&Value>) -> Vec<String> {
    let spaces = value.and_then(Value::list).unwrap_or_default();
    spaces
        .iter()
        .filter_map(|space| space.list()?.first()?.text())
        .filter(|prefix| prefix.len() <= TEXT_MAX)
        .map(str::to_owned)
        .take(KEPT_MAX)
        .collect()
}

/// `"root" (STORAGE used limit MESSAGE used limit)`; storage is counted in 1,024 bytes (RFC 9208 §5.1).
fn read_quota(values: &[Value]) -> Option<Quota> {
    let resources = values.get(1)?.list()?;
    let storage = resources
        .chunks_exact(3)
        .find(|three| three[0].text().is_some_and(|name| name.eq_ignore_ascii_case("STORAGE")))?;
    let bytes = |value: &Value| value.number::<u64>()?.checked_mul(1024);
    Some(Quota { used: bytes(&storage[1])?, limit: bytes(&storage[2])? })
}

/// The folder that a response lists, if it can be opened.
fn folder_in(line: &[u8]) -> Option<Vec<u8>> {
    let (attributes, _, name) = read_list(line).ok()??;
    is_selectable(&attributes).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::capability::Capabilities;
    use crate::model::endpoint::Endpoint;
    use crate::model::protocol::{Protocol, Tls};

    fn told(lines: &[&str]) -> Account {
        let endpoint = Endpoint::new(Protocol::Imap, "imap.contoso.example", 993, Tls::Implicit);
        let session = SessionFacts::of(&endpoint, Capabilities::default());
        let mut account = Account { session, quota: None, foreign: 0 };
        for line in lines {
            let line = line.as_bytes();
            take(&mut account, &mut Spelling::default(), line);
            if let (b"ID", rest) = split_word(line) {
                account.session.id = read_id(&read_values(rest).unwrap_or_default());
            }
        }
        account
    }

    #[test]
    fn what_servers_tell_is_read() {
        let account = told(&[
            r#"ID ("name" "Dovecot" "Version" "2.3.19" "support-url" NIL)"#,
            r#"NAMESPACE (("" "/")) (("user/" "/")) (("shared/" "/") ("public/" "/"))"#,
            r"QUOTAROOT INBOX a b",
            r#"QUOTA "" (MESSAGE 3 100 STORAGE 10 512)"#,
            r#"QUOTA "other" (STORAGE 1 2)"#,
        ]);
        assert_eq!(account.session.id, ["name=Dovecot", "version=2.3.19"]);
        assert_eq!(account.session.personal, [""]);
        assert_eq!(account.session.others, ["user/"]);
        assert_eq!(account.session.shared, ["shared/", "public/"]);
        assert_eq!(account.quota, Some(Quota { used: 10_240, limit: 524_288 }));
    }

    #[test]
    fn what_is_missing_or_broken_stays_empty() {
        for line in [
            "ID NIL",
            "NAMESPACE NIL NIL NIL",
            "QUOTA a ()",
            "QUOTA a (STORAGE 1)",
            "QUOTA a (STORAGE x 1)",
            "ID (",
            "",
        ] {
            let account = told(&[line]);
            assert!(account.session.id.is_empty() && account.session.shared.is_empty(), "{line}");
            assert_eq!(account.quota, None, "{line}");
        }
        let huge = format!("QUOTA a (STORAGE 1 {})", u64::MAX);
        assert_eq!(told(&[&huge]).quota, None);
    }

    #[test]
    fn folders_that_cannot_be_opened_do_not_count() {
        for (line, counts) in [
            (r#"LIST (\HasNoChildren) "/" shared/info"#, true),
            (r#"LIST (\NoSelect \HasChildren) "/" shared"#, false),
            (r#"LIST () "/" shared/x"#, true),
            ("STATUS shared (MESSAGES 1)", false),
            ("LIST", false),
        ] {
            assert_eq!(folder_in(line.as_bytes()).is_some(), counts, "{line}");
        }
    }

    #[test]
    fn transcripts_of_real_servers_are_read_without_a_panic() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/imap-transcripts");
        let Ok(entries) = std::fs::read_dir(&folder) else {
            println!("the corpus of real transcripts is not here; nothing was read");
            return;
        };
        let (mut named, mut spaces) = (0, 0);
        for entry in entries.flatten() {
            let bytes = std::fs::read(entry.path()).unwrap();
            for line in bytes.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"* ")) {
                let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                let account = told(&[&line]);
                named += usize::from(!account.session.id.is_empty());
                spaces += usize::from(!account.session.personal.is_empty());
            }
        }
        assert!(named > 0 && spaces > 5, "{named} names and {spaces} namespaces");
    }
}
