//! What the reviewers' requests and replies look like on the wire.
//!
//! Requests are as strict as messages. Replies are written only: reviewers read them, nodes never do.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    DecodeError, Limits, RegistryRequest, encode_message,
    error::Shown,
    fields::{body, id, millis, number, once, required, short_text, text, unknown, word},
    reader::{Read, Reader},
    registry,
    verdict::{millis_up, write_impact},
    writer::{Writer, int_field, text_field as field},
};
use crate::{
    domain::{
        AgentId, Choice, DeliberationId, Encoding, Impact, Judgement, Level, MessageId, MessageType,
        Recipient, RuleKind, Timestamp, Vote, Voter, Why,
    },
    rejection::Rejection,
    wire::Decoded,
};

/// What waits for me? With an id: that one, in full. All else says which are listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeliberationsRequest {
    pub id: Option<DeliberationId>,
    pub sender: Option<AgentId>,
    pub message_type: Option<MessageType>,
    pub parked_before: Option<Timestamp>,
    /// Those without a score have none that is as high.
    pub score_min: Option<f64>,
    /// Only those behind this one: the next page.
    pub after: Option<DeliberationId>,
}

/// A vote on what was parked under this id, with this content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteRequest {
    pub id: DeliberationId,
    pub choice: Choice,
    /// 64 hex digits.
    pub digest: String,
    pub comment: String,
}

impl VoteRequest {
    pub const COMMENT_BYTES_MAX: usize = 512;
}

/// A deliberation as one reader sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Docketed {
    pub id: DeliberationId,
    pub sender: AgentId,
    pub message_id: MessageId,
    pub message_type: MessageType,
    pub to: Recipient,
    pub why: Why,
    /// What the policy says of the message.
    pub notes: BTreeSet<String>,
    /// Absent without a score.
    pub score: Option<(f64, Level)>,
    pub rule: RuleKind,
    pub count: Count,
    pub escalated: bool,
    pub parked_at: Timestamp,
    pub escalate_at: Option<Timestamp>,
    pub deadline: Timestamp,
    pub digest: String,
    /// How the reader has voted.
    pub voted: Option<Choice>,
    /// Whether a vote of the reader would count now.
    pub may_vote: bool,
}

/// Where the votes stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub approvals: u32,
    pub rejections: u32,
    /// In words, what approves and what denies.
    pub approves: String,
    pub denies: String,
}

/// One deliberation in full.
#[derive(Debug, Clone, PartialEq)]
pub struct Docket {
    pub about: Docketed,
    pub message: Decoded,
    pub impact: Option<Impact>,
    pub voters: BTreeMap<AgentId, Voter>,
    pub stand_ins: BTreeMap<AgentId, Voter>,
    pub votes: Vec<Vote>,
    pub decision: Option<Decided>,
    pub conclusion: Option<Concluded>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub judgement: Judgement,
    pub at: Timestamp,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concluded {
    /// The verdict's reason.
    pub reason: String,
    pub at: Timestamp,
    pub detail: String,
}

/// The answer to either verb.
#[derive(Debug, Clone, PartialEq)]
pub enum ReviewReply {
    List {
        /// The oldest first, at most [`ReviewReply::LISTED_MAX`].
        listed: Vec<Docketed>,
        /// How many of what was asked for the reader could see, listed or not.
        total: usize,
    },
    Show(Box<Docket>),
    /// The vote counted.
    Voted {
        /// Absent: it goes on.
        judgement: Option<Judgement>,
        count: Count,
    },
    Refused(Rejection),
}

impl ReviewReply {
    pub const LISTED_MAX: usize = 100;
    /// Bytes of people and votes in one reply, so that with the message it fits NATS' `max_payload`.
    const PEOPLE_BYTES_MAX: usize = 8 * 1024;
    const VOTES_BYTES_MAX: usize = 24 * 1024;
}

/// Reads the request of `deliberations`. An empty body is an empty map.
pub fn decode_deliberations(
    bytes: &[u8],
    limits: &Limits,
) -> Result<RegistryRequest<DeliberationsRequest>, DecodeError> {
    registry::decode(bytes, limits, read_deliberations, read_deliberations)
}

/// Reads the request of `vote`.
pub fn decode_vote(bytes: &[u8], limits: &Limits) -> Result<RegistryRequest<VoteRequest>, DecodeError> {
    registry::decode_body(bytes, limits, read_vote, read_vote)
}

fn read_deliberations<'a>(r: &mut impl Reader<'a>) -> Read<DeliberationsRequest> {
    let mut asked = DeliberationsRequest::default();
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "id" => once(r, &mut fields, &mut asked.id, "id", |r, name| id(r, name))?,
            "sender" => once(r, &mut fields, &mut asked.sender, "sender", |r, name| id(r, name))?,
            "message_type" => once(r, &mut fields, &mut asked.message_type, "message_type", |r, name| {
                word(r, name, MessageType::WORDS, MessageType::parse)
            })?,
            "parked_before" => once(r, &mut fields, &mut asked.parked_before, "parked_before", millis)?,
            "score_min" => once(r, &mut fields, &mut asked.score_min, "score_min", number)?,
            "after" => once(r, &mut fields, &mut asked.after, "after", |r, name| id(r, name))?,
            other => return unknown("deliberations", other),
        }
    }
    r.finish()?;
    Ok(asked)
}

