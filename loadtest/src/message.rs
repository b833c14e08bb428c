//! What is sent? One message of an exact size, again and again under a new message id.

use std::sync::atomic::{AtomicU64, Ordering};

use agentbus::{client::Draft, domain::Encoding};
use anyhow::{Context as _, ensure};
use bytes::Bytes;

/// Of a message id: `<run>-<number>`, both hexadecimal, the run random for each template.
const ID_BYTES: usize = 8 + 1 + 12;

/// Plain words, none of them one that the impact formula looks for.
const TEXT: &str = "The weekly summary is ready: forty rows were read, grouped by region and sorted by \
    date. Two rows had no region and were put under other. Please look at the table and tell me \
    whether the order suits you, then I go on with the next month. ";

/// A message with a hole for its id. Filling it costs the client a copy and no encoding, so that
/// the client's own work stays small on both sides of a comparison.
pub(crate) struct Template {
    bytes: Vec<u8>,
    id_at: usize,
    run: u32,
    next: AtomicU64,
}

impl Template {
    /// A MessagePack message of exactly `size` bytes to an agent.
    pub(crate) fn new(recipient: &str, size: usize) -> anyhow::Result<Self> {
        let run: u32 = rand::random();
        let id = message_id(run, 0);
        let mut text_bytes = size;
        // The length's own encoding takes one to three bytes: a second look corrects for it.
        for _ in 0..4 {
            let text: String = TEXT.chars().cycle().take(text_bytes).collect();
            let draft = Draft { message_id: id.clone(), ..Draft::to_agent(recipient, &text) };
            let bytes = draft.encode(Encoding::MessagePack).to_vec();
            if bytes.len() == size {
                let id_at = find(&bytes, id.as_bytes()).context("the id is not in the message")?;
                return Ok(Self { bytes, id_at, run, next: AtomicU64::new(0) });
            }
            let excess = bytes.len().checked_sub(size);
            text_bytes = match excess {
                Some(excess) => text_bytes.checked_sub(excess).context("payload: too small for a message")?,
                None => text_bytes + (size - bytes.len()),
            };
        }
        anyhow::bail!("no message has exactly {size} bytes; try one more or less")
    }

    /// The next message, under an id that was not used before.
    pub(crate) fn next(&self) -> Bytes {
        self.next_with_id().1
    }

    pub(crate) fn next_with_id(&self) -> (String, Bytes) {
        let id = message_id(self.run, self.next.fetch_add(1, Ordering::Relaxed));
        let mut bytes = self.bytes.clone();
        if let Some(hole) = bytes.get_mut(self.id_at..self.id_at + ID_BYTES) {
            hole.copy_from_slice(id.as_bytes());
        }
        (id, bytes.into())
    }

    /// Messages made so far.
    pub(crate) fn made(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

fn message_id(run: u32, number: u64) -> String {
    // 48 bits of numbers: nine hundred years at ten thousand a second.
    format!("{run:08x}-{:012x}", number & 0xffff_ffff_ffff)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Whether an answer says what it should, for either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Echo,
    Delivered,
}

impl Expected {
    /// The reason word when it does not.
    pub(crate) fn check(self, answer: &async_nats::Message) -> Result<(), String> {
        match self {
            Expected::Echo if answer.payload.as_ref() == crate::echo::ANSWER => Ok(()),
            Expected::Echo => Err("not an echo".to_owned()),
            Expected::Delivered => {
                let status = answer.headers.as_ref().and_then(|headers| headers.get("Agentbus-Verdict"));
                if status.is_some_and(|status| status.as_str() == "delivered") {
                    return Ok(());
                }
                match agentbus::wire::decode_verdict(&answer.payload) {
                    Ok(verdict) => Err(format!("{}: {}", verdict.reason.as_str(), verdict.detail)),
                    Err(_) => Err("not a verdict".to_owned()),
                }
            }
        }
    }
}

/// Exactly the samples' size, so that figures of different runs are about the same message.
pub(crate) fn sample(size: usize) -> anyhow::Result<Bytes> {
    let sample = Template::new("worker", size)?.next();
    ensure!(sample.len() == size, "a sample of {} bytes instead of {size}", sample.len());
    Ok(sample)
}
