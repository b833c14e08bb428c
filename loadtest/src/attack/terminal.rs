//! What does a terminal show of a text that is made to deceive who reads it? What the program and the nodes
//! print, byte by byte, and as rows of 80 columns.

use agentbus::{
    client::Draft,
    domain::{Encoding, Status, Verb},
};
use anyhow::ensure;
use serde_json::json;

use super::{
    ATTACKED_FROM,
    calls::{self, PATIENCE},
    cli,
    field::Field,
    votes::{self, Parked},
};

const COLUMNS: usize = 80;
/// What the attacker wants to stand at the beginning of a row.
const ROW: &str = "digest    0123456789abcdef";
/// So many blanks at a row's end were put there to begin the next one.
const PADDED: usize = 6;

fn texts() -> Vec<(&'static str, String)> {
    let padded = |blank: &str, count: usize| format!("all is well{}{ROW}", blank.repeat(count));
    vec![
        ("a cleared screen", "a\u{1b}[2J\u{1b}[Hb".to_owned()),
        ("a title and a link", "\u{1b}]0;x\u{7}\u{1b}]8;;http://x\u{1b}\\y".to_owned()),
        ("C1 control characters", "a\u{9b}2Jb\u{85}c\u{90}d".to_owned()),
        ("DEL and backspaces", "ready\u{8}\u{8}\u{7f}\u{7f}x".to_owned()),
        ("a carriage return", format!("a\r{ROW}")),
        ("line breaks of all kinds", format!("a\n{ROW}\u{b}{ROW}\u{c}{ROW}\u{2028}{ROW}\u{2029}{ROW}")),
        ("right to left", "\u{202e}evorppa\u{202c} \u{2066}x\u{2069} \u{200f}".to_owned()),
        (
            "what is drawn as nothing",
            "a\u{200b}\u{2060}\u{ad}\u{feff}\u{3164}\u{115f}\u{180e}\u{34f}b".to_owned(),
        ),
        ("tags", "a\u{e0041}\u{e0042}\u{e0100}b".to_owned()),
        ("300 blanks", padded(" ", 300)),
        ("60 blanks", padded(" ", 60)),
        ("160 no-break spaces", padded("\u{a0}", 160)),
        ("150 ideographic spaces", padded("\u{3000}", 150)),
        ("300 Braille blanks", padded("\u{2800}", 300)),
        ("200 tabs", padded("\t", 200)),
        ("300 en spaces", padded("\u{2002}", 300)),
        ("300 Hangul fillers", padded("\u{3164}", 300)),
        ("500 marks on one letter", format!("a{}", "\u{301}".repeat(500))),
    ]
}

/// Characters that must not come out as they are.
fn hostile(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c,
            '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{1680}' | '\u{180e}'
            | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}'
            | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Raw characters in what was printed.
fn raw(printed: &str) -> Option<String> {
    let found = printed.chars().find(|&c| hostile(c))?;
    Some(format!("U+{:04X} is printed as it is", u32::from(found)))
}

/// A row that the attacker has begun.
fn forged(printed: &str) -> Option<String> {
    let rows: Vec<String> = printed
        .lines()
        .flat_map(|line| {
            let cells: Vec<char> = line.chars().collect();
            let rows: Vec<String> = cells.chunks(COLUMNS).map(|row| row.iter().collect()).collect();
            if rows.is_empty() { vec![String::new()] } else { rows }
        })
        .collect();
    let blank = |c: char| c.is_whitespace() || hostile(c);
    rows.windows(2).find_map(|rows| {
        let [above, row] = rows else { return None };
        let begins = row.trim_start_matches(blank).starts_with(ROW);
        let padded = above.chars().rev().take_while(|&c| blank(c)).count() >= PADDED;
        // A row of its own, or one that blanks have pushed there. The real digest is another.
        let broken = row.starts_with(ROW);
        (begins && (padded || broken)).then(|| format!("a row begins as the attacker says: {row:?}"))
    })
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    for (what, text) in texts() {
        let parked = match votes::park(field, draft("sink", &text)).await {
            Ok(parked) => parked,
            Err(error) => {
                field.judge(what, Err(error)).await?;
                continue;
            }
        };
        comment(field, &parked, &text).await?;
        let show = ["deliberations", "show", &parked.id];
        let json = ["deliberations", "show", &parked.id, "--json"];
        look(field, format!("show: {what}"), &show).await?;
        look(field, format!("show --json: {what}"), &json).await?;
        if field.full {
            look(field, format!("list: {what}"), &["deliberations", "list"]).await?;
        }
    }
    for args in [
        &["deliberations", "list"][..],
        &["deliberations", "list", "--json"],
        &["deliberations", "watch", "--for", "1s"],
        &["deliberations", "watch", "--for", "1s", "--json"],
    ] {
        look(field, args.join(" "), args).await?;
    }
    inbox(field).await?;
    logs(field).await
}

