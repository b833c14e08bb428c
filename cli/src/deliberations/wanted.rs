//! Which of what waits is to be listed.

use std::time::{Duration, SystemTime};

use agentbus::domain::{AgentId, DeliberationId, MessageType};
use clap::Args;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(super) struct Wanted {
    /// Only messages of this agent
    #[arg(long, value_name = "AGENT")]
    sender: Option<AgentId>,
    /// Only messages of this type
    #[arg(long, value_name = "TYPE", value_parser = message_type)]
    message_type: Option<MessageType>,
    /// Only what has waited for longer
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only what has a score of at least this, 0 to 1
    #[arg(long, value_name = "SCORE")]
    score_min: Option<f64>,
    /// The next page: only what comes after this one (24 digits)
    #[arg(long, value_name = "ID")]
    after: Option<DeliberationId>,
}

impl Wanted {
    /// As the bus is asked.
    pub(super) fn body(&self) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let before = |age| u64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(u64::MAX);
        let fields = [
            ("sender", self.sender.as_ref().map(|sender| sender.as_str().into())),
            ("message_type", self.message_type.map(|message_type| message_type.as_str().into())),
            ("parked_before", self.older_than.map(|age| before(age).into())),
            ("score_min", self.score_min.map(Value::from)),
            ("after", self.after.as_ref().map(|after| after.as_str().into())),
        ];
        let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(said.collect::<Map<String, Value>>()).to_string()
    }
}

fn message_type(word: &str) -> Result<MessageType, String> {
    let types = MessageType::WORDS.join(", ");
    MessageType::parse(word).ok_or_else(|| format!("expected one of {types}"))
}
