//! What stands on the page? What was measured, then for each load its charts and its table.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::{self, Bar, Curve, Paint};
use crate::{
    measure::report::Whole,
    run::{
        profile::Side,
        sheet::{Metric, Report, Sample, Second, loads},
        usage::{Each, PROCESSES},
    },
    spread::Spread,
    tables::show,
    targets::Target,
};

const STYLE: &str = include_str!("style.css");
const SIDES: [Side; 3] = [Side::Direct, Side::Baseline, Side::Bus];
/// Percentiles of a curve: none, half, and so on to one in ten thousand.
const STEPS: u32 = 80;

pub(super) fn page(report: &Report) -> anyhow::Result<Markup> {
    let title = format!("Load test: {}", report.name);
    let body = measured(report)?;
    Ok(whole_page(&title, &report.profile.about, &html! { (head(report)) (body) }))
}

/// All that `loadtest measure` found: the targets, then each profile.
pub(super) fn whole(whole: &Whole) -> anyhow::Result<Markup> {
    let with_report = whole.outcomes.iter().filter_map(|outcome| Some((outcome, outcome.report.as_ref()?)));
    let parts = with_report.map(|(outcome, report)| {
        let measured = measured(report)?;
        Ok(html! {
            section.part { h2 { (outcome.title) } p.soft { (report.profile.about) } (head(report)) (measured) }
        })
    });
    let parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
    let about = format!("{}; {}", whole.machine, whole.versions.join(", "));
    Ok(whole_page(
        "The figures to beat",
        &about,
        &html! { (targets(&whole.targets)) @for part in &parts { (part) } },
    ))
}

fn whole_page(title: &str, about: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "agentbus: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { (title) } p { (about) } }
                main { (body) }
            }
        }
    }
}

fn targets(targets: &[Target]) -> Markup {
    html! {
        div.scrolls {
            table.targets {
                thead { tr { @for name in ["figure", "found", "wanted", "met", "what"] { th scope="col" { (name) } } } }
                tbody {
                    @for target in targets {
                        tr {
                            th scope="row" { (target.id) }
                            td { (target.found()) }
                            td { (target.wanted()) }
                            td class={ @if target.met { "met" } @else { "missed" } } { @if target.met { "yes" } @else { "no" } }
                            td { (target.how) }
                        }
                    }
                }
            }
        }
    }
}

/// The ratios, then each load.
fn measured(report: &Report) -> anyhow::Result<Markup> {
    let sections = loads(&report.samples).into_iter().map(|load| section(report, load));
    let sections = sections.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(html! { (ratios(report)?) @for section in &sections { (section) } })
}

fn head(report: &Report) -> Markup {
    html! {
        details {
            summary { "How it was measured" }
            dl {
                dt { "command" } dd { code { (report.command) } }
                dt { "machine" } dd { (report.machine) }
                dt { "versions" } dd { (report.versions.join(", ")) }
                @for (name, value) in &report.settings { dt { (name) } dd { (value) } }
            }
            p { "Every figure is the median of the rounds, with their range. Faint parts of curves are warm-up, which is not counted." }
        }
    }
}

/// The bus beside the others, if there are others.
fn ratios(report: &Report) -> anyhow::Result<Markup> {
    let compared = report.figures.iter().filter_map(|figure| Some((figure, figure.to?)));
    let bars: Vec<Bar> = compared
        .map(|(figure, to)| Bar {
            label: format!("{}, {}", figure.load, figure.metric.as_str()),
            paint: paint(to),
            value: figure.spread.median,
            range: (figure.spread.low, figure.spread.high),
        })
        .collect();
    if bars.is_empty() {
        return Ok(html! {});
    }
    let beside: Vec<Side> =
        SIDES.into_iter().filter(|side| *side != Side::Bus && has(report, *side)).collect();
    let legend = legend(beside.iter().map(|side| (format!("÷ {}", side.as_str()), paint(*side))));
    let groups = [Metric::Rate, Metric::AllProcessor, Metric::P50, Metric::P99].map(|metric| {
        let suffix = format!(", {}", metric.as_str());
        let own = bars
            .iter()
            .filter(|bar| bar.label.ends_with(&suffix))
            .map(|bar| Bar { label: bar.label.trim_end_matches(&suffix).to_owned(), ..bar.clone() });
        let better = if metric.more_is_better() { "more is better" } else { "less is better" };
        let title = format!("{} of the bus as a multiple of the other side's: {better}", metric.as_str());
        Ok(figure(&title, charts::ratios(&own.collect::<Vec<_>>())?))
    });
    let groups = groups.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h3 { "Beside the others" }
            (legend)
            div.charts { @for group in &groups { (group) } }
        }
    })
}

