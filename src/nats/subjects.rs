//! Subjects: built from checked identifiers, and read back into them.

use crate::{
    domain::{AgentId, DeliberationId, Event, IdError, TenantId, Verb, id::shown},
    lanes::{AnswerTo, OutcomeStage},
    state::MessageKey,
    tenants::names::THRESHOLDS_BUCKET,
};

/// Reads who is asking from the subject, which NATS has stamped.
///
/// The server accepts publishes to subjects with NUL, invalid UTF-8 and `..`, so the tokens are
/// checked here as well.
pub(crate) fn asker(subject: &str) -> Result<(TenantId, AgentId), IdError> {
    let mut tokens = subject.split('.');
    match (tokens.next(), tokens.next(), tokens.next(), tokens.next(), tokens.next(), tokens.next()) {
        (Some("tenant"), Some(tenant), Some("bus"), Some(agent), Some(_), None) => {
            Ok((tenant.parse()?, agent.parse()?))
        }
        _ => Err(IdError {
            what: "subject",
            expected: "tenant.<tenant>.bus.<agent>.<verb>",
            found: shown(subject),
        }),
    }
}

/// Reads what is asked for. `None`: no verb of the bus.
pub(crate) fn verb(subject: &str) -> Option<Verb> {
    Verb::parse(subject.rsplit('.').next()?)
}

/// Reads who answers, and which question, from the subject that NATS has stamped.
pub(crate) fn answer(subject: &str) -> Result<(TenantId, AgentId, &str), IdError> {
    let mut tokens = subject.split('.');
    let mut next = || tokens.next();
    match ([next(), next(), next(), next(), next()], next(), next(), next()) {
        (
            [Some("tenant"), Some(tenant), Some("bus"), Some(agent), Some("answer")],
            Some(_),
            Some(token),
            None,
        ) => Ok((tenant.parse()?, agent.parse()?, token)),
        _ => Err(IdError {
            what: "subject",
            expected: "tenant.<tenant>.bus.<agent>.answer.<node>.<token>",
            found: shown(subject),
        }),
    }
}

/// The reply subject of a question, as the tenant's account sees it: only its recipient may publish there.
pub(crate) fn reply_of(recipient: &AgentId, to: &AnswerTo) -> String {
    format!("bus.{recipient}.answer.{}.{}", to.node, to.token)
}

pub(crate) fn inbox(tenant: &TenantId, agent: &AgentId) -> String {
    format!("tenant.{tenant}.agent.{agent}.inbox")
}

/// Where a message waits to be governed.
pub(crate) fn submitted(key: &MessageKey) -> String {
    format!("tenant.{}.submitted.{}.{}", key.tenant, key.sender, key.message)
}

/// All that one sender has waiting.
pub(crate) fn submitted_by(tenant: &TenantId, sender: &AgentId) -> String {
    format!("tenant.{tenant}.submitted.{sender}.*")
}

/// Reads whose message waits there.
pub(crate) fn kept(subject: &str) -> Result<MessageKey, IdError> {
    let mut tokens = subject.split('.');
    match (tokens.next(), tokens.next(), tokens.next(), tokens.next(), tokens.next(), tokens.next()) {
        (Some("tenant"), Some(tenant), Some("submitted"), Some(sender), Some(message), None) => {
            Ok(MessageKey { tenant: tenant.parse()?, sender: sender.parse()?, message: message.parse()? })
        }
        _ => Err(IdError {
            what: "subject",
            expected: "tenant.<tenant>.submitted.<sender>.<message id>",
            found: shown(subject),
        }),
    }
}

/// A message in a durable inbox.
pub(crate) fn stored_message(key: &MessageKey, to: &AgentId) -> String {
    format!("tenant.{}.stored.{to}.message.{}.{}", key.tenant, key.sender, key.message)
}

