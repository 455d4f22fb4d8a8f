//! Servers of many makes as sources and as destinations, by the real binary: everything arrives once, a second run sends nothing,
//! what is new or changed follows, and what a make cannot keep is told.
mod altered;
mod commands;
mod known;
mod make;

mod moves;
