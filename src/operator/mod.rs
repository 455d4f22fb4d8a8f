//! The operator: the platform of a cluster. It opens no mail connection and reads no Secret.

pub mod election;
pub mod lease;
pub mod metrics;
pub mod requests;
pub mod serve;
