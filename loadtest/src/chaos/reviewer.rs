//! What does a reviewer do? Looks at what waits, again and again, and votes on all of it.

use std::{collections::BTreeMap, time::Duration};

use agentbus::{client::AgentClient, domain::Verb};
use agentbus_testkit::books::{Key, Seen};
use serde_json::{Value, json};

use super::{cast::Setting, sender::REFUSED};

const PAUSE: Duration = Duration::from_millis(150);

/// Until all is over.
pub(crate) async fn run(setting: Setting, tenant: &'static str, client: AgentClient) {
    let work = async {
        loop {
            // While servers are down there is no list; the next one tells the same.
            if let Ok(list) = client.json(Verb::Deliberations, "{}".to_owned()).await {
                let open = list.get("deliberations").and_then(Value::as_array).cloned().unwrap_or_default();
                for deliberation in open {
                    vote(&setting, tenant, &client, &deliberation).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    setting.over.run_until_cancelled(work).await;
}

async fn vote(setting: &Setting, tenant: &str, client: &AgentClient, deliberation: &Value) {
    let text = |field: &str| deliberation.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let may = deliberation.get("may_vote").and_then(Value::as_bool).unwrap_or_default();
    let voted = deliberation.get("voted").is_some_and(|voted| !voted.is_null());
    if !may || voted {
        return;
    }
    let key = Key { tenant: tenant.to_owned(), sender: text("sender"), message: text("message_id") };
    let approve = !key.message.starts_with(REFUSED);
    let voter = client.id().to_string();
    setting.books.write(Seen::Voting { key: key.clone(), voter: voter.clone(), approve });
    let body = BTreeMap::from([
        ("id", json!(text("id"))),
        ("choice", json!(if approve { "approve" } else { "reject" })),
        ("digest", json!(text("digest"))),
    ]);
    let answer = match client.json(Verb::Vote, json!(body).to_string()).await {
        Ok(answer) => {
            let word = answer.get("judgement").or_else(|| answer.get("reason")).and_then(Value::as_str);
            word.unwrap_or_default().to_owned()
        }
        Err(error) => error.to_string(),
    };
    setting.books.write(Seen::Voted { key, voter, answer });
}
