//! Can somebody with a key, or without one, hurt the bus? Hostile tries by real clients and raw sockets against
//! a running bus; after each one honest agents look whether they are still served.
//!
//! - [`kinds`]: their names and order. [`field`]: the bus. [`watch`]: what is looked at after each try; [`victim`]: the honest agents of a tenant.
//! - [`raw`]: a socket that keeps no rules; [`calls`], [`cli`], [`redis`]: other ways in. [`ledger`]: what came of each try.
//! - [`headers`], [`subjects`], [`protocol`], [`bodies`]: bytes. [`heavy`]: what is slow to read.
//! - [`texts`], [`guises`]: what hides. [`terminal`]: what deceives a reviewer.
//! - [`votes`], [`rights`], [`claims`], [`lanes`], [`repeats`], [`stores`], [`forged`], [`garbage`]:
//!   what is not the attacker's.
//! - [`http`]: a node's health. [`shares`]: what one tenant takes from another, and [`apart`]: as if from a machine of its own.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::options::AttackOptions;
use field::Field;
use ledger::Outcome;

mod apart;
mod bodies;
mod calls;
mod claims;
mod cli;
pub(crate) mod field;
mod forged;
mod garbage;
mod guises;
mod headers;
mod health;
mod heavy;
mod http;
pub(crate) mod kinds;
mod lanes;
mod ledger;
mod protocol;
pub(crate) mod raw;
mod redis;
mod repeats;
mod rights;
mod shares;
mod stores;
mod subjects;
mod terminal;
mod texts;
mod victim;
mod votes;
mod watch;

/// The attacker's own tenant.
const ATTACKED_FROM: &str = "globex";
const NODES: usize = 2;
/// Far beyond what a slow machine needs: only a bus that is hurt again and again takes so long.
const LASTS_MAX: Duration = Duration::from_secs(3600);

pub(crate) async fn run(options: &AttackOptions) -> anyhow::Result<()> {
    let agentbus = options.program.path()?;
    let mut field = Field::start(options.full, agentbus, "", Instant::now() + LASTS_MAX).await?;
    play(&mut field, &options.only).await;
    field.tell();
    let ledger = field.stop().await;
    ledger.print();
    println!("attack: {} tried, {} succeeded", ledger.tried(), ledger.succeeded());
    match (ledger.succeeded(), ledger.not_run()) {
        (0, 0) => Ok(()),
        (0, not_run) => bail!("{not_run} tries could not be carried out"),
        (succeeded, _) => bail!("{succeeded} attacks succeeded"),
    }
}

macro_rules! play {
    ($($kind:ident)*) => {
        pub(crate) async fn play(field: &mut Field, only: &[String]) {
            $(if only.is_empty() || only.iter().any(|kind| kind == stringify!($kind)) {
                let began = Instant::now();
                field.ledger.begin(stringify!($kind));
                if let Err(error) = $kind::play(field).await {
                    let why = Outcome::NotRun(format!("{error:#}"));
                    field.ledger.note("the rest of this kind", &why);
                }
                field.ledger.end(began.elapsed());
            })*
        }
    };
}
kinds::kinds!(play);
