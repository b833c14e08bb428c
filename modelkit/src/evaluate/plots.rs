//! What do the figures look like: plots as inline SVG, coloured by the page's style sheet.

use std::fmt::Write as _;

use super::{histogram, reliability, steps};

/// Of the drawing area, in SVG units; the axes' words stand outside.
const SIDE: f64 = 260.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 12.0;
/// A longer curve is thinned; more points than pixels show nothing.
const POINTS_MAX: usize = 600;

/// False positives against what is found.
pub(super) fn roc(pairs: &[(f64, bool)], threshold: f64) -> String {
    let steps = steps(pairs);
    let (high, harmless) = kinds(pairs);
    let point = |found: usize, alarms: usize| (share(alarms, harmless), share(found, high));
    let mut points = vec![(0.0, 0.0)];
    points.extend(steps.iter().map(|step| point(step.found, step.false_alarms)));
    let here = steps.iter().rfind(|step| step.score >= threshold);
    let mut plot = Plot::new("ROC", "false positive rate", "found (recall)");
    plot.line("chance", &[(0.0, 0.0), (1.0, 1.0)]);
    plot.line("curve", &points);
    plot.dot(here.map_or((0.0, 0.0), |step| point(step.found, step.false_alarms)));
    plot.finish()
}

pub(super) fn precision_recall(pairs: &[(f64, bool)], threshold: f64) -> String {
    let steps = steps(pairs);
    let (high, harmless) = kinds(pairs);
    let point = |found: usize, alarms: usize| (share(found, high), share(found, found + alarms));
    let points: Vec<(f64, f64)> = steps.iter().map(|step| point(step.found, step.false_alarms)).collect();
    let base = share(high, high + harmless);
    let mut plot = Plot::new("Precision and recall", "found (recall)", "precision");
    plot.line("chance", &[(0.0, base), (1.0, base)]);
    plot.line("curve", &points);
    if let Some(step) = steps.iter().rfind(|step| step.score >= threshold) {
        plot.dot(point(step.found, step.false_alarms));
    }
    plot.finish()
}

/// Scores against how many are harmful indeed; dots grow with the number of texts.
pub(super) fn calibration(pairs: &[(f64, bool)]) -> String {
    let bins = reliability(pairs, super::BINS);
    let most = bins.iter().map(|bin| bin.texts).max().unwrap_or(1);
    let mut plot = Plot::new("Reliability", "mean score", "share that is high");
    plot.line("chance", &[(0.0, 0.0), (1.0, 1.0)]);
    let points: Vec<(f64, f64)> = bins.iter().map(|bin| (bin.mean_score, bin.share_high)).collect();
    plot.line("curve", &points);
    for (bin, point) in bins.iter().zip(points) {
        let radius = 3.0 + 5.0 * (bin.texts as f64 / most as f64).sqrt();
        plot.circle(point, radius, &format!("{} texts", bin.texts));
    }
    plot.finish()
}

/// How the scores of harmless (above the middle) and harmful texts (below it) are spread.
pub(super) fn scores(pairs: &[(f64, bool)], threshold: f64) -> String {
    const BINS: usize = 40;
    let counts = histogram(pairs, BINS);
    let most = |side: fn(&(usize, usize)) -> usize| counts.iter().map(side).max().unwrap_or(0).max(1);
    let (harmless_most, harmful_most) = (most(|it| it.0), most(|it| it.1));
    let mut plot = Plot::new("Scores", "score", "texts, each kind by its own scale");
    plot.axis_numbers = false;
    let width = 1.0 / BINS as f64;
    for (at, (harmless, harmful)) in counts.iter().enumerate() {
        let left = at as f64 * width;
        let up = 0.5 * share(*harmless, harmless_most);
        let down = 0.5 * share(*harmful, harmful_most);
        let title = |count: usize, kind: &str| format!("{count} {kind}, {left:.3} to {:.3}", left + width);
        plot.bar("harmless", (left, 0.5), (width, up), &title(*harmless, "not high"));
        plot.bar("harmful", (left, 0.5 - down), (width, down), &title(*harmful, "high"));
    }
    plot.line("rule", &[(0.0, 0.5), (1.0, 0.5)]);
    plot.line("threshold", &[(threshold, 0.0), (threshold, 1.0)]);
    plot.words((0.53, 0.95), &format!("not high (most: {harmless_most})"));
    plot.words((0.02, 0.03), &format!("high (most: {harmful_most})"));
    plot.finish()
}

