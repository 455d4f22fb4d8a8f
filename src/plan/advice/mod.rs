//! What an experienced colleague would add on the telephone: findings that follow from the spec, the customer's answers and
//! what was found together, which no single server could tell. Pure; days are counted from the moment handed in.

mod domain;
mod project;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub(super) use domain::of_domain;
pub(super) use project::of_migration;

/// 10^6 bytes.
const MEGABYTE: u64 = 1_000_000;
/// 10^9 bytes.
const GIGABYTE: u64 = 1_000_000_000;

/// Exchange Web Services in Exchange Online end for good on this day (Microsoft, 2025; on-premises servers keep them).
const EWS_ENDS: (i16, i8, i8) = (2027, 4, 1);
/// After this day Exchange Online takes no passwords from programs that send, unless the tenant says otherwise.
const SMTP_PASSWORDS_END: (i16, i8, i8) = (2026, 12, 31);

/// Whose servers a host belongs to, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    Microsoft,
    Google,
    /// Something that filters mail in front of the store.
    Gateway,
}

const PROVIDERS: &[(&str, Provider)] = &[
    ("outlook.com", Provider::Microsoft),
    ("office365.com", Provider::Microsoft),
    ("mx.microsoft", Provider::Microsoft),
    ("google.com", Provider::Google),
    ("googlemail.com", Provider::Google),
    ("gmail.com", Provider::Google),
    ("pphosted.com", Provider::Gateway),
    ("ppe-hosted.com", Provider::Gateway),
    ("mimecast.com", Provider::Gateway),
    ("barracudanetworks.com", Provider::Gateway),
    ("messagelabs.com", Provider::Gateway),
    ("iphmx.com", Provider::Gateway),
    ("hornetsecurity.com", Provider::Gateway),
    ("antispameurope.com", Provider::Gateway),
    ("retarus.com", Provider::Gateway),
];

fn provider(host: &str) -> Option<Provider> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let below = |suffix: &str| {
        host.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    PROVIDERS.iter().find(|(suffix, _)| below(suffix)).map(|(_, provider)| *provider)
}

fn day((year, month, day): (i16, i8, i8)) -> Date {
    Date::new(year, month, day).unwrap_or_default()
}

/// How many days it is until a day; less than 0 when it is over.
fn days_until(date: Date, now: Timestamp) -> i32 {
    let today = now.to_zoned(TimeZone::UTC).date();
    today.until(date).map_or(0, |span| span.get_days())
}

/// `in 12 days`, `today` or `12 days ago`.
fn distance(days: i32) -> String {
    match days {
        0 => "today".to_owned(),
        1 => "tomorrow".to_owned(),
        -1 => "yesterday".to_owned(),
        n if n > 0 => format!("in {n} days"),
        n => format!("{} days ago", -i64::from(n)),
    }
}
