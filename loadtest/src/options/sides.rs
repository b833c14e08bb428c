//! What are the processes told that stand beside the bus?

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct EchoOptions {
    #[arg(long)]
    pub(crate) nats: String,
    /// Seed of the BUS user `node`
    #[arg(long)]
    pub(crate) nkey_file: PathBuf,
    /// Whose inbox gets every payload
    #[arg(long)]
    pub(crate) recipient: String,
}

#[derive(Debug, Args)]
pub(crate) struct BareOptions {
    #[command(flatten)]
    pub(crate) of: EchoOptions,
    #[arg(long)]
    pub(crate) tenant: String,
}
