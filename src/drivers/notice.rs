//! Notices that servers hand out in place of messages which they cannot read: small texts, where the listing reports
//! another size. IMAP and POP3 give the same ones.

/// The longest notice, in bytes.
const NOTICE_MAX: usize = 16 * 1024;

/// The words of such notices of Exchange, in lower case; wording and apostrophes differ between its builds, and its
/// name in the From header does not.
const NOTICES: [&str; 6] = [
    "protocol failed for the following message",
    "couldn't retrieve the following message",
    "couldn\u{2019}t retrieve the following message",
    "could not retrieve the following message",
    "from: microsoft exchange server 20",
    "from: \"microsoft exchange server 20",
];

/// Whether these bytes are a notice in place of a message that is listed with another size. The whole message need not be
/// given, as long as it is more than a notice can be.
pub(crate) fn is_notice(bytes: &[u8], listed: u64) -> bool {
    if bytes.len() > NOTICE_MAX || bytes.len() as u64 == listed {
        return false;
    }
    // Lines of a subject may be folded anywhere.
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    NOTICES.iter().any(|notice| text.contains(notice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_text_that_says_so_is_a_notice_and_a_message_about_one_is_not() {
        let notice =
            b"Subject: Retrieval using the IMAP4 protocol\r\n failed for the following message: 12\r\n\r\n";
        assert!(is_notice(notice, 348_830));
        assert!(!is_notice(notice, notice.len() as u64), "a forwarded notice is a message");
        assert!(!is_notice(b"Subject: lunch\r\n\r\n", 348_830));
        assert!(is_notice(notice, 20), "a small message is hidden as well");
        assert!(!is_notice(&[notice.as_slice(), &[b'x'; NOTICE_MAX]].concat(), 348_830));
    }
}
