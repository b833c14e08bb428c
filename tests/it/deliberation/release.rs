//! What stands between an approval and the recipient's inbox: the policy, and the time.

use super::*;

/// The content says what the policy has come to think of the message when it is asked again.
const SECOND_THOUGHTS: &str = "package agentbus.modules.second_thoughts
default allow := false
allow if not input.approval
allow if input.message.content.text != \"refuse\"
reasons contains \"not even with an approval\" if input.message.content.text == \"refuse\"
obligations := {\"min_approvals\": 2} if {
	input.approval
	input.message.content.text == \"more\"
} else := {\"redact\": [\"secret\"]} if {
	input.approval.rule == \"roles\"
	\"judicial\" in input.approval.approvals[0].roles
}
";

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_asked_again_and_has_the_last_word() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.rego"), SECOND_THOUGHTS).unwrap();
    let court = Court::with(ONE_OF_TWO, |options| {
        let dir = folder.path().to_str().unwrap().into();
        let policy = toml::Table::from_iter([("dir".to_owned(), toml::Value::String(dir))]);
        options.node_overrides.insert("policy".to_owned(), policy.into());
    })
    .await;
    for (text, said) in [("refuse", "not even with an approval"), ("more", "demands 2 approvals")] {
        let parked = court.park(&severe(text)).await;
        assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
        let verdict = told(&court.planner).await;
        assert_eq!((verdict.status, verdict.reason), (Status::Rejected, Reason::PolicyDenied), "{verdict:?}");
        assert!(verdict.detail.contains(said), "{}", verdict.detail);
        court.until(&parked.id, |shown| shown["conclusion"]["reason"] == "policy_denied").await;
        told(&court.judge).await;
    }
    nothing_for(&court.worker).await;

    let mut draft = severe("let through, in part");
    draft.content["secret"] = json!("4711");
    let parked = court.park(&draft).await;
    parked.vote(&court.judge, "approve").await;
    let delivered = take(&court.worker, 1, SOON).await.pop().expect("it is in the durable inbox");
    let body: Value = serde_json::from_slice(&delivered.payload).unwrap();
    assert_eq!(body["content"]["text"], "let through, in part");
    assert!(!body.to_string().contains("4711"), "{body}");
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expired_meanwhile_is_not_delivered() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let draft = Draft { expires_in: Some(Duration::from_secs(2)), ..severe("now or never") };
    let parked = court.park(&draft).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
    assert_eq!(told(&court.planner).await.reason, Reason::Expired);
    nothing_for(&court.worker).await;
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_the_durable_lane_is_parked_and_released_like_any_other() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let draft = severe("kept, then parked");
    let kept = court.planner.submit(draft.encode(Encoding::MessagePack), Patience::default()).await.unwrap();
    assert_eq!(kept.status, Status::Stored, "{kept:?}");
    let verdict = told(&court.planner).await;
    assert_eq!(verdict.status, Status::Deliberating, "{verdict:?}");
    let id = verdict.deliberation_id.unwrap().to_string();
    let digest = court.show(&court.judge, &id).await["digest"].as_str().unwrap().to_owned();
    assert_eq!(Waiting { id, digest }.vote(&court.judge, "approve").await["judgement"], "approved");
    assert_eq!(told(&court.planner).await.reason, Reason::Delivered);
    let delivered = take(&court.worker, 2, MEANWHILE).await;
    assert_eq!(delivered.len(), 1, "{delivered:?}");
    assert_eq!(header(&delivered[0], "Agentbus-Message-Id"), draft.message_id);
    court.stop().await;
}