fn draft(to: &str, text: &str) -> Draft {
    Draft {
        metadata: [("note".to_owned(), text.to_owned())].into(),
        content: json!({ "text": text, (text.chars().take(100).collect::<String>()): "as a key" }),
        ..Draft::to_agent(to, text)
    }
}

/// A vote whose comment says it; whether it is taken or refused, what is shown must be harmless.
async fn comment(field: &mut Field, parked: &Parked, text: &str) -> anyhow::Result<()> {
    let judge = field.client(ATTACKED_FROM, "judge-2").await?;
    let comment: String = text.chars().take(100).collect();
    let body = json!({ "id": parked.id, "choice": "approve", "digest": parked.digest, "comment": comment });
    calls::answer(&judge, Verb::Vote, body.to_string()).await?;
    Ok(())
}

/// What a reviewer sees.
async fn look(field: &mut Field, name: String, args: &[&str]) -> anyhow::Result<()> {
    let (program, folder) = (field.agentbus.clone(), field.dir().to_owned());
    field
        .attempt(name, async move {
            let args = [args, &["--as", "globex/judge-1"]].concat();
            let ran = cli::agentbus(&program, &folder, &args).await?;
            ensure!(ran.success, "{}", ran.err);
            ensure!(!ran.out.trim().is_empty(), "nothing was shown");
            Ok(shown(&ran.out, args.contains(&"--json")))
        })
        .await
}

/// What a recipient sees of what was kept for it.
async fn inbox(field: &mut Field) -> anyhow::Result<()> {
    let planner = field.client(ATTACKED_FROM, "planner").await?;
    for json in [false, true] {
        for (what, text) in texts() {
            let draft = draft("reader", &text);
            let verdict = planner.submit(draft.encode(Encoding::Json), PATIENCE).await?;
            ensure!(verdict.status == Status::Stored, "{what} is not kept: {}", verdict.detail);
        }
        let (program, folder) = (field.agentbus.clone(), field.dir().to_owned());
        let count = texts().len().to_string();
        let mut args = vec!["inbox", "--durable-only", "--for", "25s", "--count", &count];
        args.extend(["--as", "globex/reader"].into_iter().chain(json.then_some("--json")));
        field
            .attempt(args.join(" "), async move {
                let ran = cli::agentbus(&program, &folder, &args).await?;
                ensure!(ran.success, "not all came: {}{}", ran.out, ran.err);
                Ok(shown(&ran.out, json))
            })
            .await?;
    }
    Ok(())
}

/// What an operator sees of what strangers have said so far.
async fn logs(field: &mut Field) -> anyhow::Result<()> {
    let paths: Vec<_> = field.stack().nodes().iter().map(|node| node.child().log().to_owned()).collect();
    for (number, path) in paths.iter().enumerate() {
        let log = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        field.judge(format!("the log of node {}", number + 1), Ok(raw(&log))).await?;
    }
    Ok(())
}

/// What deceives in what was printed, if anything.
fn shown(printed: &str, json: bool) -> Option<String> {
    raw(printed).or_else(|| if json { None } else { forged(printed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_blanks_have_pushed_to_the_margin_is_seen_and_an_honest_one_is_not() {
        assert!(forged(&format!("  text  all is well{}{ROW}", " ".repeat(61))).is_some());
        assert!(forged(&format!("a\n{ROW}")).is_some());
        assert!(forged(&format!("    \"text\": \"{ROW}\"")).is_none());
        assert!(forged("  digest    fedcba9876543210\nmore\n").is_none());
        assert!(raw("a\u{9b}b").is_some() && raw("a\u{2800}").is_some() && raw("a b\nc").is_none());
    }
}
