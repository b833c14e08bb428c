//! Where are logged decisions read: on the bus, or in a file of JSON lines?

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read, Write as _},
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use agentbus::{domain::TenantId, nats::DecisionStream, text_file};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Args;

use crate::{
    input,
    operator::Operator,
    output::{Reader, offer},
};

/// Of one line: no event is so long.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Without a word about it.
const SINCE: Duration = Duration::from_secs(24 * 60 * 60);
/// Printed in one go.
const PRINTED_BYTES: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct OnTheBus {
    #[command(flatten)]
    operator: Operator,
    /// How far back, such as 1h or 30days [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Only of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(flatten)]
    from: OnTheBus,
}

impl OnTheBus {
    /// Each event, the oldest first, until `take` has enough.
    pub(super) async fn each(
        &self,
        mut take: impl FnMut(Bytes) -> anyhow::Result<Reader>,
    ) -> anyhow::Result<()> {
        let stream = DecisionStream::new(self.operator.connect().await?);
        let since =
            SystemTime::now().checked_sub(self.since.unwrap_or(SINCE)).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut events = stream.since(since, self.tenant.as_ref()).await?;
        while let Some(event) = events.next().await? {
            if take(event)? == Reader::Gone {
                break;
            }
        }
        Ok(())
    }
}

pub(super) async fn log(args: LogArgs) -> anyhow::Result<ExitCode> {
    let mut lines = Vec::with_capacity(PRINTED_BYTES);
    args.from
        .each(|event| {
            lines.write_all(&event)?;
            lines.push(b'\n');
            if lines.len() < PRINTED_BYTES {
                return Ok(Reader::There);
            }
            Ok(offer(&std::mem::take(&mut lines))?)
        })
        .await?;
    offer(&lines)?;
    Ok(ExitCode::SUCCESS)
}

/// Each line of a file; `-` is standard input.
pub(super) fn lines(
    path: &Path,
    mut take: impl FnMut(Bytes) -> anyhow::Result<Reader>,
) -> anyhow::Result<()> {
    let named = || path.display().to_string();
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(input::stdin("events of a decision log"))
    } else {
        Box::new(text_file::over_mark(File::open(path).with_context(named)?).with_context(named)?)
    };
    let mut input = BufReader::new(input);
    for number in 1_u64.. {
        let mut line = Vec::new();
        let bytes = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).with_context(named)?;
        ensure!((bytes as u64) < LINE_BYTES_MAX, "line {number} has more than {LINE_BYTES_MAX} bytes");
        if bytes == 0 || (!line.trim_ascii().is_empty() && take(line.into())? == Reader::Gone) {
            break;
        }
    }
    Ok(())
}
