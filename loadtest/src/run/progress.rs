//! What does a person see who waits? On a terminal one line that renews itself, and a line for each measurement that
//! is over; elsewhere only those.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    measure::Now,
    profile::{Load, Profile, Side},
    sheet::Sample,
};

const RENEWED: Duration = Duration::from_millis(250);

pub(crate) struct Progress {
    bar: ProgressBar,
    measure: Duration,
}

impl Progress {
    pub(crate) fn new(name: &str, profile: &Profile) -> Self {
        let peaks = profile.load.iter().filter(|load| load.of_peak.is_some()).count();
        let all = profile.rounds as usize * profile.sides.len() * (profile.load.len() + peaks);
        // Hidden by itself where there is no terminal.
        let bar = ProgressBar::new(all as u64);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {pos}/{len} {bar:12} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(RENEWED);
        Self { bar, measure: profile.measure }
    }

    pub(crate) fn begins(&self, round: u32, side: Side, load: &Load) {
        self.bar.set_message(format!("round {round}, {}, {}: connecting", side.as_str(), load.label()));
    }

    pub(crate) fn goes(&self, now: &Now<'_>) {
        let state = match now.counted {
            None => "warming up".to_owned(),
            Some(counted) => format!("{:.0} of {:.0} s", counted.as_secs_f64(), self.measure.as_secs_f64()),
        };
        self.bar.set_message(format!(
            "{state}, {}/s, P50 {:.0} µs, cores {:.1} node {:.1} NATS {:.1} Redis {:.1} client",
            now.point.answered * 4,
            now.point.p50_us,
            now.cores.node,
            now.cores.nats,
            now.cores.redis,
            now.cores.client
        ));
    }

    pub(crate) fn ends(&self, sample: &Sample) {
        let latency = &sample.tally.latency;
        let line = format!(
            "round {}  {:8}  {:28}  {:>8.0}/s  P50 {:>7.0} µs  P99 {:>7.0} µs  {:>6.1} µs of processor{}{}",
            sample.round,
            sample.side.as_str(),
            sample.load,
            sample.rate,
            latency.at(0.5),
            latency.at(0.99),
            sample.processor_us.sum(),
            if sample.steady { "" } else { ", not steady" },
            match sample.tally.failed_total() {
                0 => String::new(),
                failed => format!(", {failed} errors"),
            }
        );
        self.bar.inc(1);
        self.bar.suspend(|| eprintln!("{line}"));
    }

    pub(crate) fn close(&self) {
        self.bar.finish_and_clear();
    }
}
