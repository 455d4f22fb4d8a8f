//! The platform of this process: the same loop as in a cluster, with a state directory for what must survive, tasks for
//! pods, and a terminal for events.

pub mod clock;
mod database;
pub mod dns;
pub mod documents;
pub mod files;
mod fresh;
pub mod grants;
pub mod guard;
pub mod ledgers;
mod limits;
pub mod lists;
pub mod login;
pub mod only;
pub mod platform;
mod preflight;
pub mod progress;
pub mod reporting;
pub mod rotated;
pub mod run;
pub mod secrets;
pub mod state;
pub mod stop;
pub mod terminal;
pub mod validate;
pub mod verify;
pub mod workers;
