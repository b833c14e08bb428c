//! Do people and programs get what the docs promise? Commands, docs, README, clients of other languages, webhook.

pub mod clients;
mod commands;
mod constitution;
mod deploy;
mod docs;
mod doctor;
mod explain;
mod freeze;
#[cfg(feature = "model")]
mod model_tools;
mod opa;
mod operators;
mod otlp;
mod people;
mod policy;
mod readme;
mod recover;
mod status;
mod usage;
mod webhook;
