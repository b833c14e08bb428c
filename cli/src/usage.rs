//! `agentbus usage`: what tenants and their agents have used, and what it costs.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use agentbus::{
    domain::{AgentId, TenantId, Timestamp},
    nats::kept_usage,
    skew::wall_clock,
    usage::{Sum, Used, hour},
};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    context::say,
    operator::Operator,
    printable::{self},
};

mod prices;

use prices::Prices;

#[derive(Debug, Args)]
#[command(after_help = "\
Sums are of whole hours, the one that has begun included; nodes tell theirs each\n\
10 s and when they stop. They are kept for 90 days.\n\n\
Exit codes: 0 shown, 1 failure, 2 usage.\n\n\
Examples:\n  \
agentbus usage --since 7d\n  \
agentbus usage --tenant acme --by agent --csv")]
pub(super) struct UsageArgs {
    #[command(flatten)]
    operator: Operator,
    /// Only of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// Only of this agent of the tenant
    #[arg(long, value_name = "AGENT", requires = "tenant")]
    agent: Option<AgentId>,
    /// From the hour in which this time began
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    since: Duration,
    /// What a line is about
    #[arg(long, value_enum, default_value = "agent")]
    by: By,
    /// TOML file of what things cost, to print an amount as well
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print each as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Tenant,
    Agent,
    Hour,
}

pub(super) async fn run(args: UsageArgs) -> anyhow::Result<ExitCode> {
    let prices = args.prices.as_deref().map(Prices::read).transpose()?;
    let client = args.operator.connect().await?;
    let since = u64::try_from(args.since.as_millis()).unwrap_or(u64::MAX);
    let since = hour(Timestamp(wall_clock().0.saturating_sub(since)));
    let sums = kept_usage(&client, args.tenant.as_ref(), args.agent.as_ref(), since).await?;
    let lines = summed(sums, args.by);
    let text = match (args.csv, args.json) {
        (true, _) => csv(&lines, prices.as_ref()),
        (_, true) => lines.iter().map(|line| json_line(&line, prices.as_ref())).collect(),
        (false, false) => table(&lines, prices.as_ref()),
    };
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A line: whose, and how much.
type Line = (Vec<String>, Used);

/// The names of what lines are about.
fn about(by: By) -> &'static [&'static str] {
    match by {
        By::Tenant => &["tenant"],
        By::Agent => &["tenant", "agent"],
        By::Hour => &["hour", "tenant"],
    }
}

struct Lines {
    about: &'static [&'static str],
    lines: Vec<Line>,
}

impl Lines {
    fn iter(&self) -> impl Iterator<Item = Labelled<'_>> {
        self.lines.iter().map(|(whose, used)| Labelled { about: self.about, whose, used })
    }
}

struct Labelled<'a> {
    about: &'static [&'static str],
    whose: &'a [String],
    used: &'a Used,
}

fn summed(sums: Vec<Sum>, by: By) -> Lines {
    let mut all: BTreeMap<Vec<String>, Used> = BTreeMap::new();
    for Sum { tenant, agent, hour, used } in sums {
        let whose = match by {
            By::Tenant => vec![tenant.to_string()],
            By::Agent => vec![tenant.to_string(), agent.to_string()],
            By::Hour => vec![at(hour), tenant.to_string()],
        };
        *all.entry(whose).or_default() += used;
    }
    Lines { about: about(by), lines: all.into_iter().collect() }
}

/// The beginning of an hour.
fn at(hour: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(hour.saturating_mul(3_600));
    // To the hour (ISO 8601, reduced precision).
    humantime::format_rfc3339_seconds(time).to_string().chars().take(13).chain(['Z']).collect()
}

