//! Connections to servers: names and addresses, the bounds of a host, TLS, compression, HTTP. Nothing here knows a protocol
//! of mail, nor who logs in.

mod allowance;
mod deflate;
pub mod dns;
mod host;
pub(crate) mod http;
pub mod network;
pub mod patience;
mod speed;
pub mod tls;
