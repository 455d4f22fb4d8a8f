//! Passwords that must be seen nowhere, in any form in which a password could come out.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// A password that occurs nowhere else, and what must not be seen of it.
pub struct Canary {
    /// The password.
    pub password: String,
    /// The password as it may be written: plain, base64, hexadecimal, escaped in a URL.
    pub forms: Vec<Vec<u8>>,
}

impl Canary {
    /// `names` are the users that it may be sent for.
    pub fn new(password: &str, names: &[&str]) -> Self {
        let bytes = password.as_bytes();
        let mut forms = vec![bytes.to_vec()];
        // Base64 of the password at each of the three offsets it may have in a longer text, without the ends that
        // depend on its neighbours.
        for offset in 0..3 {
            let padded = [&vec![b'x'; offset][..], bytes].concat();
            let encoded = BASE64_STANDARD.encode(&padded);
            let start = (offset * 8).div_ceil(6);
            let end = padded.len() * 8 / 6;
            forms.push(encoded.as_bytes()[start..end].to_vec());
        }
        for name in names {
            for authzid in ["", name] {
                forms.push(BASE64_STANDARD.encode(format!("{authzid}\0{name}\0{password}")).into_bytes());
            }
        }
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        forms.extend([hex.to_ascii_uppercase().into_bytes(), hex.into_bytes()]);
        let url: String = password
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("%{:02X}", c as u32) })
            .collect();
        forms.extend([url.to_ascii_lowercase().into_bytes(), url.into_bytes()]);
        Self { password: password.to_owned(), forms }
    }
}

/// Stops the test if a form of a canary is in the text.
#[track_caller]
pub fn assert_clean(canaries: &[Canary], place: &str, text: &[u8]) {
    for canary in canaries {
        for form in &canary.forms {
            let found = text.windows(form.len()).position(|window| window == form);
            if let Some(at) = found {
                let around = &text[at.saturating_sub(200)..(at + form.len() + 50).min(text.len())];
                panic!("{place} shows {}: {}", canary.password, String::from_utf8_lossy(around));
            }
        }
    }
}
