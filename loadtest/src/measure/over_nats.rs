//! Were the targets met of what was measured over NATS?

use crate::{
    run::{
        profile::Side,
        sheet::{Metric, Report, Sample, loads},
    },
    spread::Spread,
    targets::{Is, Target},
};

/// P1, P2 and P4.
pub(super) fn saturated(report: &Report) -> Vec<Target> {
    let mut targets = Vec::new();
    let alone = "1 in flight";
    for load in loads(&report.samples).into_iter().filter(|load| *load != alone) {
        targets.extend(rates(report, load));
        let how = format!("node's processor time a message, policy cached, {load}");
        targets.extend(processor(report, load, 9.0, how));
    }
    let how = format!("P50 ÷ (baseline + a bare round trip to Redis + one to NATS), {alone}");
    targets.extend(Target::new("P2", beside_trips(report, alone), (Is::AtMost, 1.2), "×", how));
    targets
}

/// P1 of other traffic.
pub(super) fn beside_baseline(report: &Report) -> Vec<Target> {
    loads(&report.samples).into_iter().flat_map(|load| rates(report, load)).collect()
}

fn rates(report: &Report, load: &str) -> Vec<Target> {
    let of = |metric| report.spread(load, Side::Bus, metric, Some(Side::Baseline));
    let name = &report.name;
    let rate = Target::new(
        "P1",
        of(Metric::Rate),
        (Is::AtLeast, 0.65),
        "×",
        format!("rate ÷ baseline, {name}, {load}"),
    );
    let how = format!("processor time of all processes, baseline ÷ bus, {name}, {load}");
    let processor = of(Metric::AllProcessor).map(inverse);
    rate.into_iter().chain(Target::new("P1", processor, (Is::AtLeast, 0.65), "×", how)).collect()
}

fn inverse(spread: Spread) -> Spread {
    Spread { median: 1.0 / spread.median, low: 1.0 / spread.high, high: 1.0 / spread.low }
}

fn processor(report: &Report, load: &str, most: f64, how: String) -> Option<Target> {
    let found = report.spread(load, Side::Bus, Metric::NodeProcessor, None);
    Target::new("P4", found, (Is::AtMost, most), "µs", how)
}

/// The bus's P50 to the least that its way could take: the baseline's and a round trip to each server, of the same
/// round.
fn beside_trips(report: &Report, load: &str) -> Option<Spread> {
    let p50 = |sample: &Sample| Metric::P50.of(sample);
    let ratios = report.of(load, Side::Bus).filter_map(|bus| {
        let beside = report.of(load, Side::Baseline).find(|sample| sample.round == bus.round)?;
        let trips = report.trips.get(usize::try_from(bus.round).ok()?.checked_sub(1)?)?;
        Some(p50(bus)? / (p50(beside)? + trips.nats_us + trips.redis_us))
    });
    Spread::of(ratios)
}

/// P3.
pub(super) fn open(report: &Report) -> Vec<Target> {
    let mut targets = Vec::new();
    for load in loads(&report.samples) {
        let ratio = |metric| report.spread(load, Side::Bus, metric, Some(Side::Baseline));
        let new = |found, most, unit, how: &str| {
            Target::new("P3", found, (Is::AtMost, most), unit, format!("{how}, {load}"))
        };
        targets.extend(new(ratio(Metric::P50), 2.0, "×", "P50 ÷ baseline"));
        targets.extend(new(ratio(Metric::P99), 1.5, "×", "P99 ÷ baseline"));
        let inside = report.spread(load, Side::Bus, Metric::InsideP99, None);
        targets.extend(new(inside, 500.0, "µs", "P99 inside the node"));
    }
    targets
}

/// P4, uncached.
pub(super) fn uncached(report: &Report) -> Vec<Target> {
    let of = |load: &str| {
        let how = format!("node's processor time a message, policy not cached, {load}");
        processor(report, load, 20.0, how)
    };
    loads(&report.samples).into_iter().filter_map(of).collect()
}

