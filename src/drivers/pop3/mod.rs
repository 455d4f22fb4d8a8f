//! POP3 (RFC 1939) as a source: the driver, [`Session`] for logins and sizes, [`Pop3Source`] for mail. Nothing here deletes,
//! and reading avoids marking a message as seen.

mod driver;
mod names;
mod session;
mod source;
mod wire;

pub use self::driver::Pop3;
pub use self::session::Session;
pub use self::source::Pop3Source;
