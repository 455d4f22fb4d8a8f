//! TXT records (RFC 1035 §3.3.14), as far as some signals need them.

use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::net::network::Network;

/// The most records of one name that are read.
const RECORDS_MAX: usize = 50;
/// The longest text that is read, in bytes; longer ones are passed over.
const TEXT_MAX: usize = 4096;

/// The texts of a name, each in one piece; none when it has no such record.
///
/// # Errors
/// When the name cannot be looked up.
pub(super) async fn look_up(network: &Network, name: &str) -> Result<Vec<String>, NetError> {
    let lookup = match network.look_up(name, RecordType::TXT).await {
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => return Ok(Vec::new()),
        answer => answer?,
    };
    let texts = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    });
    let fitting = texts.take(RECORDS_MAX).filter(|text| text.len() <= TEXT_MAX);
    Ok(fitting.map(|text| String::from_utf8_lossy(&text).into_owned()).collect())
}