fn section(report: &Report, load: &str) -> anyhow::Result<Markup> {
    let sides: Vec<Side> = SIDES.into_iter().filter(|side| report.of(load, *side).next().is_some()).collect();
    let latency = sides.iter().map(|&side| percentile_curve(report, load, side)).collect::<Vec<_>>();
    let rate = sides.iter().flat_map(|&side| time_curves(report, load, side, |second| second.rate));
    let mut figures = vec![
        figure("Latency by percentile, all rounds", charts::percentiles(&latency)?),
        figure(
            "Answers a second, each round",
            charts::over_time(&rate.collect::<Vec<_>>(), |rate| charts::short(*rate))?,
        ),
    ];
    let last = report.of(load, Side::Bus).last();
    let by_process = PROCESSES.iter().enumerate();
    let by_process = legend(by_process.map(|(at, (name, _))| ((*name).to_owned(), Paint::series(at))));
    if let Some(last) = last {
        let of = |value: fn(&Second) -> &Each| processes(last, value);
        let cores = charts::over_time(&of(|second| &second.cores), |cores| charts::short(*cores))?;
        let memory = charts::over_time(&of(|second| &second.memory_mib), |mib| format!("{mib:.0} MiB"))?;
        figures.push(with_legend("Bus, last round: cores in use", &by_process, cores));
        figures.push(with_legend("Bus, last round: memory", &by_process, memory));
        figures.push(figure("Where the time goes in the node: mean µs of each stage", stages(report, load)?));
    }
    Ok(html! {
        section {
            h3 { (load) }
            (legend(sides.iter().map(|side| (side.as_str().to_owned(), paint(*side)))))
            (table(report, load, &sides))
            div.charts { @for figure in &figures { (figure) } }
        }
    })
}

fn table(report: &Report, load: &str, sides: &[Side]) -> Markup {
    let cell = |side: Side, metric: Metric| show(report.spread(load, side, metric, None));
    let metrics: Vec<Metric> = Metric::ALL
        .iter()
        .copied()
        .filter(|&metric| sides.iter().any(|&side| report.spread(load, side, metric, None).is_some()))
        .collect();
    let failures = |side: Side| report.merged(load, side).failures;
    html! {
        div.scrolls {
            table {
                thead { tr { th scope="col" { "figure" } @for side in sides { th scope="col" { (side.as_str()) } } } }
                tbody {
                    @for metric in metrics {
                        tr {
                            th scope="row" { (metric.as_str()) ", " (metric.unit()) }
                            @for &side in sides { td { (cell(side, metric)) } }
                        }
                    }
                }
            }
        }
        @for &side in sides {
            @for (what, count) in failures(side) { p.error { (side.as_str()) ": " (count) " × " (what) } }
        }
    }
}

/// Of all rounds together, to the last percentile that there are enough answers for.
fn percentile_curve(report: &Report, load: &str, side: Side) -> Curve {
    let latency = report.merged(load, side).latency;
    let most = (latency.count().max(1) as f64).log10();
    let nines =
        (0..=STEPS).map(|step| 4.0 * f64::from(step) / f64::from(STEPS)).filter(|nines| *nines <= most);
    let points = nines.map(|nines| (nines, latency.at(1.0 - 10_f64.powf(-nines)).max(1.0))).collect();
    Curve { paint: paint(side), points, counted_from: 0.0 }
}

fn time_curves(report: &Report, load: &str, side: Side, value: fn(&Second) -> f64) -> Vec<Curve> {
    report.of(load, side).map(|sample| curve(sample, paint(side), value)).collect()
}

fn processes(sample: &Sample, value: fn(&Second) -> &Each) -> Vec<Curve> {
    let picks = PROCESSES.iter().map(|(_, pick)| pick).enumerate();
    picks.map(|(at, pick)| curve(sample, Paint::series(at), |second| pick(value(second)))).collect()
}

fn curve(sample: &Sample, paint: Paint, value: impl Fn(&Second) -> f64) -> Curve {
    let points = sample.seconds.iter().map(|second| (second.at_s, value(second))).collect();
    Curve { paint, points, counted_from: sample.warm_up_s }
}

fn stages(report: &Report, load: &str) -> anyhow::Result<Markup> {
    let names = agentbus::telemetry::Stage::ALL.iter().map(|stage| stage.as_str());
    let bars = names.filter_map(|name| {
        let of = report.of(load, Side::Bus).filter_map(|sample| sample.stages.get(name).copied());
        let spread = Spread::of(of)?;
        Some(Bar {
            label: name.to_owned(),
            paint: paint(Side::Bus),
            value: spread.median,
            range: (spread.low, spread.high),
        })
    });
    charts::bars(&bars.collect::<Vec<_>>())
}

fn has(report: &Report, side: Side) -> bool {
    report.samples.iter().any(|sample| sample.side == side)
}

fn paint(side: Side) -> Paint {
    Paint::series(match side {
        Side::Bus => 0,
        Side::Baseline => 1,
        Side::Direct => 2,
    })
}

fn figure(title: &str, chart: Markup) -> Markup {
    with_legend(title, &html! {}, chart)
}

fn with_legend(title: &str, legend: &Markup, chart: Markup) -> Markup {
    html! { figure { figcaption { (title) } (legend) div.scrolls role="img" aria-label=(title) { (chart) } } }
}

fn legend(of: impl Iterator<Item = (String, Paint)>) -> Markup {
    html! {
        ul.legend {
            @for (name, paint) in of { li { span class={ "swatch c" (paint.0) } {} (name) } }
        }
    }
}
