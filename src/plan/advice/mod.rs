//! Advice that an experienced colleague would add on the telephone: findings that follow from the spec, the customer's
//! answers and what was found together, which no single server could tell. Pure; days are counted from the moment
//! handed in, and texts name the date and not how far it is: a status that changes every day would hide what has
//! changed.

mod domain;
mod project;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::provider::{Kind, by_host};

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

/// The kind of provider that owns a host, as far as its name shows.
fn provider(host: &str) -> Option<Kind> {
    by_host(host).map(|provider| provider.kind)
}

fn day((year, month, day): (i16, i8, i8)) -> Date {
    Date::new(year, month, day).unwrap_or_default()
}

/// How many days it is until a day; less than 0 when it is over.
fn days_until(date: Date, now: Timestamp) -> i32 {
    let today = now.to_zoned(TimeZone::UTC).date();
    today.until(date).map_or(0, |span| span.get_days())
}