/// In the order of the columns.
fn fields(used: &Used) -> [(&'static str, u64); 9] {
    let Used { messages, bytes, decisions, refused, deliveries, stored_bytes, deliberations, scored, tokens } =
        *used;
    [
        ("messages", messages),
        ("bytes", bytes),
        ("decisions", decisions),
        ("refused", refused),
        ("deliveries", deliveries),
        ("stored_bytes", stored_bytes),
        ("deliberations", deliberations),
        ("scored", scored),
        ("tokens", tokens),
    ]
}

fn csv(lines: &Lines, prices: Option<&Prices>) -> String {
    let names = fields(&Used::default()).map(|(name, _)| name.to_owned());
    let mut head: Vec<String> = lines.about.iter().map(|&name| name.to_owned()).chain(names).collect();
    head.extend(prices.map(|prices| format!("cost_{}", prices.currency)));
    // Ids and numbers: nothing of it is to be quoted.
    let mut out = head.join(",") + "\n";
    for line in lines.iter() {
        let mut cells = line.whose.to_vec();
        cells.extend(fields(line.used).map(|(_, number)| number.to_string()));
        cells.extend(prices.map(|prices| format!("{:.4}", prices.of(line.used))));
        out += &(cells.join(",") + "\n");
    }
    out
}

fn json_line(line: &Labelled<'_>, prices: Option<&Prices>) -> String {
    let whose = line.about.iter().zip(line.whose).map(|(name, whose)| ((*name).to_owned(), json!(whose)));
    let mut fields: serde_json::Map<_, _> = whose.collect();
    fields.extend(self::fields(line.used).map(|(name, number)| (name.to_owned(), json!(number))));
    if let Some(prices) = prices {
        fields.insert("cost".to_owned(), json!(prices.of(line.used)));
        fields.insert("currency".to_owned(), json!(prices.currency));
    }
    format!("{}\n", printable::json(&serde_json::Value::Object(fields).to_string()))
}

fn table(lines: &Lines, prices: Option<&Prices>) -> String {
    if lines.lines.is_empty() {
        return "nothing was used in that time, as far as nodes have told\n".to_owned();
    }
    let whose = lines.about.join(" ");
    let numbers = ["messages", "kB", "decided", "refused", "delivered", "parked", "tokens"];
    let cost = prices.map(|prices| prices.currency.as_str());
    let mut table = printable::table(std::iter::once(whose.as_str()).chain(numbers).chain(cost));
    let mut all = Used::default();
    for line in lines.iter() {
        all += *line.used;
        table.add_row(row(line.whose.join(" "), line.used, prices));
    }
    table.add_row(row("all".to_owned(), &all, prices));
    format!("{table}\n")
}

fn row(whose: String, used: &Used, prices: Option<&Prices>) -> Vec<String> {
    let Used { messages, bytes, decisions, refused, deliveries, deliberations, tokens, .. } = *used;
    let numbers = [messages, bytes / 1_000, decisions, refused, deliveries, deliberations, tokens];
    let cost = prices.map(|prices| format!("{:.2}", prices.of(used)));
    std::iter::once(whose).chain(numbers.map(|number| number.to_string())).chain(cost).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn sums() -> Vec<Sum> {
        let sum = |agent: &str, hour, messages| Sum {
            tenant: "acme".parse().unwrap(),
            agent: agent.parse().unwrap(),
            hour,
            used: Used { messages, bytes: 1_500 * messages, ..Used::default() },
        };
        // Two nodes, two hours.
        vec![
            sum("planner", 472_222, 3),
            sum("planner", 472_222, 4),
            sum("planner", 472_223, 5),
            sum("worker", 472_223, 1),
        ]
    }

    #[test]
    fn sums_of_nodes_and_hours_come_together_in_the_line_that_is_asked_for() {
        let of = |by| -> Vec<_> {
            summed(sums(), by)
                .lines
                .into_iter()
                .map(|(whose, used)| (whose.join("/"), used.messages))
                .collect()
        };
        assert_eq!(of(By::Tenant), [("acme".to_owned(), 13)]);
        assert_eq!(of(By::Agent), [("acme/planner".to_owned(), 12), ("acme/worker".to_owned(), 1)]);
        assert_eq!(
            of(By::Hour),
            [("2023-11-14T22Z/acme".to_owned(), 7), ("2023-11-14T23Z/acme".to_owned(), 6)]
        );
    }

    #[test]
    fn each_form_says_the_same_and_prices_make_money_of_it() {
        let prices: Prices = toml::from_str("currency = \"EUR\"\nmessages = 0.01\nmegabytes = 2.0").unwrap();
        let lines = summed(sums(), By::Tenant);
        let csv = csv(&lines, Some(&prices));
        assert!(csv.starts_with("tenant,messages,bytes,"), "{csv}");
        assert!(csv.ends_with("acme,13,19500,0,0,0,0,0,0,0,0.1690\n"), "{csv}");
        let json: serde_json::Value =
            serde_json::from_str(&json_line(&lines.iter().next().unwrap(), None)).unwrap();
        assert_eq!((&json["tenant"], &json["bytes"]), (&"acme".into(), &19_500.into()));
        let table = table(&summed(sums(), By::Hour), Some(&prices));
        assert!(table.contains("0.17") && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }
}