/// A verdict in a durable inbox.
pub(crate) fn stored_outcome(key: &MessageKey, to: &AgentId, stage: OutcomeStage) -> String {
    let which = match stage {
        OutcomeStage::Governed | OutcomeStage::Delivered => String::new(),
        // No message id contains a `~`.
        OutcomeStage::Judged => "~judged".to_owned(),
        OutcomeStage::Repeated(number) => format!("~repeated{number:016x}"),
        OutcomeStage::Redriven(times) => format!("~redriven{times}"),
    };
    let MessageKey { tenant, sender, message } = key;
    format!("tenant.{tenant}.stored.{to}.outcome.{sender}.{message}{which}")
}

/// That a message was put into this durable inbox, where its content has gone. It is in nobody's: no agent's id has
/// a `~`.
pub(crate) fn receipt(key: &MessageKey, to: &AgentId) -> String {
    format!("tenant.{}.stored.~.~{to}.{}.{}", key.tenant, key.sender, key.message)
}

/// Those of a message, for all whom it was delivered to.
pub(crate) fn all_receipts(key: &MessageKey) -> String {
    format!("tenant.{}.stored.~.*.{}.{}", key.tenant, key.sender, key.message)
}

/// What a sender has been told of its own messages.
pub(crate) fn told_to_sender(tenant: &TenantId, sender: &AgentId) -> String {
    format!("tenant.{tenant}.stored.{sender}.outcome.{sender}.*")
}

/// What is left of a sender's messages whose content has gone.
pub(crate) fn receipts_of(tenant: &TenantId, sender: &AgentId) -> String {
    format!("tenant.{tenant}.stored.~.*.{sender}.*")
}

/// What has a place in a sender's name in whosever durable inbox.
pub(crate) fn stored_by(tenant: &TenantId, sender: &AgentId) -> String {
    format!("tenant.{tenant}.stored.*.message.{sender}.*")
}

/// The messages in one durable inbox.
pub(crate) fn stored_for(tenant: &TenantId, to: &AgentId) -> String {
    format!("tenant.{tenant}.stored.{to}.message.*.*")
}

/// Which message is in whose durable inbox.
pub(crate) fn in_inbox(subject: &str) -> Result<(MessageKey, AgentId), IdError> {
    let mut tokens = subject.split('.');
    let mut next = || tokens.next();
    match ([next(), next(), next()], next(), next(), [next(), next()], next()) {
        (
            [Some("tenant"), Some(tenant), Some("stored")],
            Some(to),
            Some("message"),
            [Some(sender), Some(message)],
            None,
        ) => {
            let (tenant, sender, message) = (tenant.parse()?, sender.parse()?, message.parse()?);
            Ok((MessageKey { tenant, sender, message }, to.parse()?))
        }
        _ => Err(IdError {
            what: "subject",
            expected: "tenant.<tenant>.stored.<agent>.message.<sender>.<message id>",
            found: shown(subject),
        }),
    }
}

/// Whatever is stored of a message: its deliveries, what is left of those whose content has gone, and its verdict.
pub(crate) fn all_stored(key: &MessageKey) -> String {
    format!("tenant.{}.stored.*.*.{}.{}", key.tenant, key.sender, key.message)
}

/// A message in whosever durable inbox.
pub(crate) fn all_deliveries(key: &MessageKey) -> String {
    format!("tenant.{}.stored.*.message.{}.{}", key.tenant, key.sender, key.message)
}

/// The verdict that governing came to.
pub(crate) fn verdict(key: &MessageKey) -> String {
    stored_outcome(key, &key.sender, OutcomeStage::Governed)
}

/// Where what was given up is kept. Its tokens were ids, or are [`UNREADABLE`].
pub(crate) fn dead(tenant: &str, sender: &str, message: &str) -> String {
    format!("dead.{tenant}.{sender}.{message}")
}

/// What a tenant's nodes have given up of one sender.
pub(crate) fn dead_of(tenant: &TenantId, sender: &AgentId) -> String {
    format!("dead.{tenant}.{sender}.*")
}

/// All that a tenant's nodes have given up.
pub(crate) fn all_dead(tenant: &TenantId) -> String {
    format!("dead.{tenant}.*.*")
}

/// Stands in a subject where no id could be read; no id contains it.
pub(crate) const UNREADABLE: &str = "~";

