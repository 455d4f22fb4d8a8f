//! The remedy when a mail server takes a token and still opens no mailbox: the exact step, for those who are known by
//! name.

use crate::model::powershell;
use crate::model::provider::{Kind, by_host};
use crate::model::text::printable;

/// The remedy for a mailbox that a server does not open for an application.
pub(in crate::auth) fn remedy(host: &str, mailbox: &str, client: &str) -> String {
    let (open, allow) = (powershell::open_mailbox(mailbox, client), powershell::allow_imap(mailbox));
    let (mailbox, client) = (printable(mailbox), printable(client));
    match by_host(host).map(|provider| provider.kind) {
        Some(Kind::Microsoft) => format!(
            "in Exchange Online PowerShell: New-ServicePrincipal -AppId {client} -ObjectId OBJECT-ID-OF-THE-ENTERPRISE-APPLICATION (once), \
             {open}, {allow}; it may take up to an hour until that holds"
        ),
        Some(Kind::Google) => format!(
            "in the Admin console: allow the client ID of {client} the scope https://mail.google.com/ (Security, API controls, \
             Domain-wide delegation), and turn IMAP on for {mailbox} (Apps, Google Workspace, Gmail, End User Access)"
        ),
        _ => format!(
            "see that {mailbox} exists and that the server lets {client} open it; the scope of its tokens is the key scope in the Secret"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_fits_the_service() {
        for (host, step) in [
            ("outlook.office365.com", "Add-MailboxPermission -Identity anna@a.test -User"),
            ("imap.gmail.com", "Domain-wide delegation"),
            ("imap.a.test", "lets app open it"),
        ] {
            let told = remedy(host, "anna@a.test", "app");
            assert!(told.contains(step) && told.contains("anna@a.test"), "{told}");
        }
    }
}
