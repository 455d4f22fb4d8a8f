//! The Helm chart, rendered by helm over a table of values and looked at object by object. Whether a cluster takes what
//! is rendered is tried on a real one, by the tests that stand on `tests/cluster`.
mod pods;
mod render;
mod rights;
mod values;
