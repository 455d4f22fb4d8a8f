//! IMAP (RFC 9051, RFC 3501) on async-imap.
//!
//! async-imap brings the connection and its framing. Its data helpers are not used: they take a
//! refused command for an empty answer, drop APPENDUID, hold whole messages in memory and end the session at any
//! untagged line they do not know. So:
//! - [`wire`] sits between the socket and async-imap. It takes server responses apart itself, lets bodies stream past
//!   in pieces, and hands async-imap a short stand-in for each.
//! - [`tokens`] reads the responses, tolerantly and within bounds.
//! - [`login`] greets, secures and logs in.
//! - [`session`] is the command layer: every tagged line's status is looked at, every refusal becomes a failure. [`command`]
//!   is what is given, and [`flight`] several at once, asked again plainly where a server fails at what it offers.
//! - [`survey`] lists the folders of a mailbox; [`folders`] opens one and lists what is in it.
//! - [`source`] and [`destination`] are the two sides of a migration; [`append`] is the pipelined upload.
//! - [`listing`] lists the open folder, page by page or what changed in it.
//! - [`literals`] tries literals that do not wait, before mail goes by them.
//! - [`account`] asks a server for facts about itself and the account, [`probe`] measures a mailbox.
//! - [`Imap`] is all of it as the registry knows it.
//! - [`labels`] decides which of its folders a message of Gmail is carried from.
//! - [`numbers`] are those of a folder, and the marks that are made of them.
//! - [`names`] turns folder paths into wire names and back (modified UTF-7); [`paths`] keeps those apart that read alike.

pub mod account;
pub mod append;
pub mod bodies;
mod body;
pub mod command;
pub mod destination;
mod driver;
pub mod flight;
pub mod folders;
pub mod labels;
pub mod listing;
mod literals;
pub mod login;
pub mod names;
pub mod numbers;
pub mod paths;
pub mod probe;
pub mod refusal;
pub mod session;
pub mod source;
pub mod survey;
pub mod tokens;
pub mod wire;

pub use self::driver::Imap;