/// A logged decision about a message of theirs.
pub(crate) fn decision(tenant: &TenantId, sender: &AgentId, decision_id: &str) -> String {
    format!("decision.{tenant}.{sender}.{decision_id}")
}

/// Those of one decision, whoever's it is.
pub(crate) fn decision_by(decision_id: &str) -> String {
    format!("decision.*.*.{decision_id}")
}

/// What those of one tenant begin with.
pub(crate) fn decisions_of(tenant: &TenantId) -> String {
    format!("decision.{tenant}.")
}

/// What the records of one tenant begin with.
pub(crate) fn records_of(tenant: &TenantId) -> String {
    format!("record.{tenant}.")
}

/// All records of one message.
pub(crate) fn records_about(key: &MessageKey) -> String {
    format!("record.{}.{}.{}.*", key.tenant, key.sender, key.message)
}

/// Whose delivery this is, or was.
pub(crate) fn delivered_to(subject: &str) -> Option<AgentId> {
    let mut tokens = subject.split('.').skip(3);
    match (tokens.next()?, tokens.next()?) {
        ("~", to) => to.strip_prefix('~')?.parse().ok(),
        (to, "message") => to.parse().ok(),
        _ => None,
    }
}

/// All events of one deliberation.
pub(crate) fn deliberation(tenant: &TenantId, id: &DeliberationId) -> String {
    format!("deliberation.{tenant}.{id}.>")
}

pub(crate) fn deliberation_event(tenant: &TenantId, id: &DeliberationId, event: &Event) -> String {
    format!("deliberation.{tenant}.{id}.{}", event.kind())
}

/// The first event of a deliberation.
pub(crate) fn parked(tenant: &TenantId, id: &DeliberationId) -> String {
    format!("deliberation.{tenant}.{id}.parked")
}

/// The events of one kind of all of a tenant's deliberations.
pub(crate) fn deliberations_with(tenant: &TenantId, kind: &str) -> String {
    format!("deliberation.{tenant}.*.{kind}")
}

/// Whether an event says that its deliberation is decided.
pub(crate) fn is_decided(subject: &str) -> bool {
    subject.ends_with(".decided")
}

/// Whose deliberation an event belongs to.
pub(crate) fn deliberation_of(subject: &str) -> Result<(TenantId, DeliberationId), IdError> {
    let mut tokens = subject.split('.');
    match (tokens.next(), tokens.next(), tokens.next(), tokens.next(), tokens.next()) {
        (Some("deliberation"), Some(tenant), Some(id), Some(_), None) => Ok((tenant.parse()?, id.parse()?)),
        _ => Err(IdError {
            what: "subject",
            expected: "deliberation.<tenant>.<id>.<event>",
            found: shown(subject),
        }),
    }
}

