//! The words Mailferry thinks in: addresses, folders, messages, protocols, evidence, findings, failures.
//!
//! Everything here is a plain value. Nothing in this room opens a socket, reads a file or asks what time it is, and
//! nothing here imports another room of ours, so every other room may import this one.

pub mod address;
pub mod capability;
pub mod checklist;
pub mod clock;
pub mod difference;
pub mod dns;
pub mod endpoint;
pub mod evidence;
pub mod failure;
pub mod fidelity;
pub mod finding;
pub mod folder;
pub mod grade;
pub mod identity;
pub mod label;
pub mod list;
pub mod locator;
pub mod mark;
pub mod message;
pub mod place;
pub mod powershell;
pub mod preset;
pub mod progress;
pub mod protocol;
pub mod provider;
pub mod purpose;
pub mod random;
pub mod record;
pub mod records;
pub mod scope;
pub mod secret;
pub mod service;
pub mod text;
