//! stub
/// stub
pub struct Manifest;
