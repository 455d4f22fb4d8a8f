//! Servers that are odd, each in one way that people have met: the real binary carries a mailbox from or to a server that a
//! test bends ([`support::script`]), or a real one that behaves so, and every message must come out where it should or be told.
//!
//! Each test is a [`world::World`]: a source, a destination, and a manifest with one mailbox between them.

mod aliases;
mod books;
mod cut;
mod folders;
mod items;
mod known;
mod lines;
mod moves;
mod patience;
mod places;
mod plain;
mod pop3;
mod refusals;
mod sessions;
mod storing;
mod unsaid;
mod users;
mod world;
