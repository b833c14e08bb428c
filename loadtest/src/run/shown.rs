//! How does a report look on a terminal? Markdown tables of at most eighty columns, one for each load.

use std::collections::BTreeMap;

use super::{
    profile::Side,
    sheet::{Metric, Report, Sample, loads},
    tally::Tally,
    usage::PROCESSES,
};
use crate::{
    spread::Spread,
    tables::{show, table},
};

const SIDES: [Side; 3] = [Side::Direct, Side::Baseline, Side::Bus];
/// With what it was measured on.
pub(crate) fn all(report: &Report) -> String {
    format!("{}\n\n{}", head(report), figures(report))
}

/// Every load, and what went wrong.
pub(crate) fn figures(report: &Report) -> String {
    let mut parts: Vec<String> = loads(&report.samples).into_iter().map(|load| under(report, load)).collect();
    parts.push(errors(report));
    parts.join("\n\n")
}

fn head(report: &Report) -> String {
    let mut lines = vec![
        format!("`{}`", report.command),
        String::new(),
        report.profile.about.clone(),
        String::new(),
        format!("- machine: {}", report.machine),
        format!("- versions: {}", report.versions.join(", ")),
    ];
    lines.extend(report.settings.iter().map(|(name, value)| format!("- {name}: {value}")));
    lines.push(
        "\nMedians of the rounds, with their range. Times of a process are its processor time a message."
            .to_owned(),
    );
    lines.join("\n")
}

/// One load, its sides beside each other.
fn under(report: &Report, load: &str) -> String {
    let sides: Vec<Side> = SIDES.into_iter().filter(|side| report.of(load, *side).next().is_some()).collect();
    let mut parts = vec![format!("**{load}**"), rates(report, load, &sides)];
    parts.extend(entries(report, load, &sides));
    parts.extend(stages(report, load));
    parts.join("\n\n")
}

fn rates(report: &Report, load: &str, sides: &[Side]) -> String {
    let heads = std::iter::once("").chain(sides.iter().map(|side| side.as_str()));
    let mut table = table(&heads.collect::<Vec<_>>());
    let mut row = |name: &str, cell: &dyn Fn(Side) -> Option<String>| {
        let cells: Vec<Option<String>> = sides.iter().map(|&side| cell(side)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(Option::unwrap_or_default);
            table.add_row(std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>());
        }
    };
    let figure = |side, metric| report.spread(load, side, metric, None).map(|spread| show(Some(spread)));
    let (processor, errors) = ([Metric::NodeProcessor, Metric::AllProcessor], Metric::Errors);
    for &metric in Metric::ALL.iter().filter(|metric| !processor.contains(metric) && **metric != errors) {
        row(metric.short(), &|side| figure(side, metric));
    }
    for (name, pick) in PROCESSES {
        let of = |side| Spread::of(report.of(load, side).map(|sample: &Sample| pick(&sample.processor_us)));
        row(&format!("{name} µs"), &|side| {
            of(side).filter(|spread| spread.high > 0.0).map(|spread| show(Some(spread)))
        });
    }
    row("all µs", &|side| figure(side, Metric::AllProcessor));
    row("steady rounds", &|side| {
        let steady = report.of(load, side).filter(|sample| sample.steady).count();
        Some(format!("{steady} of {}", report.of(load, side).count()))
    });
    for metric in [Metric::Rate, Metric::P50, Metric::P99, Metric::AllProcessor] {
        let ratio =
            |side| report.spread(load, Side::Bus, metric, Some(side)).map(|spread| show(Some(spread)));
        row(&format!("{} of bus ÷", metric.short()), &ratio);
    }
    table.to_string()
}

/// Where a mix has more than one kind of message.
fn entries(report: &Report, load: &str, sides: &[Side]) -> Option<String> {
    let mut table = table(&["message", "side", "answered", "P50 µs", "P99 µs"]);
    for &side in sides {
        let mut merged = BTreeMap::<&str, Tally>::new();
        for sample in report.of(load, side) {
            let parts = sample.entries.iter().filter(|_| sample.entries.len() > 1);
            parts
                .chain(&sample.beside)
                .for_each(|(label, tally)| merged.entry(label).or_default().add(tally));
        }
        for (label, tally) in merged {
            table.add_row([
                label.to_owned(),
                side.as_str().to_owned(),
                tally.answered.to_string(),
                format!("{:.0}", tally.latency.at(0.5)),
                format!("{:.0}", tally.latency.at(0.99)),
            ]);
        }
    }
    let text = "By kind of message, and of the groups beside, all rounds together.";
    (!table.is_empty()).then(|| format!("{text}\n\n{table}"))
}

fn stages(report: &Report, load: &str) -> Option<String> {
    let mut table = table(&["stage of the node", "mean µs"]);
    for stage in agentbus::telemetry::Stage::ALL {
        let of = report.of(load, Side::Bus).filter_map(|sample| sample.stages.get(stage.as_str()).copied());
        if let Some(spread) = Spread::of(of) {
            table.add_row([stage.as_str().to_owned(), show(Some(spread))]);
        }
    }
    let text = "On the clock: waits for Redis, for NATS and for a core are in it.";
    (!table.is_empty()).then(|| format!("{text}\n\n{table}"))
}

fn errors(report: &Report) -> String {
    let mut lines = Vec::new();
    let rows = loads(&report.samples).into_iter().flat_map(|load| SIDES.map(|side| (load, side)));
    for (load, side) in rows {
        let seen = report.merged(load, side);
        let at = format!("{}, {load}", side.as_str());
        lines.extend(seen.failures.iter().map(|(what, count)| format!("- {at}: {what}: {count}")));
        if seen.held_back > 0 {
            lines.push(format!("- {at}: held back {} times, because too many waited", seen.held_back));
        }
        let miscounted: u64 = report.of(load, side).map(|sample| sample.miscounted).sum();
        if miscounted > 0 {
            lines.push(format!("- {at}: LOST OR DOUBLED: {miscounted}"));
        }
    }
    match lines.is_empty() {
        true => "Every message was answered as it should be, and every delivery arrived once.".to_owned(),
        false => {
            format!("Not answered as expected, and so in no rate and no latency:\n\n{}", lines.join("\n"))
        }
    }
}
