//! How does a report look on a terminal? Markdown tables.

use std::collections::BTreeMap;

use super::{
    profile::Side,
    sheet::{Metric, Report, Sample, loads},
    usage::Each,
};
use crate::{
    figures::Spread,
    tables::{show, table},
};

const SIDES: [Side; 3] = [Side::Direct, Side::Baseline, Side::Bus];

pub(crate) fn all(report: &Report) -> String {
    let mut parts = vec![head(report), rates(report), errors(report), processor(report)];
    parts.extend(entries(report));
    parts.extend(stages(report));
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
    lines.join("\n")
}

fn rates(report: &Report) -> String {
    let compared: Vec<Side> =
        SIDES.into_iter().filter(|side| *side != Side::Bus && has(report, *side)).collect();
    let mut heads = vec!["load", "side", "messages/s", "P50 µs", "P99 µs", "P99.9 µs", "steady"];
    let ratios: Vec<String> = compared.iter().map(|side| format!("rate ÷ {}", side.as_str())).collect();
    heads.extend(ratios.iter().map(String::as_str));
    let mut table = table(&heads);
    for (load, side) in rows(report) {
        let figure = |metric| show(report.spread(load, side, metric, None), 0);
        let all = report.of(load, side).count();
        let steady = report.of(load, side).filter(|sample| sample.steady).count();
        let mut row = vec![
            load.to_owned(),
            side.as_str().to_owned(),
            figure(Metric::Rate),
            figure(Metric::P50),
            figure(Metric::P99),
            figure(Metric::P999),
            format!("{steady} of {all}"),
        ];
        row.extend(compared.iter().map(|&to| match side {
            Side::Bus => show(report.spread(load, side, Metric::Rate, Some(to)), 2),
            Side::Direct | Side::Baseline => String::new(),
        }));
        table.add_row(row);
    }
    format!("Medians of the rounds, with their range.\n\n{table}")
}

fn has(report: &Report, side: Side) -> bool {
    report.samples.iter().any(|sample| sample.side == side)
}

fn rows(report: &Report) -> impl Iterator<Item = (&str, Side)> {
    let loads = loads(&report.samples).into_iter();
    loads
        .flat_map(|load| SIDES.map(|side| (load, side)))
        .filter(|(load, side)| report.of(load, *side).next().is_some())
}

fn errors(report: &Report) -> String {
    let mut lines = Vec::new();
    for (load, side) in rows(report) {
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

fn processor(report: &Report) -> String {
    let mut table =
        table(&["load", "side", "node", "nats-server", "redis-server", "client", "all", "node's MiB"]);
    for (load, side) in rows(report) {
        let of = |value: fn(&Sample) -> f64| Spread::of(report.of(load, side).map(value));
        table.add_row([
            load.to_owned(),
            side.as_str().to_owned(),
            show(of(|s| s.processor_us.node), 1),
            show(of(|s| s.processor_us.nats), 1),
            show(of(|s| s.processor_us.redis), 1),
            show(of(|s| s.processor_us.client), 1),
            show(of(|s| Each::sum(s.processor_us)), 1),
            show(of(|s| s.memory_mib.node), 0),
        ]);
    }
    format!(
        "Processor time a message, µs, user and system, of each process; the node's memory at its most.\n\n{table}"
    )
}

/// Where a mix has more than one kind of message.
fn entries(report: &Report) -> Option<String> {
    let mut table = table(&["load", "side", "message", "answered", "P50 µs", "P99 µs"]);
    let mut any = false;
    for (load, side) in rows(report) {
        let mut merged = BTreeMap::<&str, super::tally::Tally>::new();
        for sample in report.of(load, side) {
            let parts = sample.entries.iter().filter(|_| sample.entries.len() > 1);
            parts
                .chain(&sample.beside)
                .for_each(|(label, tally)| merged.entry(label).or_default().add(tally));
        }
        for (label, tally) in merged {
            any = true;
            table.add_row([
                load.to_owned(),
                side.as_str().to_owned(),
                label.to_owned(),
                tally.answered.to_string(),
                format!("{:.0}", tally.latency.at(0.5)),
                format!("{:.0}", tally.latency.at(0.99)),
            ]);
        }
    }
    any.then(|| format!("By kind of message, and of the groups beside, all rounds together.\n\n{table}"))
}

fn stages(report: &Report) -> Option<String> {
    let loads: Vec<&str> =
        rows(report).filter(|(_, side)| *side == Side::Bus).map(|(load, _)| load).collect();
    let mut heads = vec!["stage"];
    heads.extend(&loads);
    let mut table = table(&heads);
    for stage in agentbus::telemetry::Stage::ALL {
        let mean = |load: &&str| {
            let of =
                report.of(load, Side::Bus).filter_map(|sample| sample.stages.get(stage.as_str()).copied());
            show(Spread::of(of), 1)
        };
        let row = std::iter::once(stage.as_str().to_owned()).chain(loads.iter().map(mean));
        table.add_row(row.collect::<Vec<_>>());
    }
    let text = "Mean time in each stage of the node, µs, waits for Redis, NATS and a core included.";
    (!loads.is_empty()).then(|| format!("{text}\n\n{table}"))
}