fn read_vote<'a>(r: &mut impl Reader<'a>) -> Read<VoteRequest> {
    let (mut of, mut choice, mut digest, mut comment) = (None, None, None, None);
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "id" => once(r, &mut fields, &mut of, "id", |r, name| id(r, name))?,
            "choice" => once(r, &mut fields, &mut choice, "choice", |r, name| {
                word(r, name, &["approve", "reject"], |word| match word {
                    "approve" => Some(Choice::Approve),
                    "reject" => Some(Choice::Reject),
                    _ => None,
                })
            })?,
            "digest" => once(r, &mut fields, &mut digest, "digest", |r, name| read_digest(r, name))?,
            "comment" => once(r, &mut fields, &mut comment, "comment", |r, name| {
                short_text(r, name, VoteRequest::COMMENT_BYTES_MAX).map(String::from)
            })?,
            other => return unknown("vote", other),
        }
    }
    r.finish()?;
    Ok(VoteRequest {
        id: required(of, "id")?,
        choice: required(choice, "choice")?,
        digest: required(digest, "digest")?,
        comment: comment.unwrap_or_default(),
    })
}

fn read_digest<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<String> {
    let digest = text(r, field)?;
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if digest.len() == 64 && digest.bytes().all(hex) {
        return Ok(digest.into_owned());
    }
    let expected = "64 lower-case hex digits, as in the list of deliberations";
    Err(DecodeError::BadIdentifier { field: field.into(), expected, found: Shown::new(&digest) })
}

/// Writes a reply. `code` and `retryable` follow from the reason.
pub fn encode_review_reply(reply: &ReviewReply, encoding: Encoding) -> Vec<u8> {
    let mut w = Writer::new(encoding, 1024);
    match reply {
        ReviewReply::List { listed, total } => {
            let listed = listed.get(..ReviewReply::LISTED_MAX).unwrap_or(listed);
            write_ok(&mut w, 2);
            count(&mut w, "total", *total);
            w.key("deliberations");
            w.list(listed.len());
            for docketed in listed {
                w.map(entries(docketed));
                write_docketed(&mut w, docketed);
                w.end_map();
            }
            w.end_list();
        }
        ReviewReply::Show(docket) => {
            write_ok(&mut w, 1);
            w.key("deliberation");
            write_docket(&mut w, docket, encoding);
        }
        ReviewReply::Voted { judgement, count } => {
            write_ok(&mut w, 1 + COUNT_ENTRIES);
            field(&mut w, "judgement", judgement.map_or("open", Judgement::as_str));
            write_count(&mut w, count);
        }
        ReviewReply::Refused(rejection) => {
            w.map(5 + usize::from(rejection.retry_after.is_some()));
            field(&mut w, "status", rejection.status().as_str());
            w.key("code");
            w.int(rejection.reason.code().into());
            field(&mut w, "reason", rejection.reason.as_str());
            field(&mut w, "detail", &rejection.detail);
            w.key("retryable");
            w.bool(rejection.reason.retryable());
            if let Some(retry_after) = rejection.retry_after {
                w.key("retry_after_ms");
                w.int(millis_up(retry_after));
            }
        }
    }
    w.end_map();
    w.into_bytes()
}

fn write_ok(w: &mut Writer, more: usize) {
    w.map(3 + more);
    field(w, "status", "ok");
    w.key("code");
    w.int(200);
    field(w, "reason", "ok");
}

/// Of [`write_docketed`].
fn entries(about: &Docketed) -> usize {
    const ALWAYS: usize = 12 + COUNT_ENTRIES;
    ALWAYS
        + usize::from(!about.notes.is_empty())
        + 2 * usize::from(about.score.is_some())
        + usize::from(about.escalate_at.is_some())
        + usize::from(about.voted.is_some())
}

fn write_docketed(w: &mut Writer, about: &Docketed) {
    field(w, "id", about.id.as_str());
    field(w, "sender", about.sender.as_str());
    field(w, "message_id", about.message_id.as_str());
    field(w, "message_type", about.message_type.as_str());
    field(w, "to", &in_words(&about.to));
    field(w, "why", &about.why.to_string());
    if !about.notes.is_empty() {
        w.key("notes");
        w.list(about.notes.len());
        about.notes.iter().for_each(|note| w.text(note));
        w.end_list();
    }
    if let Some((score, level)) = about.score {
        w.key("score");
        w.float(score);
        field(w, "level", level.as_str());
    }
    field(w, "rule", about.rule.as_str());
    write_count(w, &about.count);
    w.key("escalated");
    w.bool(about.escalated);
    time(w, "parked_at", about.parked_at);
    if let Some(escalate_at) = about.escalate_at {
        time(w, "escalate_at", escalate_at);
    }
    time(w, "deadline", about.deadline);
    field(w, "digest", &about.digest);
    if let Some(choice) = about.voted {
        field(w, "voted", choice.as_str());
    }
    w.key("may_vote");
    w.bool(about.may_vote);
}

