//! By which policy are messages judged, and do the OPA servers answer? Where the operator's key is at hand too, as beside
//! `agentbus up`; agents are told of no such thing.

use std::path::Path;

use agentbus::{
    nats::{Fleet, NodePolicy, PolicyRequest},
    tenants::{BusUser, User, connect},
};

use super::Sheet;
use crate::context::safe;

/// Characters of why something is not well.
const WHY_MAX: usize = 256;

pub(super) async fn nodes(url: &str, dir: &Path, sheet: &mut Sheet) -> anyhow::Result<()> {
    if !User::Bus(BusUser::Operator).seed_path(dir).exists() {
        return Ok(());
    }
    // The key may be of another bus, and the agent's way was looked at already.
    let Ok(client) = connect(url, dir, BusUser::Operator).await else { return Ok(()) };
    let Ok(answers) = Fleet::new(client).ask(PolicyRequest::Status).await else { return Ok(()) };
    for (node, answer) in answers {
        let node = safe(&node, 64);
        let Some(NodePolicy { standing, opa, .. }) = answer else {
            let next = "look at its log and /readyz";
            sheet.ill(&format!("policy: {node} does not say which it has"), Some(next))?;
            continue;
        };
        let revision = safe(&standing.revision, 64);
        let refused = standing.refused.map(|refused| format!("another is refused: {}", refused.why));
        match refused.or(standing.unreachable) {
            None => sheet.well(&format!("policy: {revision} on {node}"))?,
            Some(why) => {
                let found = format!("policy: {revision} on {node}; {}", safe(&why, WHY_MAX));
                sheet.ill(&found, Some("mend it; `agentbus policy status` shows all nodes"))?;
            }
        }
        for server in opa {
            let name = safe(&server.name, 128);
            match server.problem {
                None => sheet.well(&format!("OPA: {name} answers {node}"))?,
                Some(why) => {
                    let found = format!("OPA: {name} is not asked by {node}: {}", safe(&why, WHY_MAX));
                    sheet.ill(&found, Some("start it, give it the node's bundle, or correct policy.opa"))?;
                }
            }
        }
    }
    Ok(())
}
