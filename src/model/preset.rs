//! Services that are known by name: their hosts, and where and for what their tokens are asked. Data with a source:
//! `presets.csv`, and what they allow: `limits.csv`.

use std::fmt;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const TABLE: &str = include_str!("presets.csv");
const LIMITS: &str = include_str!("limits.csv");

/// A service that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preset {
    /// Its name in a manifest or a Secret.
    pub key: &'static str,
    /// Its name among people.
    pub name: &'static str,
    /// Its IMAP server, on port 993 with TLS.
    pub imap: &'static str,
    /// Its POP3 server, on port 995 with TLS.
    pub pop3: &'static str,
    /// Its token endpoint; `{tenant}` stands for the customer's directory.
    pub token: &'static str,
    /// Where a device code is asked for (RFC 8628); empty where mail cannot be reached that way.
    pub device: &'static str,
    /// The scope of an application, or of a service account.
    pub application_scope: &'static str,
    /// The scopes of a user who logs in.
    pub user_scope: &'static str,
    /// The day on which this was compared with its source; empty where it is knowledge of the field.
    pub checked: &'static str,
    /// The source.
    pub source: &'static str,
    /// The amount that may be read of one mailbox by IMAP in a day, in bytes, where that is known to be limited.
    pub imap_bytes_per_day: Option<u64>,
}

/// Stands for a preset that the table lacks, which a test rules out.
const NONE: Preset = Preset {
    key: "",
    name: "",
    imap: "",
    pop3: "",
    token: "",
    device: "",
    application_scope: "",
    user_scope: "",
    checked: "",
    source: "",
    imap_bytes_per_day: None,
};

/// A cloud of Microsoft: a tenant is in one of them, and each has hosts and token endpoints of its own.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum Cloud {
    /// The one that nearly all tenants are in.
    #[default]
    Global,
    /// The one of the United States' government and its contractors.
    #[serde(rename = "GCCHigh")]
    GccHigh,
    /// The one in China that 21Vianet operates.
    China21Vianet,
}

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Global, Self::GccHigh, Self::China21Vianet];

    /// All that is known of it.
    pub fn preset(self) -> &'static Preset {
        let key = match self {
            Self::Global => "microsoft365",
            Self::GccHigh => "microsoft365-gcc-high",
            Self::China21Vianet => "microsoft365-21vianet",
        };
        by_key(key).unwrap_or(&NONE)
    }

    /// The one that is called so in a manifest or a Secret.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cloud| cloud.to_string() == name)
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "Global",
            Self::GccHigh => "GCCHigh",
            Self::China21Vianet => "China21Vianet",
        })
    }
}

impl Preset {
    /// The amount that is read of one mailbox in a day, in bytes: a fifth less than is known to be allowed, since lists of messages,
    /// checks and the user's own programs count as well.
    pub fn planned_bytes_per_day(&self) -> Option<u64> {
        self.imap_bytes_per_day.map(|bytes| bytes / 5 * 4)
    }
}

/// All of them.
pub fn all() -> &'static [Preset] {
    static READ: OnceLock<Vec<Preset>> = OnceLock::new();
    READ.get_or_init(|| TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(read).collect())
}

/// The one with a key.
pub fn by_key(key: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.key == key)
}

/// The one whose IMAP server this is.
pub fn by_imap_host(host: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.imap.eq_ignore_ascii_case(host))
}

/// A limit of a preset.
fn limit(key: &str, name: &str) -> Option<u64> {
    LIMITS.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = line.split(',');
        let is_it = fields.next() == Some(key) && fields.next() == Some(name);
        is_it.then(|| fields.next()?.parse().ok()).flatten()
    })
}

fn read(line: &'static str) -> Option<Preset> {
    let fields: Vec<&'static str> = line.split(',').collect();
    let [key, name, imap, pop3, token, device, application_scope, user_scope, checked, source] = fields[..]
    else {
        return None;
    };
    let imap_bytes_per_day = limit(key, "imapBytesPerDay");
    Some(Preset {
        key,
        name,
        imap,
        pop3,
        token,
        device,
        application_scope,
        user_scope,
        checked,
        source,
        imap_bytes_per_day,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_preset_with_a_source() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines, all().len());
        for preset in all() {
            for url in [preset.token, preset.device].into_iter().filter(|url| !url.is_empty()) {
                let host = url.strip_prefix("https://").and_then(|rest| rest.split('/').next());
                assert!(host.is_some_and(|host| host.contains('.') && !host.contains('{')), "{url}");
            }
            assert!(!preset.source.is_empty() && preset.imap.contains('.'), "{preset:?}");
            assert_eq!(all().iter().filter(|other| other.key == preset.key).count(), 1, "{}", preset.key);
        }
        for cloud in Cloud::ALL {
            assert!(cloud.preset().name.starts_with("Microsoft 365"), "{cloud}");
            assert_eq!(Cloud::named(&cloud.to_string()), Some(cloud));
        }
        assert_eq!(Cloud::named("global"), None);
        assert_eq!(by_key("google").map(|preset| preset.imap), Some("imap.gmail.com"));
        assert_eq!(by_imap_host("IMAP.gmail.com").and_then(|p| p.imap_bytes_per_day), Some(2_500_000_000));
        assert_eq!(by_imap_host("outlook.office365.com").and_then(|p| p.imap_bytes_per_day), None);
        let limits: Vec<&str> = LIMITS.lines().filter(|line| !line.starts_with('#')).collect();
        let read = all().iter().filter(|preset| preset.imap_bytes_per_day.is_some()).count();
        assert_eq!(limits.len(), read);
        assert!(limits.iter().all(|line| line.split(',').count() == 4 && !line.ends_with(',')), "{limits:?}");
    }
}