/// P11.
pub(super) fn beside_model(report: &Report) -> Vec<Target> {
    let p99 = |sample: &Sample| Metric::P99.of(sample);
    let (spared, scored): (Vec<&Sample>, Vec<&Sample>) =
        report.samples.iter().partition(|sample| sample.load.ends_with("spared"));
    let ratios = scored.into_iter().filter_map(|scored| {
        let spared = spared.iter().find(|spared| spared.round == scored.round)?;
        Some(p99(scored)? / p99(spared)?)
    });
    let how = "P99 of messages that need no model, beside a scored flood ÷ beside a spared one";
    Target::new("P11", Spread::of(ratios), (Is::AtMost, 1.2), "×", how).into_iter().collect()
}

/// P12.
pub(super) fn scaled(report: &Report) -> Vec<Target> {
    let labels = report.profile.load.iter().map(|load| (report.profile.nodes_of(load), load.label()));
    let labels: Vec<(u32, String)> = labels.collect();
    let Some((_, alone)) = labels.iter().find(|(nodes, _)| *nodes == 1) else { return Vec::new() };
    let of = |(nodes, label): &(u32, String)| {
        let ratios = report.of(label, Side::Bus).filter_map(|sample| {
            let one = report.of(alone, Side::Bus).find(|one| one.round == sample.round)?;
            Some(sample.rate / (one.rate * f64::from(*nodes)))
        });
        let how = format!(
            "rate of {nodes} nodes ÷ {nodes} times the rate of one, each with the same share of a core"
        );
        Target::new("P12", Spread::of(ratios), (Is::AtLeast, 0.9), "×", how)
    };
    labels.iter().filter(|(nodes, _)| *nodes > 1).filter_map(of).collect()
}

/// P14.
pub(super) fn durable(report: &Report) -> Vec<Target> {
    let of = |load: &str| {
        let found = report.spread(load, Side::Bus, Metric::Rate, Some(Side::Baseline));
        Target::new("P14", found, (Is::AtLeast, 0.6), "×", format!("rate ÷ bare JetStream, {load}"))
    };
    loads(&report.samples).into_iter().filter_map(of).collect()
}

/// G8: beside the closed loop that has found the peak, of the same round.
pub(super) fn overloaded(report: &Report) -> Vec<Target> {
    let Some(beyond) = report.profile.load.first().map(|load| load.label()) else { return Vec::new() };
    let of = |metric: Metric| Spread::of(report.of(&beyond, Side::Bus).filter_map(move |it| metric.of(it)));
    let beside_peak = |metric: Metric| {
        Spread::of(report.of(&beyond, Side::Bus).filter_map(|sample| {
            let peak = report.samples.iter().find(|it| it.round == sample.round && it.load != beyond)?;
            Some(metric.of(sample)? / metric.of(peak)?)
        }))
    };
    let targets = [
        (beside_peak(Metric::Rate), (Is::AtLeast, 0.9), "×", "rate ÷ peak"),
        (of(Metric::RefusedP99), (Is::AtMost, 5_000.0), "µs", "P99 of refusals"),
        (beside_peak(Metric::NodeMemory), (Is::AtMost, 2.0), "×", "node's memory ÷ at the peak"),
    ];
    let new = |(found, is, unit, how): (_, _, _, &str)| {
        Target::new("G8", found, is, unit, format!("{how}, {beyond}"))
    };
    targets.into_iter().filter_map(new).collect()
}

/// That nothing grows.
pub(super) fn soaked(report: &Report) -> Vec<Target> {
    let of = |metric: Metric, most| {
        let found = Spread::of(report.samples.iter().filter_map(|sample| metric.of(sample)));
        let how = format!("{} at {}", metric.as_str(), report.profile.load.first()?.label());
        Target::new("soak", found, (Is::AtMost, most), metric.unit(), how)
    };
    [of(Metric::NodeGrowth, 1.0), of(Metric::Drift, 2.0)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
