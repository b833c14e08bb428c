//! How long is a bare round trip to the servers? What a message that needs both cannot be faster than.

use std::time::{Duration, Instant};

use agentbus::{
    servers::Stack,
    tenants::{BusUser, Seed},
};
use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::attack::raw::Raw;

const TRIPS: usize = 2000;
const TRIP_WAIT: Duration = Duration::from_secs(2);
/// The longest word that either server answers with.
const ANSWER_MAX: usize = 1024;

/// Medians, one after the other, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trips {
    pub(crate) nats_us: f64,
    /// 0 without Redis.
    pub(crate) redis_us: f64,
}

/// A PING to each on a connection of its own. Redis answers it without a login, by refusing it: as long a way.
pub(crate) async fn measure(stack: &Stack) -> anyhow::Result<Trips> {
    // The server hears nobody who has not logged in.
    let seed = Seed::read(&stack.seed_path(&BusUser::Node.into()))?;
    let mut nats = Raw::login(stack.nats().port(), &seed).await?.into_stream();
    let redis_us = match stack.redis() {
        None => 0.0,
        Some(redis) => {
            let mut redis = TcpStream::connect(("127.0.0.1", redis.port())).await?;
            median(&mut redis, b"PING\r\n").await?
        }
    };
    Ok(Trips { nats_us: median(&mut nats, b"PING\r\n").await?, redis_us })
}

async fn median(server: &mut TcpStream, ping: &[u8]) -> anyhow::Result<f64> {
    server.set_nodelay(true)?;
    let mut seen = Histogram::<u64>::new(3)?;
    for _ in 0..TRIPS {
        let sent = Instant::now();
        server.write_all(ping).await?;
        word(server).await?;
        seen.saturating_record(u64::try_from(sent.elapsed().as_nanos())?);
    }
    Ok(seen.value_at_quantile(0.5) as f64 / 1e3)
}

/// Until the end of a line.
async fn word(server: &mut TcpStream) -> anyhow::Result<()> {
    let mut answer = [0; ANSWER_MAX];
    loop {
        let read =
            timeout(TRIP_WAIT, server.read(&mut answer)).await.context("a server does not answer")??;
        ensure!(read > 0, "a server has closed the connection");
        if answer.get(read - 1) == Some(&b'\n') {
            return Ok(());
        }
    }
}
