//! `mailferry status` and `mailferry report` look into a cluster: the real API server holds what operator and workers
//! leave there, and what the commands show is held against the same migration on a laptop.

mod access;
mod usage;
mod views;
mod world;
