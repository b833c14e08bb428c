//! The node's numbers in OTLP's form, read off the text that `/metrics` gives: so that both say the same.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, exemplar, metric::Data, number_data_point::Value as Number,
    },
};

use super::values::{Source, nanos, pair};
use crate::trace::TraceId;

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

pub(super) fn request(source: &Source, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { scope: source.scope(), metrics, schema_url: String::new() }];
    let resource_metrics =
        vec![ResourceMetrics { resource: source.resource(), scope_metrics, schema_url: String::new() }];
    ExportMetricsServiceRequest { resource_metrics }
}

/// Data points of a metric.
pub(super) fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    }
}

/// All numbers of a text in OpenMetrics' form. `since`: when they were all zero.
pub(super) fn read(text: &str, since: SystemTime) -> Vec<Metric> {
    let span = (nanos(since), nanos(SystemTime::now()));
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, told)| told);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            families.push(Family { name, kind, help, unit: "", samples: Vec::new() });
        } else if let (Some(rest), Some(family)) = (line.strip_prefix("# UNIT "), families.last_mut()) {
            family.unit = rest.split_once(' ').map_or("", |(_, unit)| unit);
        } else if let (Some(sample), Some(family)) = (Sample::read(line), families.last_mut()) {
            family.samples.push(sample);
        }
    }
    families.into_iter().filter_map(|family| family.told(span)).collect()
}

struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    unit: &'a str,
    samples: Vec<Sample<'a>>,
}

struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
    exemplar: Option<Exemplar>,
}

impl Family<'_> {
    fn told(self, span: (u64, u64)) -> Option<Metric> {
        let Self { name, kind, help, unit, samples } = self;
        let unit = match unit {
            "seconds" => "s",
            "bytes" => "By",
            _ => "1",
        };
        let numbers = || samples.iter().filter_map(|sample| sample.number(span)).collect();
        let data = match kind {
            "counter" => Data::Sum(Sum {
                data_points: numbers(),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: histograms(samples, span),
                aggregation_temporality: CUMULATIVE,
            }),
            "gauge" | "info" => Data::Gauge(Gauge { data_points: numbers() }),
            _ => return None,
        };
        let (name, description, unit) = (name.to_owned(), help.to_owned(), unit.to_owned());
        Some(Metric { name, description, unit, data: Some(data), ..Metric::default() })
    }
}

impl<'a> Sample<'a> {
    /// `name{label="value",…} value`, and behind a bucket's ` # {trace_id="…"} value time`.
    fn read(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let at = line.find(['{', ' '])?;
        let (name, rest) = line.split_at_checked(at)?;
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let (value, exemplar) = match rest.split_once(" # {") {
            Some((value, exemplar)) => (value, read_exemplar(exemplar)),
            None => (rest, None),
        };
        Some(Self { name, labels, value: value.trim(), exemplar })
    }

    fn number(&self, (since, now): (u64, u64)) -> Option<NumberDataPoint> {
        let value = match self.value.parse() {
            Ok(whole) => Number::AsInt(whole),
            Err(_) => Number::AsDouble(self.value.parse().ok()?),
        };
        Some(NumberDataPoint {
            attributes: attributes(&self.labels),
            start_time_unix_nano: since,
            time_unix_nano: now,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    }
}

fn attributes(labels: &[(&str, String)]) -> Vec<KeyValue> {
    labels.iter().map(|(key, value)| pair(*key, value.as_str().into())).collect()
}

/// Up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (mut value, mut letters) = (String::new(), quoted.char_indices());
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next()? {
                    (_, 'n') => '\n',
                    (_, letter) => letter,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name, value));
        let after = quoted.get(end + 1..)?;
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

/// Of the form that `telemetry` gives them: a trace id, the value and when.
fn read_exemplar(text: &str) -> Option<Exemplar> {
    let (labels, rest) = labels(text)?;
    let (_, trace) = labels.into_iter().find(|(name, _)| *name == "trace_id")?;
    let mut numbers = rest.split_whitespace();
    let value: f64 = numbers.next()?.parse().ok()?;
    let at: f64 = numbers.next().unwrap_or("0").parse().ok()?;
    let at = UNIX_EPOCH + Duration::try_from_secs_f64(at).ok()?;
    Some(Exemplar {
        time_unix_nano: nanos(at),
        trace_id: TraceId::parse(&trace)?.0.to_be_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(value)),
        ..Exemplar::default()
    })
}

/// The samples of each set of labels make one.
fn histograms(samples: Vec<Sample<'_>>, (since, now): (u64, u64)) -> Vec<HistogramDataPoint> {
    let mut all: BTreeMap<Vec<(&str, String)>, HistogramDataPoint> = BTreeMap::new();
    for Sample { name, mut labels, value, exemplar } in samples {
        let bound = labels.iter().position(|(name, _)| *name == "le").map(|at| labels.remove(at).1);
        let point = all.entry(labels).or_default();
        match bound {
            Some(bound) => {
                // Each counts those before it, too.
                let before: u64 = point.bucket_counts.iter().sum();
                point.bucket_counts.push(value.parse::<u64>().unwrap_or(0).saturating_sub(before));
                if let Ok(bound) = bound.parse::<f64>()
                    && bound.is_finite()
                {
                    point.explicit_bounds.push(bound);
                }
                point.exemplars.extend(exemplar);
            }
            None if name.ends_with("_count") => point.count = value.parse().unwrap_or(0),
            None => point.sum = value.parse().ok(),
        }
    }
    let told = all.into_iter().map(|(labels, point)| HistogramDataPoint {
        attributes: attributes(&labels),
        start_time_unix_nano: since,
        time_unix_nano: now,
        ..point
    });
    told.collect()
}

#[cfg(test)]
mod tests;
