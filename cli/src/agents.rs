//! `agentbus agents`: who is live in a tenant.

use std::process::ExitCode;

use agentbus::domain::Verb;
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::{
    context::{Identity, Paint, Tone, safe, say},
    printable::{self, Page, quoted},
};

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 answered, 1 failure, 2 usage.\n\n\
Examples:\n  \
agentbus agents --as acme/planner\n  \
agentbus agents --as acme/planner --capability translate --json")]
pub(super) struct AgentsArgs {
    #[command(flatten)]
    identity: Identity,
    /// Only holders of this capability
    #[arg(long, value_name = "CAPABILITY", conflicts_with = "agent")]
    capability: Option<String>,
    /// Only this agent
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Print the bus's answer as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: AgentsArgs) -> anyhow::Result<ExitCode> {
    let client = args.identity.connect().await?;
    let request = match (&args.capability, &args.agent) {
        (Some(capability), _) => json!({ "capability": capability }),
        (None, Some(agent)) => json!({ "agent": agent }),
        (None, None) => json!({}),
    };
    let answer = client.json(Verb::Find, request.to_string()).await?;
    let text = if args.json {
        format!("{}\n", printable::json(&answer.to_string()))
    } else {
        if answer.get("status").and_then(Value::as_str) != Some("ok") {
            bail!("{}: {}", word(&answer, "reason"), word(&answer, "detail"));
        }
        readable(&answer, args.identity.who.tenant.as_str(), Paint::stdout())
    };
    say(&text)?;
    let ok = answer.get("status").and_then(Value::as_str) == Some("ok");
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line for each agent: what it says that it can do, in words of its own choice.
fn readable(answer: &Value, tenant: &str, paint: Paint) -> String {
    let none = Vec::new();
    let agents = answer.get("agents").and_then(Value::as_array).unwrap_or(&none);
    let total = answer.get("total").and_then(Value::as_u64).unwrap_or(agents.len() as u64);
    if agents.is_empty() {
        return format!("no live agent in {tenant} matches\n");
    }
    let width = agents.iter().map(|agent| word(agent, "id").chars().count()).max().unwrap_or(0);
    let mut page = Page::new(paint);
    for agent in agents {
        let capabilities = agent.get("capabilities").and_then(Value::as_array).unwrap_or(&none);
        let capabilities: Vec<String> =
            capabilities.iter().filter_map(Value::as_str).map(|c| safe(c, 64)).collect();
        let mut told = capabilities.join(" ");
        if let Some(description) = agent.get("description").and_then(Value::as_str) {
            told += &format!("  says {}", quoted(description, 256));
        }
        page.headed(&format!("{:<width$}", word(agent, "id")), Tone::Strong, told.trim_start());
    }
    let mut out = page.into_text();
    if total > agents.len() as u64 {
        out += &format!("and {} more\n", total - agents.len() as u64);
    }
    out
}

fn word(map: &Value, name: &str) -> String {
    safe(map.get(name).and_then(Value::as_str).unwrap_or_default(), 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_agents_are_listed_one_a_line_with_what_they_can_do() {
        let answer = json!({ "status": "ok", "total": 3, "agents": [
            { "id": "planner", "capabilities": [] },
            { "id": "worker", "capabilities": ["sum", "translate"], "description": "does\nthings" },
        ] });
        assert_eq!(
            readable(&answer, "acme", Paint::never()),
            "planner\nworker   sum translate  says \"does\\nthings\"\nand 1 more\n"
        );
        assert!(readable(&json!({ "agents": [] }), "acme", Paint::never()).contains("no live agent in acme"));
    }
}
