//! `agentbus recover`: what nodes have left alone is tried again, now.

use std::process::ExitCode;

use agentbus::{
    breakers::Kind,
    nats::{Answers, Fleet, NodeRecovery},
    phrase::counted,
};
use clap::{Args, builder::PossibleValuesParser};
use serde_json::json;

use crate::{
    context::{Paint, Tone, safe, say},
    operator::Operator,
    printable::{self, Page},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Each node begins anew what it asks by: it connects again, or makes its\n\
consumers anew. Breakers that are open let the next call through, which finds\n\
out whether it is well; those set to recovery = \"manual\" wait for this.\n\n\
Exit codes: 0 all nodes have; 1 failure, or one does not answer; 2 usage.\n\n\
Examples:\n  \
agentbus recover redis\n  \
agentbus recover records --json")]
pub(super) struct RecoverArgs {
    /// What does not work
    #[arg(value_name = "KIND", value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)))]
    kind: String,
    #[command(flatten)]
    operator: Operator,
    /// Print each node's answer as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: RecoverArgs) -> anyhow::Result<ExitCode> {
    let kind = Kind::parse(&args.kind).ok_or_else(|| anyhow::anyhow!("no kind of breaker"))?;
    let answers = Fleet::new(args.operator.connect().await?).recover(kind).await?;
    say(&if args.json { lines(&answers) } else { readable(&answers) })?;
    let all = answers.values().all(Option::is_some);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn lines(answers: &Answers<NodeRecovery>) -> String {
    let line = |(node, answer): (&String, &Option<NodeRecovery>)| {
        let answer = match answer {
            Some(answer) => json!(answer),
            None => json!({ "node": node, "answered": false }),
        };
        format!("{}\n", printable::json(&answer.to_string()))
    };
    answers.iter().map(line).collect()
}

fn readable(answers: &Answers<NodeRecovery>) -> String {
    let mut page = Page::new(Paint::stdout());
    for (name, answer) in answers {
        let (tone, told) = match answer {
            None => (Tone::Bad, "does not answer".to_owned()),
            Some(NodeRecovery { released, renewed, .. }) => (Tone::Strong, done(*released, renewed)),
        };
        page.headed(&safe(name, 64), tone, &told);
    }
    page.into_text()
}

fn done(released: usize, renewed: &[String]) -> String {
    let breakers = match released {
        0 => "no breaker was open".to_owned(),
        open => format!("{} let the next call through", counted(open, "breaker")),
    };
    let names: Vec<_> = renewed.iter().map(|part| safe(part, 64)).collect();
    match names.is_empty() {
        true => breakers,
        false => format!("{breakers}; begun anew: {}", names.join(", ")),
    }
}
