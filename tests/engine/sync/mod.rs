//! Proves the engine on real servers: what is at the destination afterwards, and what it cost to get there. An eye that
//! shares no code with the product ([`support::compare`]) reads both sides.
//!
//! - [`full`]: whole mailboxes, and the passes after the first
//! - [`delta`]: new mail, changed flags, expunged mail, new folders
//! - [`cut`]: passes that are cut or killed in the middle
//! - [`adopt`]: mail that is there already, lost ledgers, folders that got another UIDVALIDITY
//! - [`names`]: namespaces, delimiters, special uses
//! - [`refused`]: what a rule leaves out and what the destination does not take
//! - [`plain`]: servers without extensions
//! - [`database`]: whole mailboxes with their ledger in PostgreSQL
//! - [`switch`]: POP3 in one pass, IMAP in the next

mod adopt;
mod cut;
mod database;
mod delta;
mod full;
mod lanes;
mod names;
mod plain;
mod refused;
mod renumbered;
mod rig;
mod switch;
