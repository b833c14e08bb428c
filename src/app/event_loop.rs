//! The thread on which the fast lane governs: one event loop, with the connections that each message needs.
//!
//! What a turn of the loop reads are the requests and answers that have come meanwhile; the messages go on one after
//! the other, and what they ask of Redis and send by NATS is written behind them, once for all. So batches form by
//! themselves, nothing waits when there is little to do, and none of it wakes another thread. What takes long is
//! computed elsewhere (`cpu`, the model's threads), and whoever waits for it waits here.

use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Runs until it is dropped.
pub struct EventLoop {
    handle: Handle,
    _running: DropGuard,
}

impl EventLoop {
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let running = stop.clone().drop_guard();
        thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(stop.cancelled()))?;
        Ok(Self { handle, _running: running })
    }

    /// For what is to run there.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
