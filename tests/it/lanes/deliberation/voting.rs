//! Whose vote counts, what does everybody see, and when is it over?

use agentbus::tenants::BusUser;
use async_nats::jetstream;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_message_is_in_its_recipients_inbox_once_and_everybody_concerned_is_told() {
    let court = Court::sit(2, ONE_OF_TWO).await;
    let draft = severe("open the gate");
    let parked = court.park(&draft).await;
    let repeat = send(&court.planner, &draft).await;
    assert_eq!(repeat.deliberation_id.map(|id| id.to_string()), Some(parked.id.clone()));

    let list = ask(&court.judge, Verb::Deliberations, json!({})).await;
    assert_eq!(
        (&list["status"], &list["code"], &list["total"]),
        (&json!("ok"), &json!(200), &json!(1)),
        "{list}"
    );
    let listed = &list["deliberations"][0];
    assert_eq!(listed["id"], parked.id.as_str());
    assert_eq!((&listed["sender"], &listed["to"]), (&json!("planner"), &json!("worker")));
    assert_eq!((&listed["rule"], &listed["may_vote"]), (&json!("roles"), &json!(true)), "{listed}");
    assert!(listed["score"].as_f64().unwrap() >= 0.8 && listed["level"].is_string(), "{listed}");
    let shown = court.show(&court.judge, &parked.id).await;
    assert_eq!(shown["message"]["content"]["text"], "open the gate", "{shown}");
    assert_eq!(shown["voters"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["stand_ins"][0]["id"], "steward", "{shown}");
    assert!(shown["impact"]["parts"].is_object(), "{shown}");

    let voted = parked.vote(&court.judge, "approve").await;
    assert_eq!((&voted["status"], &voted["judgement"]), (&json!("ok"), &json!("approved")), "{voted}");
    assert_eq!((&voted["approvals"], &voted["rejections"]), (&json!(1), &json!(0)), "{voted}");

    let delivered = take(&court.worker, 1, SOON).await.pop().expect("it is in the durable inbox");
    assert_eq!(header(&delivered, "Agentbus-Message-Id"), draft.message_id);
    assert!(!header(&delivered, "Agentbus-Delivery").is_empty());
    for agent in [&court.planner, &court.judge] {
        let verdict = told(agent).await;
        assert_eq!((verdict.status, verdict.reason), (Status::Delivered, Reason::Delivered), "{verdict:?}");
        assert_eq!(verdict.deliberation_id.map(|id| id.to_string()), Some(parked.id.clone()));
        assert_eq!(verdict.message_id.map(|id| id.to_string()), Some(draft.message_id.clone()));
    }
    let shown = court.until(&parked.id, |shown| shown["conclusion"].is_object()).await;
    assert_eq!(shown["decision"]["judgement"], "approved", "{shown}");
    assert_eq!(shown["conclusion"]["reason"], "delivered", "{shown}");
    assert_eq!(shown["votes"][0]["voter"], "judge", "{shown}");
    nothing_for(&court.worker).await;
    let list = ask(&court.judge, Verb::Deliberations, json!({})).await;
    assert_eq!(list["total"], 0, "what is decided waits for nobody: {list}");
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_goes_nowhere_and_its_sender_hears_why() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let parked = court.park(&severe("open the gate")).await;
    let body =
        json!({ "id": parked.id, "choice": "reject", "digest": parked.digest, "comment": "not today" });
    let voted = ask(&court.judge, Verb::Vote, body).await;
    assert_eq!(voted["judgement"], "denied", "{voted}");
    for agent in [&court.planner, &court.judge] {
        let verdict = told(agent).await;
        assert_eq!((verdict.status, verdict.reason), (Status::Rejected, Reason::DeliberationDenied));
        assert!(verdict.detail.contains("judge"), "{}", verdict.detail);
    }
    nothing_for(&court.worker).await;
    let shown = court.until(&parked.id, |shown| shown["conclusion"].is_object()).await;
    assert_eq!(shown["votes"][0]["comment"], "not today", "{shown}");
    let late = parked.vote(&court.agent("arbiter").await, "approve").await;
    assert_eq!((&late["reason"], &late["code"]), (&json!("deliberation_closed"), &json!(409)), "{late}");
    let strange = parked.vote(&court.agent("stranger").await, "approve").await;
    assert_eq!(strange["reason"], "deliberation_unknown", "what is decided is nobody else's to know");
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_decides_expires() {
    let court = Court::sit(2, "timeout = \"1s\"").await;
    let parked = court.park(&severe("open the gate")).await;
    let verdict = told(&court.planner).await;
    assert_eq!((verdict.status, verdict.reason), (Status::Rejected, Reason::DeliberationExpired));
    let late = parked.vote(&court.judge, "approve").await;
    assert_eq!(late["reason"], "deliberation_closed", "{late}");
    court.until(&parked.id, |shown| shown["conclusion"]["reason"] == "deliberation_expired").await;
    nothing_for(&court.worker).await;
    counts(&court.bus, "agentbus_decided_total{judgement=\"expired\"}", 1).await;
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stand_ins_decide_once_it_is_escalated_and_not_before() {
    let court = Court::sit(2, &format!("{ONE_OF_TWO}\nescalate_after = \"2s\"")).await;
    let steward = court.agent("steward").await;
    let parked = court.park(&severe("open the gate")).await;
    let early = parked.vote(&steward, "approve").await;
    assert_eq!(early["reason"], "not_a_voter", "{early}");
    assert!(early["detail"].as_str().unwrap().contains("until it is escalated"), "{early}");
    // The deadline's keeper escalates it, without anybody asking.
    court.until(&parked.id, |shown| shown["escalated"] == true).await;
    let voted = parked.vote(&steward, "approve").await;
    assert_eq!(voted["judgement"], "approved", "{voted}");
    assert_eq!(told(&court.planner).await.reason, Reason::Delivered);
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_must_not_count_is_refused_with_its_reason_counted_and_recorded() {
    let court = Court::sit(1, "rule = \"unanimous\"").await;
    let (stranger, steward) = (court.agent("stranger").await, court.agent("steward").await);
    let parked = court.park(&severe("open the gate")).await;
    let ok = json!({ "id": parked.id, "choice": "approve", "digest": parked.digest });
    let with = |key: &str, value: Value| {
        let mut body = ok.clone();
        body[key] = value;
        body
    };
    let counted_vote = ask(&court.judge, Verb::Vote, ok.clone()).await;
    assert_eq!((&counted_vote["judgement"], &counted_vote["approvals"]), (&json!("open"), &json!(1)));
    let cases = [
        (&court.judge, ok.clone(), "already_voted"),
        (&court.judge, with("choice", json!("reject")), "already_voted"),
        (&court.planner, ok.clone(), "self_vote"),
        (&court.worker, ok.clone(), "deliberation_unknown"),
        (&stranger, ok.clone(), "deliberation_unknown"),
        (&stranger, with("digest", json!("ab".repeat(32))), "deliberation_unknown"),
        (&steward, ok.clone(), "not_a_voter"),
        (&court.judge, with("id", json!("0".repeat(24))), "deliberation_unknown"),
        (&court.judge, with("digest", json!("AB".repeat(32))), "bad_identifier"),
        // A sender can find two messages that agree in some digits.
        (&court.judge, with("digest", json!(parked.digest[..12])), "bad_identifier"),
        (&court.judge, with("digest", json!(parked.digest[..63])), "bad_identifier"),
        (&court.judge, with("id", json!(parked.id[..4])), "bad_identifier"),
        (&court.judge, with("comment", json!("x".repeat(513))), "too_large"),
        (&court.judge, with("choice", json!("abstain")), "malformed"),
        (&court.judge, with("weight", json!(7)), "unknown_field"),
        (&court.judge, json!({ "id": parked.id, "choice": "approve" }), "missing_field"),
    ];
    for (voter, body, reason) in cases {
        let refused = ask(voter, Verb::Vote, body.clone()).await;
        assert_eq!(
            (&refused["status"], &refused["reason"]),
            (&json!("rejected"), &json!(reason)),
            "{body}: {refused}"
        );
        assert!(!refused["detail"].as_str().unwrap().is_empty() && refused["code"].is_u64(), "{refused}");
    }
    let arbiter = court.agent("arbiter").await;
    let other = ask(&arbiter, Verb::Vote, with("digest", json!("ab".repeat(32)))).await;
    assert_eq!(other["reason"], "digest_mismatch", "{other}");
    let shown = court.show(&court.judge, &parked.id).await;
    assert_eq!((&shown["approvals"], &shown["voted"]), (&json!(1), &json!("approve")), "{shown}");
    assert_eq!(shown["may_vote"], false, "{shown}");
    for (result, number) in [
        ("counted", 1),
        ("already_voted", 2),
        ("self_vote", 1),
        ("not_a_voter", 1),
        ("deliberation_unknown", 4),
        ("digest_mismatch", 1),
    ] {
        let name = format!("agentbus_votes_total{{result=\"{result}\"}}");
        counts(&court.bus, &name, number).await;
    }
    // The last vote of the arbiter's is on record, although it did not count.
    let operator = court.bus.stack.connect(BusUser::Operator).await.unwrap();
    let stream = jetstream::new(operator).get_stream_no_info("RECORDS").await.unwrap();
    let until = Instant::now() + SOON;
    let record = loop {
        match stream.get_last_raw_message_by_subject("record.acme.arbiter.~.verdict").await {
            Ok(record) => break record,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let record: Value = serde_json::from_slice(&record.payload).unwrap();
    assert_eq!((&record["kind"], &record["result"]), (&json!("vote"), &json!("digest_mismatch")), "{record}");
    assert_eq!(
        (&record["voter"], &record["deliberation_id"]),
        (&json!("arbiter"), &json!(parked.id)),
        "{record}"
    );
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_takes_part_sees_a_deliberation_and_in_either_encoding() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let parked = court.park(&severe("open the gate")).await;
    for name in ["stranger", "worker"] {
        let agent = court.agent(name).await;
        let list = ask(&agent, Verb::Deliberations, json!({})).await;
        assert_eq!((&list["total"], &list["deliberations"]), (&json!(0), &json!([])), "{name}: {list}");
        let shown = ask(&agent, Verb::Deliberations, json!({ "id": parked.id })).await;
        assert_eq!(shown["reason"], "deliberation_unknown", "{name}: {shown}");
    }
    for name in ["planner", "judge", "arbiter", "steward"] {
        let agent = court.agent(name).await;
        let list = ask(&agent, Verb::Deliberations, json!({})).await;
        assert_eq!(list["total"], 1, "{name}: {list}");
        let may_vote = ["judge", "arbiter"].contains(&name);
        assert_eq!(list["deliberations"][0]["may_vote"], may_vote, "{name}: {list}");
    }
    // An empty body is answered in MessagePack, the default, and says the same.
    let answer = court.judge.call(Verb::Deliberations, "".into(), Patience::default()).await.unwrap();
    let packed: Value = rmp_serde::from_slice(&answer.payload).unwrap();
    assert_eq!(packed, ask(&court.judge, Verb::Deliberations, json!({})).await);
    let body = rmp_serde::to_vec(&json!({ "id": parked.id })).unwrap();
    let answer = court.judge.call(Verb::Deliberations, body.into(), Patience::default()).await.unwrap();
    let packed: Value = rmp_serde::from_slice(&answer.payload).unwrap();
    assert_eq!(packed["deliberation"], court.show(&court.judge, &parked.id).await);
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_follows_the_log_in_its_order_whichever_nodes_were_asked_before() {
    let court = Court::sit(2, "rule = \"unanimous\"\nescalate_after = \"6s\"").await;
    let mut parked = Vec::new();
    for text in ["open the gate", "open the door", "open the window"] {
        parked.push(court.park(&severe(text)).await);
    }
    let ids: Vec<&str> = parked.iter().map(|parked| parked.id.as_str()).collect();
    // So often that every node has answered, and remembers.
    let lists = async || {
        let mut lists = Vec::new();
        for _ in 0..8 {
            let list = ask(&court.judge, Verb::Deliberations, json!({})).await;
            lists.push(list["deliberations"].as_array().unwrap().clone());
        }
        lists
    };
    for list in lists().await {
        let listed: Vec<&str> = list.iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(listed, ids);
        assert!(list.iter().all(|one| one["approvals"] == 0 && one["may_vote"] == true), "{list:?}");
    }
    parked[1].vote(&court.judge, "approve").await;
    for list in lists().await {
        let counts: Vec<&Value> = list.iter().map(|one| &one["approvals"]).collect();
        assert_eq!(counts, [&json!(0), &json!(1), &json!(0)], "{list:?}");
        assert_eq!((&list[1]["voted"], &list[1]["may_vote"]), (&json!("approve"), &json!(false)));
    }
    parked[0].vote(&court.judge, "reject").await;
    for list in lists().await {
        assert_eq!(list.iter().map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(), ids[1..]);
    }
    for id in &ids[1..] {
        court.until(id, |shown| shown["escalated"] == true).await;
    }
    assert!(lists().await.iter().flatten().all(|one| one["escalated"] == true));
    court.stop().await;
}