fn kinds(pairs: &[(f64, bool)]) -> (usize, usize) {
    let high = pairs.iter().filter(|(_, high)| *high).count();
    (high, pairs.len() - high)
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// One square with axes from 0 to 1.
struct Plot {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    axis_numbers: bool,
    body: String,
}

impl Plot {
    fn new(title: &'static str, x: &'static str, y: &'static str) -> Self {
        Self { title, x, y, axis_numbers: true, body: String::new() }
    }

    fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let every = points.len().div_ceil(POINTS_MAX).max(1);
        let last = points.len().saturating_sub(1);
        let kept = points.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
        let mut path = String::new();
        for (_, &point) in kept {
            let (x, y) = place(point);
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        let _ = write!(self.body, r#"<polyline class="{class}" points="{}"/>"#, path.trim_end());
    }

    fn dot(&mut self, point: (f64, f64)) {
        self.circle(point, 5.0, "at the threshold");
    }

    fn circle(&mut self, point: (f64, f64), radius: f64, title: &str) {
        let (x, y) = place(point);
        let _ = write!(
            self.body,
            r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}"><title>{title}</title></circle>"#
        );
    }

    fn bar(&mut self, class: &str, (left, bottom): (f64, f64), (width, height): (f64, f64), title: &str) {
        let (x, y) = place((left, bottom + height));
        let _ = write!(
            self.body,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{:.1}" height="{:.1}"><title>{title}</title></rect>"#,
            width * SIDE - 0.6,
            height * SIDE
        );
    }

    fn words(&mut self, point: (f64, f64), words: &str) {
        let (x, y) = place(point);
        let _ = write!(self.body, r#"<text x="{x:.1}" y="{y:.1}">{words}</text>"#);
    }

    fn finish(self) -> String {
        let (width, height) = (LEFT + SIDE + 14.0, TOP + SIDE + 44.0);
        let (right, bottom) = place((1.0, 0.0));
        let mut svg = format!(
            r#"<figure><figcaption>{}</figcaption><svg viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="{}">"#,
            self.title, self.title
        );
        for quarter in 0..=4 {
            let at = f64::from(quarter) / 4.0;
            let (x, y) = place((at, at));
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom:.1}"/><text class="tick" x="{x:.1}" y="{:.1}" text-anchor="middle">{at}</text>"#,
                bottom + 15.0
            );
            if self.axis_numbers {
                let _ = write!(
                    svg,
                    r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{right:.1}" y2="{y:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{at}</text>"#,
                    LEFT - 6.0,
                    y + 4.0
                );
            }
        }
        let (middle_x, middle_y) = place((0.5, 0.5));
        let _ = write!(
            svg,
            r#"{}<text class="axis" x="{middle_x:.1}" y="{:.1}" text-anchor="middle">{}</text><text class="axis" transform="translate(13 {middle_y:.1}) rotate(-90)" text-anchor="middle">{}</text></svg></figure>"#,
            self.body,
            bottom + 34.0,
            self.x,
            self.y
        );
        svg
    }
}

/// A point of 0 to 1 in SVG units, whose y goes down.
fn place((x, y): (f64, f64)) -> (f64, f64) {
    (LEFT + x.clamp(0.0, 1.0) * SIDE, TOP + (1.0 - y.clamp(0.0, 1.0)) * SIDE)
}
