//! What do the demo, the load test and the tests share? No node runs any of it.
//!
//! - [`agents`]: connected by the keys that were made for them.
//! - [`books`]: what everybody saw, one line for each thing. [`audit`]: what the bus itself has kept.
//! - [`traffic`]: what clients do while things break.
//! - [`checker`]: do the books agree? Which promise was broken, and for which message.

pub mod agents;
pub mod audit;
pub mod books;
pub mod checker;
pub mod traffic;
