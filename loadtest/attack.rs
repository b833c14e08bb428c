//! Can somebody with a key, or without one, hurt the bus? Hostile tries by real clients and raw sockets against
//! a running bus; after each one honest agents look whether they are still served.
//!
//! - [`field`]: the bus, the honest agents, and what is looked at after each try. [`victim`]: one of them.
//! - [`raw`]: a socket that keeps no rules. [`ledger`]: what came of each try.
//! - [`headers`], [`subjects`], [`protocol`]: bytes. [`heavy`]: what is slow to read. [`texts`]: what hides.
//! - [`votes`], [`rights`], [`stores`]: what is not the attacker's. [`http`]: a node's health.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::{options::AttackOptions, rig::beside_this_program};
use field::Field;

mod field;
mod headers;
mod heavy;
mod http;
mod ledger;
mod protocol;
mod raw;
mod rights;
mod stores;
mod subjects;
mod texts;
mod victim;
mod votes;

const SHORT_MAX: Duration = Duration::from_secs(300);
const FULL_MAX: Duration = Duration::from_secs(900);

pub(crate) async fn run(options: &AttackOptions) -> anyhow::Result<()> {
    let agentbus = options.agentbus.clone().map_or_else(beside_this_program, Ok)?;
    let ends = Instant::now() + if options.full { FULL_MAX } else { SHORT_MAX };
    let mut field = Field::start(options.full, agentbus, ends).await?;
    let done = play(&mut field).await;
    field.tell();
    let ledger = field.stop().await;
    ledger.print();
    println!("attack: {} tried, {} succeeded", ledger.tried(), ledger.succeeded());
    done?;
    match (ledger.succeeded(), ledger.not_run()) {
        (0, 0) => Ok(()),
        (0, not_run) => bail!("{not_run} tries could not be carried out"),
        (succeeded, _) => bail!("{succeeded} attacks succeeded"),
    }
}

async fn play(field: &mut Field) -> anyhow::Result<()> {
    macro_rules! kind {
        ($name:ident) => {
            let began = Instant::now();
            field.ledger.begin(stringify!($name));
            let played = $name::play(field).await;
            field.ledger.end(began.elapsed());
            played?;
        };
    }
    kind!(headers);
    kind!(subjects);
    kind!(protocol);
    kind!(heavy);
    kind!(texts);
    kind!(votes);
    kind!(rights);
    kind!(stores);
    kind!(http);
    Ok(())
}
