//! How do the figures look to a person? Markdown tables, the same on a terminal and on the page.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::{
    figures::{Load, Run, Sample, Spread},
    rig::Side,
    targets::{self, Target},
};

/// Every table of `loadtest send`, with the head that says how they came about.
pub(crate) fn all(run: &Run) -> String {
    [head(run), rates(run), refused(run), targets(run), cpu(run), stages(run)].join("\n\n")
}

/// Command, machine, versions, settings.
pub(crate) fn head(run: &Run) -> String {
    let settings = run.settings.iter().map(|(name, value)| format!("- {name}: {value}"));
    let mut lines = vec![
        format!("`{}`", run.command),
        String::new(),
        format!("- machine: {}", run.machine),
        format!("- versions: {}", run.versions.join(", ")),
    ];
    lines.extend(settings);
    lines.join("\n")
}

/// Rates and latencies of each side at each load.
pub(crate) fn rates(run: &Run) -> String {
    let mut table = table(&["load", "side", "messages/s", "P50 µs", "P99 µs", "P99.9 µs", "rate ÷ baseline"]);
    for load in run.loads() {
        for side in [Side::Baseline, Side::Bus] {
            let figure = |value: fn(&Sample) -> f64| show(run.spread(side, load, value), 0);
            if run.of(side, load).next().is_none() {
                continue;
            }
            let ratio = match side {
                Side::Baseline => String::new(),
                Side::Bus => show(run.compared(load, |s| s.rate, ratio), 2),
            };
            table.add_row([
                load.to_string(),
                side.as_str().to_owned(),
                figure(|s| s.rate),
                figure(|s| s.p50_us),
                figure(|s| s.p99_us),
                figure(|s| s.p999_us),
                ratio,
            ]);
        }
    }
    format!("Medians of the rounds, with their range.\n\n{table}")
}

/// What was not answered as it should be. Such answers are in no rate and in no latency.
fn refused(run: &Run) -> String {
    let failures = run.failures();
    if failures.is_empty() {
        return "Every message was delivered, and every delivery arrived once.".to_owned();
    }
    let lines = failures.iter().map(|(what, count)| format!("- {what}: {count}"));
    let head = "Not delivered, and so in no rate and no latency:\n".to_owned();
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}

/// What was wanted, what was found.
fn targets(run: &Run) -> String {
    let mut table = table(&["#", "what", "target", "found", "met"]);
    for Target { id, value, range: [low, high], target, met, unit, how } in targets::of_send(run) {
        let digits = if target < 10.0 { 2 } else { 0 };
        table.add_row([
            id.to_owned(),
            how,
            format!("{target} {unit}"),
            show(Some(Spread { median: value, low, high }), digits),
            if met { "yes" } else { "no" }.to_owned(),
        ]);
    }
    format!(
        "Against the targets: of each round the bus beside the baseline, then the median and the range.\n\n{table}"
    )
}

/// Whose processor time a message takes.
fn cpu(run: &Run) -> String {
    let mut table = table(&["load", "side", "node", "nats-server", "redis-server", "client", "all"]);
    for load in run.loads() {
        for side in [Side::Baseline, Side::Bus] {
            let figure = |value: fn(&Sample) -> f64| show(run.spread(side, load, value), 1);
            if run.of(side, load).next().is_some() {
                table.add_row([
                    load.to_string(),
                    side.as_str().to_owned(),
                    figure(|s| s.node_cpu_us),
                    figure(|s| s.nats_cpu_us),
                    figure(|s| s.redis_cpu_us),
                    figure(|s| s.client_cpu_us),
                    figure(Sample::processor_us),
                ]);
            }
        }
    }
    format!("Processor time a message, µs, user and system, of each process.\n\n{table}")
}

/// How long a message spends in each stage of the node.
fn stages(run: &Run) -> String {
    let loads = run.loads();
    let mut heads = vec!["stage".to_owned()];
    heads.extend(loads.iter().map(Load::to_string));
    let mut table = table(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for stage in agentbus::telemetry::Stage::ALL {
        let mut row = vec![stage.as_str().to_owned()];
        row.extend(loads.iter().map(|&load| show(run.stages(load).get(stage.as_str()).copied(), 1)));
        table.add_row(row);
    }
    format!(
        "Mean time in each stage of the node, µs, from the node's own metrics. It is time on the clock: \
         it has waits for Redis, for NATS and for a core in it.\n\n{table}"
    )
}

pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(heads.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn show(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".to_owned(), |Spread { median, low, high }| match low == high {
        true => format!("{median:.digits$}"),
        false => format!("{median:.digits$} ({low:.digits$}–{high:.digits$})"),
    })
}

fn ratio(bus: f64, baseline: f64) -> f64 {
    bus / baseline
}
