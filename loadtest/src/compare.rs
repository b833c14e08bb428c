//! What has changed from one report to the other? A table with ratios, and what is more than noise.

use anyhow::{bail, ensure};

use crate::{
    options::CompareOptions,
    run::{
        profile::Side,
        sheet::{Figure, Metric, Report},
    },
    tables::{show, table},
};
use verdict::{ROUNDS_MIN, Verdict, judge};

pub(crate) mod verdict;

/// One figure of both reports.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    before: &'a Figure,
    after: &'a Figure,
    /// After to before.
    ratio: f64,
    verdict: Verdict,
}

/// `loadtest compare`.
pub(crate) fn run(options: &CompareOptions) -> anyhow::Result<()> {
    let (before, after) = (Report::read(&options.before)?, Report::read(&options.after)?);
    let rows = rows(&before, &after);
    ensure!(
        !rows.is_empty(),
        "the two reports have no side at the same load: they are of different profiles"
    );
    println!("{}", text(&before, &after, &rows));
    options.fail_above.map_or(Ok(()), |percent| gate(&rows, percent))
}

pub(crate) fn rows<'a>(before: &'a Report, after: &'a Report) -> Vec<Row<'a>> {
    let same =
        |a: &Figure, b: &Figure| (&a.load, a.side, a.metric, a.to) == (&b.load, b.side, b.metric, b.to);
    let pairs =
        before.figures.iter().filter_map(|old| Some((old, after.figures.iter().find(|new| same(old, new))?)));
    // What errors there are is told, and no ratio to none.
    let pairs = pairs.filter(|(old, _)| old.metric != Metric::Errors);
    pairs
        .filter(|(old, _)| old.spread.median > 0.0)
        .map(|(before, after)| Row {
            before,
            after,
            ratio: after.spread.median / before.spread.median,
            verdict: judge(&before.rounds, &after.rounds, before.metric.more_is_better()),
        })
        .collect()
}

fn text(before: &Report, after: &Report, rows: &[Row<'_>]) -> String {
    let mut tables = Vec::new();
    for of in rows.chunk_by(|one, next| place(one) == place(next)) {
        let mut table = table(&["figure", "before", "after", "ratio", "verdict"]);
        for row in of {
            let what = match row.before.to {
                Some(to) => format!("{} ÷ {}", row.before.metric.short(), to.as_str()),
                None => row.before.metric.short().to_owned(),
            };
            table.add_row([
                what,
                show(Some(row.before.spread)),
                show(Some(row.after.spread)),
                format!("{:.2}", row.ratio),
                row.verdict.as_str().to_owned(),
            ]);
        }
        let (load, side) = of.first().map(place).unwrap_or(("", Side::Bus));
        tables.push(format!("{}, {load}\n\n{table}", side.as_str()));
    }
    let mut notes = vec![format!(
        "Better or worse is said where no round of one report lies among the rounds of the other, of {ROUNDS_MIN} or more \
         each: by chance alone that is rarer than one in thirty. Everything else may be noise."
    )];
    notes.extend(differences(before, after));
    let tables = tables.join("\n\n");
    format!("before: `{}`\nafter: `{}`\n\n{tables}\n\n{}", before.command, after.command, notes.join("\n"))
}

fn place<'a>(row: &'a Row<'_>) -> (&'a str, Side) {
    (&row.before.load, row.before.side)
}

/// What else may be the reason.
fn differences(before: &Report, after: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if before.machine != after.machine {
        notes.push(format!(
            "The machines differ: {} and {}. Take the ratios to baseline and direct, not the others.",
            before.machine, after.machine
        ));
    }
    if before.versions != after.versions {
        notes.push(format!("Versions: {} and {}.", before.versions.join(", "), after.versions.join(", ")));
    }
    if before.profile != after.profile {
        notes.push("The profiles are not the same.".to_owned());
    }
    for (report, when) in [(before, "before"), (after, "after")] {
        let failed: u64 = report.samples.iter().map(|sample| sample.tally.failed_total()).sum();
        if failed > 0 {
            notes.push(format!(
                "{failed} messages of {when} were not answered as expected; they are in no figure."
            ));
        }
    }
    notes
}

/// Fails on what has become worse by more than so many percent.
fn gate(rows: &[Row<'_>], percent: f64) -> anyhow::Result<()> {
    let bus = || rows.iter().filter(|row| row.before.side == Side::Bus);
    let judged = bus().filter(|row| row.verdict != Verdict::TooFew).count();
    ensure!(judged > 0, "--fail-above needs {ROUNDS_MIN} rounds or more in each report, and found fewer");
    let worse = |row: &&Row<'_>| {
        let by = if row.before.metric.more_is_better() { 1.0 / row.ratio } else { row.ratio };
        row.verdict == Verdict::Worse && (by - 1.0) * 100.0 > percent
    };
    let worse: Vec<String> = bus()
        .filter(worse)
        .map(|row| format!("{} at {}: × {:.2}", row.before.metric.as_str(), row.before.load, row.ratio))
        .collect();
    match worse.is_empty() {
        true => Ok(()),
        false => bail!("worse by more than {percent} %: {}", worse.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spread::Spread;

    fn figure(metric: Metric, rounds: &[f64]) -> Figure {
        Figure {
            load: "64 in flight".to_owned(),
            side: Side::Bus,
            metric,
            to: None,
            unit: metric.unit().to_owned(),
            spread: Spread::of(rounds.iter().copied()).unwrap(),
            rounds: rounds.to_vec(),
        }
    }

    fn row<'a>(before: &'a Figure, after: &'a Figure) -> Row<'a> {
        let verdict = judge(&before.rounds, &after.rounds, before.metric.more_is_better());
        Row { before, after, ratio: after.spread.median / before.spread.median, verdict }
    }

    #[test]
    fn the_gate_fails_on_what_is_worse_beyond_noise_and_by_enough_and_on_nothing_else() {
        let rate = |rounds: &[f64]| figure(Metric::Rate, rounds);
        let p99 = |rounds: &[f64]| figure(Metric::P99, rounds);
        let steady = [100.0, 101.0, 102.0, 103.0, 104.0];
        let check = |before: Figure, after: Figure, percent, fails: bool| {
            let rows = [row(&before, &after)];
            assert_eq!(gate(&rows, percent).is_err(), fails, "{rows:?} above {percent}");
        };
        check(rate(&steady), rate(&[80.0, 81.0, 82.0, 83.0, 84.0]), 10.0, true);
        check(rate(&steady), rate(&[80.0, 81.0, 82.0, 83.0, 84.0]), 30.0, false);
        check(rate(&steady), rate(&[60.0, 61.0, 62.0, 63.0, 101.5]), 10.0, false);
        check(rate(&steady), rate(&[180.0, 181.0, 182.0, 183.0, 184.0]), 10.0, false);
        check(p99(&steady), p99(&[180.0, 181.0, 182.0, 183.0, 184.0]), 10.0, true);
        check(p99(&steady), p99(&[80.0, 81.0, 82.0, 83.0, 84.0]), 10.0, false);
    }

    #[test]
    fn a_gate_that_could_never_fail_says_so() {
        let (before, after) = (figure(Metric::Rate, &[100.0]), figure(Metric::Rate, &[10.0]));
        let error = gate(&[row(&before, &after)], 10.0).unwrap_err().to_string();
        assert!(error.contains("needs 4 rounds or more"), "{error}");
    }
}
