//! What is left when something dies, stalls, lies or is of another version? Nodes, servers, stores, stored bytes.

mod backup;
mod chaos;
mod experiments;
mod faults;
pub mod golden;
mod hangup;
pub mod intake;
mod nodes;
mod servers;
pub mod state;
mod upgrade;
