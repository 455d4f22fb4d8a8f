//! The lines of Exchange Online PowerShell that a remedy names, ready to be pasted whatever an address holds.

use super::text::printable;

/// An argument. A word of letters, digits, `@`, `.`, `_` and `-` is written as it is; everything else in single quotes,
/// in which PowerShell takes only such quotes, the typographic ones too, for more than themselves
/// (`about_Quoting_Rules`).
fn argument(text: &str) -> String {
    let text = printable(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '_' | '-');
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_plain) {
        return text;
    }
    let mut quoted = String::from('\'');
    for c in text.chars() {
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// Lets an application, by its client ID or the name of its service principal, open a mailbox.
pub fn open_mailbox(mailbox: &str, application: &str) -> String {
    let (mailbox, application) = (argument(mailbox), argument(application));
    format!("Add-MailboxPermission -Identity {mailbox} -User {application} -AccessRights FullAccess")
}

/// Turns IMAP on for a mailbox.
pub fn allow_imap(mailbox: &str) -> String {
    format!("Set-CASMailbox {} -ImapEnabled $true", argument(mailbox))
}

/// Shows what a mailbox is and whether it is licensed.
pub fn show_mailbox(mailbox: &str) -> String {
    format!("Get-Mailbox {} | Format-List RecipientTypeDetails, SkuAssigned", argument(mailbox))
}

/// Gives a mailbox room for so many gigabytes, and one more before nothing can be received.
pub fn raise_quota(mailbox: &str, gigabytes: u64) -> String {
    format!(
        "Set-Mailbox {} -IssueWarningQuota {gigabytes}GB -ProhibitSendQuota {gigabytes}GB -ProhibitSendReceiveQuota {}GB",
        argument(mailbox),
        gigabytes + 1
    )
}

/// Lets a mailbox take the largest messages that Exchange Online allows.
pub fn raise_message_size(mailbox: &str) -> String {
    format!("Set-Mailbox {} -MaxReceiveSize 150MB -MaxSendSize 150MB", argument(mailbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_means_its_mailbox_and_nothing_else_whatever_an_address_holds() {
        for (address, written) in [
            ("anna@a.test", "anna@a.test"),
            ("anna-maria_2.x@a.test", "anna-maria_2.x@a.test"),
            ("o'brien@a.test", "'o''brien@a.test'"),
            ("o\u{2019}brien@a.test", "'o\u{2019}\u{2019}brien@a.test'"),
            ("a$(x)`;b+c@a.test", "'a$(x)`;b+c@a.test'"),
            ("-Force@a.test", "'-Force@a.test'"),
            ("jürgen@a.test", "'jürgen@a.test'"),
            ("", "''"),
        ] {
            assert_eq!(allow_imap(address), format!("Set-CASMailbox {written} -ImapEnabled $true"));
        }
    }
}