/// Under which key it is kept what a tenant's judgements have taught.
pub(crate) fn learned(tenant: &TenantId) -> String {
    format!("$KV.{THRESHOLDS_BUCKET}.{tenant}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::borrow::Cow;

    use super::*;
    use crate::{
        audit::{self, Place},
        domain::{DecisionId, Timestamp},
    };

    #[test]
    fn subjects_are_those_that_other_versions_know() {
        let (tenant, worker) = ("acme".parse().unwrap(), "worker".parse().unwrap());
        let key = MessageKey { tenant, sender: "planner".parse().unwrap(), message: "m-1".parse().unwrap() };
        let id = "0123456789abcdef01234567".parse().unwrap();
        let record = |place| {
            let (deliberation, reason) = (Cow::Borrowed(&id), Cow::Borrowed(""));
            let body = audit::Body::Threshold(audit::Threshold { deliberation, from: 0.8, to: 0.7, reason });
            audit::Record::new(Timestamp(1), &key.tenant, "node-1", body).entry(place).subject().to_owned()
        };
        let message = |message, claimed| record(Place::Message { sender: &key.sender, message, claimed });
        let to = AnswerTo { node: "n0de".into(), token: "t0ken".into() };
        let lines = [
            inbox(&key.tenant, &worker),
            reply_of(&worker, &to),
            audit::intent_subject(&key),
            message(Some(&key.message), false),
            message(Some(&key.message), true),
            message(None, false),
            record(Place::Threshold(&id)),
            record(Place::Registration(&worker)),
            record(Place::DeadLetter { sender: Some(&key.sender), message: Some(&key.message) }),
            submitted(&key),
            stored_message(&key, &worker),
            verdict(&key),
            stored_outcome(&key, &worker, OutcomeStage::Judged),
            stored_outcome(&key, &worker, OutcomeStage::Repeated(31)),
            stored_outcome(&key, &worker, OutcomeStage::Redriven(2)),
            dead("acme", "planner", UNREADABLE),
            parked(&key.tenant, &id),
            deliberation_event(&key.tenant, &id, &Event::Escalated { at: Timestamp(1) }),
        ];
        crate::golden::same("subjects.txt", lines.join("\n").as_bytes());
        let decision_id = DecisionId::new(0x5f3a, 7, 12);
        let batch = audit::batch_subject(Some(&key.tenant), &decision_id);
        crate::golden::same("subjects-batch.txt", batch.as_bytes());
        let decision = decision(&key.tenant, &key.sender, "kwgBtD6dd5f4LfCUqfSfEk");
        assert!(decision.starts_with(&decisions_of(&key.tenant)));
        crate::golden::same("subjects-decision.txt", decision.as_bytes());
        crate::golden::same("subjects-receipt.txt", receipt(&key, &worker).as_bytes());
    }

    #[test]
    fn whose_a_delivery_was_is_read_of_it_and_of_what_is_left_of_it_and_of_nothing_else() {
        let (tenant, to) = ("acme".parse().unwrap(), "worker".parse::<AgentId>().unwrap());
        let key = MessageKey { tenant, sender: "planner".parse().unwrap(), message: "m-1".parse().unwrap() };
        let (message, receipt) = (stored_message(&key, &to), receipt(&key, &to));
        assert_eq!(delivered_to(&message), Some(to.clone()));
        assert_eq!(delivered_to(&receipt), Some(to.clone()));
        assert_eq!(delivered_to(&verdict(&key)), None);
        assert_eq!(in_inbox(&message), Ok((key.clone(), to)));
        for other in [receipt, verdict(&key), submitted(&key), format!("{message}.more"), String::new()] {
            assert!(in_inbox(&other).is_err(), "{other:?} was accepted");
        }
    }

    #[test]
    fn what_waits_is_read_only_from_well_formed_subjects() {
        assert!(
            kept("tenant.acme.submitted.planner.m-1")
                .is_ok_and(|key| { submitted(&key) == "tenant.acme.submitted.planner.m-1" })
        );
        for bad in [
            "tenant.acme.submitted.planner",
            "tenant.acme.submitted.planner.m-1.more",
            "tenant.acme.submitted.plan ner.m-1",
            "tenant.acme.submitted.planner.m~1",
            "tenant.acme.stored.planner.m-1",
            "tenant.acme.submitted..m-1",
        ] {
            assert!(kept(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn who_answers_is_read_only_from_well_formed_subjects() {
        let read = answer("tenant.acme.bus.worker.answer.n0de.t0ken").ok();
        assert!(read.is_some_and(|(_, agent, token)| agent.as_str() == "worker" && token == "t0ken"));
        for bad in [
            "tenant.acme.bus.worker.answer",
            "tenant.acme.bus.worker.answer.n0de",
            "tenant.acme.bus.worker.answer.n0de.t0ken.more",
            "tenant.acme.bus.worker.send.n0de.t0ken",
            "tenant.acme.bus.a b.answer.n0de.t0ken",
            "tenant.acme.agent.worker.answer.n0de.t0ken",
            "bus.worker.answer.n0de.t0ken",
        ] {
            assert!(answer(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_asker_is_read_only_from_well_formed_subjects() {
        assert!(asker("tenant.acme.bus.planner.send").is_ok());
        for bad in [
            "tenant.acme.bus..send",
            "tenant.acme.bus.a b.send",
            "tenant.acme.bus.a\0.send",
            "tenant.acme.bus.planner.send.more",
            "tenant.acme.agent.planner.send",
            "tenant.*.bus.planner.send",
            "",
        ] {
            assert!(asker(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
