//! The operator on a real Kubernetes, installed by the chart as users install it, between real mail servers.

mod changed;
mod database;
mod deleted;
mod history;
mod installed;
mod killed;
mod lost_workers;
mod many;
mod node;
mod pair;
mod project;
mod refusals;
mod restored;
mod restricted;
mod rights;
mod scheduled;
mod secrecy;
mod secrets;
mod shown;
mod story;
mod tenant;
mod tenants;
mod together;
mod unstartable;
mod verified;