fn write_docket(w: &mut Writer, docket: &Docket, encoding: Encoding) {
    let Docket { about, message, impact, voters, stand_ins, votes, decision, conclusion } = docket;
    w.map(
        entries(about)
            + 4
            + usize::from(impact.is_some())
            + usize::from(decision.is_some())
            + usize::from(conclusion.is_some()),
    );
    write_docketed(w, about);
    w.key("message");
    w.written(&encode_message(&message.message, &message.canonical, encoding));
    if let Some(impact) = impact {
        w.key("impact");
        write_impact(w, impact);
    }
    write_voters(w, "voters", voters);
    write_voters(w, "stand_ins", stand_ins);
    write_votes(w, votes);
    if let Some(decided) = decision {
        w.key("decision");
        w.map(3);
        field(w, "judgement", decided.judgement.as_str());
        time(w, "at", decided.at);
        field(w, "detail", &decided.detail);
        w.end_map();
    }
    if let Some(concluded) = conclusion {
        w.key("conclusion");
        w.map(3);
        field(w, "reason", &concluded.reason);
        field(w, "detail", &concluded.detail);
        time(w, "at", concluded.at);
        w.end_map();
    }
    w.end_map();
}

fn write_voters(w: &mut Writer, key: &'static str, voters: &BTreeMap<AgentId, Voter>) {
    // Field names, headers and quotes of one, in the wider encoding.
    const VOTER_BYTES: usize = 40;
    let bytes = |(id, voter): &(&AgentId, &Voter)| {
        let roles: usize = voter.roles.iter().map(|role| role.len() + 3).sum();
        VOTER_BYTES + id.as_str().len() + roles
    };
    let listed = fitting(voters.iter().map(|voter| bytes(&voter)), ReviewReply::PEOPLE_BYTES_MAX);
    w.key(key);
    w.list(listed);
    for (id, voter) in voters.iter().take(listed) {
        w.map(3);
        field(w, "id", id.as_str());
        w.key("roles");
        w.list(voter.roles.len());
        for role in &voter.roles {
            w.text(role);
        }
        w.end_list();
        w.key("weight");
        w.int(voter.weight.into());
        w.end_map();
    }
    w.end_list();
}

fn write_votes(w: &mut Writer, votes: &[Vote]) {
    const VOTE_BYTES: usize = 80;
    let bytes = |vote: &Vote| VOTE_BYTES + vote.voter.as_str().len() + quoted_bytes(&vote.comment);
    let listed = fitting(votes.iter().map(bytes), ReviewReply::VOTES_BYTES_MAX);
    w.key("votes");
    w.list(listed);
    for vote in votes.iter().take(listed) {
        w.map(3 + usize::from(!vote.comment.is_empty()));
        field(w, "voter", vote.voter.as_str());
        field(w, "choice", vote.choice.as_str());
        if !vote.comment.is_empty() {
            field(w, "comment", &vote.comment);
        }
        time(w, "at", vote.at);
        w.end_map();
    }
    w.end_list();
}

/// At most so many bytes are a text in JSON.
fn quoted_bytes(text: &str) -> usize {
    let bytes = |b: u8| match b {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}

/// How many, from the first, stay within so many bytes.
fn fitting(sizes: impl Iterator<Item = usize>, limit: usize) -> usize {
    let mut bytes = 0;
    sizes
        .take_while(|size| {
            bytes += size;
            bytes <= limit
        })
        .count()
}

const COUNT_ENTRIES: usize = 4;

fn write_count(w: &mut Writer, count: &Count) {
    w.key("approvals");
    w.int(count.approvals.into());
    w.key("rejections");
    w.int(count.rejections.into());
    field(w, "approves", &count.approves);
    field(w, "denies", &count.denies);
}

/// Whom a message is for, in a few words.
fn in_words(to: &Recipient) -> String {
    match to {
        Recipient::Agent(agent) => agent.to_string(),
        Recipient::Capability(capability) => format!("capability {capability}"),
        Recipient::Broadcast(filter) => match (&filter.capability, &filter.role) {
            (None, None) => "everybody".to_owned(),
            (Some(capability), None) => format!("everybody with capability {capability}"),
            (None, Some(role)) => format!("everybody with role {role}"),
            (Some(capability), Some(role)) => {
                format!("everybody with capability {capability} and role {role}")
            }
        },
    }
}

fn time(w: &mut Writer, key: &'static str, at: Timestamp) {
    int_field(w, key, at.0);
}

fn count(w: &mut Writer, key: &'static str, count: usize) {
    w.key(key);
    w.int(i128::try_from(count).unwrap_or(i128::MAX));
}
