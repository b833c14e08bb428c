//! What is sent? Messages made beforehand, with holes for an id, so that filling one costs the client a
//! copy and no encoding.

use std::sync::atomic::{AtomicU64, Ordering};

use agentbus::{
    client::Draft,
    domain::{Encoding, MessageType},
};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    corpus::{Corpora, Recorded},
    profile::{CAPABILITY, Entry, ROLE, Recipient, Way},
};

/// Of a message id: `<run>-<number>`, both hexadecimal, the run random for each client process.
const ID_BYTES: usize = 8 + 1 + 12;
/// Messages that a process prepares for one tenant's entry.
const TEMPLATES_MAX: usize = 65_536;

/// Plain words, none of them one that the impact formula looks for.
const TEXT: &str = "The weekly summary is ready: forty rows were read, grouped by region and sorted by \
    date. Two rows had no region and were put under other. Please look at the table and tell me \
    whether the order suits you, then I go on with the next month. ";

/// One message, again and again under new ids.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    holes: Vec<usize>,
}

/// All that an entry of a mix sends for one tenant, in turn.
#[derive(Debug)]
pub(crate) struct Templates {
    templates: Vec<Template>,
    next: AtomicU64,
}

/// Numbers for message ids, none of them twice.
#[derive(Debug)]
pub(crate) struct Ids {
    run: u32,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self { run: rand::random(), next: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> String {
        self.id(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn id(&self, number: u64) -> String {
        // 48 bits of numbers: nine hundred years at ten thousand a second.
        format!("{:08x}-{:012x}", self.run, number & 0xffff_ffff_ffff)
    }
}

impl Templates {
    pub(crate) fn new(entry: &Entry, recipients: &[String], corpora: &Corpora) -> anyhow::Result<Self> {
        let to: Vec<Value> = match entry.to {
            Recipient::Agent => recipients.iter().map(|agent| json!({ "agent": agent })).collect(),
            Recipient::Capability => vec![json!({ "capability": CAPABILITY })],
            Recipient::Broadcast => vec![json!({ "broadcast": { "role": ROLE } })],
        };
        let contents = match &entry.corpus {
            None => entry.bytes.iter().map(|&bytes| Content::Bytes(bytes as usize)).collect(),
            Some(name) => {
                let recorded = corpora.get(name).with_context(|| format!("no corpus {name}"))?;
                recorded.iter().map(Content::Recorded).collect::<Vec<_>>()
            }
        };
        let found = to.len().saturating_mul(contents.len());
        ensure!(
            (1..=TEMPLATES_MAX).contains(&found),
            "{}: found {found} different messages, expected at most {TEMPLATES_MAX}",
            entry.label()
        );
        // Recipients change fastest.
        let pairs = contents.iter().flat_map(|content| to.iter().map(move |to| (content, to)));
        let templates = pairs.map(|(content, to)| content.template(entry, to)).collect::<Result<_, _>>()?;
        Ok(Self { templates, next: AtomicU64::new(0) })
    }

    /// The next message, under this id.
    pub(crate) fn next(&self, id: &str) -> Bytes {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(turn).unwrap_or_default() % self.templates.len().max(1);
        self.templates.get(at).map(|template| template.fill(id)).unwrap_or_default()
    }
}

impl Template {
    fn new(bytes: Vec<u8>, id: &str) -> anyhow::Result<Self> {
        let windows = bytes.windows(id.len()).enumerate();
        let holes: Vec<usize> =
            windows.filter(|(_, window)| *window == id.as_bytes()).map(|(at, _)| at).collect();
        ensure!(!holes.is_empty(), "the id is not in the message");
        Ok(Self { bytes, holes })
    }

    fn fill(&self, id: &str) -> Bytes {
        let mut bytes = self.bytes.clone();
        for &hole in &self.holes {
            if let Some(hole) = bytes.get_mut(hole..hole + ID_BYTES) {
                hole.copy_from_slice(id.as_bytes());
            }
        }
        bytes.into()
    }
}

enum Content<'a> {
    /// Of the whole message.
    Bytes(usize),
    Recorded(&'a Recorded),
}

impl Content<'_> {
    fn template(&self, entry: &Entry, to: &Value) -> anyhow::Result<Template> {
        let id = Ids::new().id(0);
        match self {
            Content::Recorded(recorded) => {
                Template::new(draft(entry, to, recorded, &id).encode(Encoding::MessagePack).to_vec(), &id)
            }
            Content::Bytes(size) => sized(entry, to, *size, &id),
        }
    }
}

/// A message of exactly so many bytes.
fn sized(entry: &Entry, to: &Value, size: usize, id: &str) -> anyhow::Result<Template> {
    let mut text_bytes = size;
    // The length's own encoding takes one to five bytes: another look corrects for it.
    for _ in 0..4 {
        let start = if entry.distinct { format!("{id} ") } else { String::new() };
        let text: String = start.chars().chain(TEXT.chars().cycle()).take(text_bytes).collect();
        let recorded = Recorded {
            content: Map::from_iter([("text".to_owned(), text.into())]),
            message_type: None,
            priority: None,
        };
        let bytes = draft(entry, to, &recorded, id).encode(Encoding::MessagePack).to_vec();
        text_bytes = match bytes.len().checked_sub(size) {
            Some(0) => return Template::new(bytes, id),
            Some(excess) => text_bytes.checked_sub(excess).context("bytes: too few for a message")?,
            None => text_bytes + (size - bytes.len()),
        };
    }
    anyhow::bail!("no message has exactly {size} bytes; try one more or less")
}

fn draft(entry: &Entry, to: &Value, recorded: &Recorded, id: &str) -> Draft {
    let new = Draft::new(to.clone(), recorded.content.clone().into());
    let usual = if entry.verb == Way::Ask { MessageType::Query } else { new.message_type };
    Draft {
        message_id: id.to_owned(),
        message_type: entry.message_type.or(recorded.message_type).unwrap_or(usual),
        priority: entry.priority.or(recorded.priority).unwrap_or(new.priority),
        ..new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn every_message_has_the_size_that_was_asked_for_and_an_id_of_its_own() {
        let recipients = ["r-1".to_owned(), "r-2".to_owned()];
        let entry = entry("bytes = [300, 512, 5000, 65536]\ndistinct = true");
        let templates = Templates::new(&entry, &recipients, &Corpora::new()).unwrap();
        let ids = Ids::new();
        let sent: Vec<(String, Bytes)> =
            (0..8).map(|_| ids.next()).map(|id| (id.clone(), templates.next(&id))).collect();
        let sizes: Vec<usize> = sent.iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(sizes, [300, 300, 512, 512, 5000, 5000, 65536, 65536]);
        for (id, bytes) in &sent {
            let message: Value = rmp_serde::from_slice(bytes).unwrap();
            assert_eq!(message["message_id"], json!(id));
            assert!(message["content"]["text"].as_str().unwrap().starts_with(id), "{message}");
        }
        assert_eq!(sent.iter().map(|(id, _)| id).collect::<std::collections::BTreeSet<_>>().len(), 8);
    }

    #[test]
    fn recorded_contents_are_sent_as_they_were() {
        let recorded = |n| Recorded {
            content: Map::from_iter([("n".to_owned(), json!(n))]),
            message_type: Some(MessageType::Command),
            priority: None,
        };
        let corpora = Corpora::from([("all.jsonl".to_owned(), vec![recorded(1), recorded(2)])]);
        let entry = entry("corpus = \"all.jsonl\"\nto = \"capability\"\npriority = \"high\"");
        let templates = Templates::new(&entry, &[], &corpora).unwrap();
        let ids = Ids::new();
        let second = (0..2).map(|_| templates.next(&ids.next())).last().unwrap();
        let message: Value = rmp_serde::from_slice(&second).unwrap();
        assert_eq!(message["content"], json!({ "n": 2 }));
        assert_eq!((&message["message_type"], &message["priority"]), (&json!("command"), &json!("high")));
        assert_eq!(message["to"], json!({ "capability": CAPABILITY }));
    }
}
