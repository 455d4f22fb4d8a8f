//! The workers of pods, against a real API server and real mail servers: discovery leaves its document, a slice of
//! mailboxes is carried and reported, and nothing is lost or done twice when a pod ends in the middle.
//!
//! The pods' processes run on this machine, as root of the cluster; what they may do as pods is the operator's to prove.
mod away;
mod discover;
mod pod;
mod slice;
mod stopped;
