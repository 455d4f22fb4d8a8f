//! Logins: whose they are, by which mechanism, with which token, and how no secret comes back in an answer.

pub(crate) mod cleaning;
pub mod credentials;
pub mod oauth;
pub(crate) mod sasl;
