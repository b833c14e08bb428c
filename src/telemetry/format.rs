//! In which form are the numbers written? Prometheus' own text, which everything reads, or OpenMetrics.

/// A text form of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an `Accept` header asks for: OpenMetrics only where it is named, and not after the other.
    pub fn accepted(accept: &str) -> Self {
        let wish = |kind: &str| accept.split(',').filter_map(|range| quality(range, kind)).reduce(f32::max);
        let open = wish("application/openmetrics-text").unwrap_or(0.0);
        let text = wish("text/plain").unwrap_or(0.0);
        if open > 0.0 && open >= text { Format::OpenMetrics } else { Format::Text }
    }
}

/// How much a range of an `Accept` header asks for this media type, from 0 to 1. `None`: for another one.
fn quality(range: &str, kind: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(kind) {
        return None;
    }
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    match quality {
        // What cannot be read is no wish.
        Some(quality) => Some(quality.parse().unwrap_or(0.0)),
        None => Some(1.0),
    }
}

/// The same numbers in Prometheus' text format 0.0.4: families are named as their samples are, and there are
/// neither units nor an end.
pub(super) fn text_of(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // What HELP says comes before TYPE, which says how the family is named.
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            let told = help.split_once(' ').filter(|(of, _)| *of == name).map_or("", |(_, told)| told);
            text.push_str(&format!("# HELP {name}{suffix} {told}\n# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(without_exemplar(line));
            text.push('\n');
        }
    }
    text
}

/// Only buckets have exemplars.
fn without_exemplar(line: &str) -> &str {
    match line.split_once(" # {") {
        Some((sample, _)) if sample.contains("_bucket{") => sample,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_their_samples_are() {
        let open = "# HELP a_build Who.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n\
                    # HELP a_cpu_seconds CPU.\n# TYPE a_cpu_seconds counter\n# UNIT a_cpu_seconds seconds\n\
                    a_cpu_seconds_total 1.5\n# HELP a_g G.\n# TYPE a_g gauge\na_g 2\n# HELP a_h H.\n\
                    # TYPE a_h histogram\na_h_bucket{le=\"1.0\"} 3 # {trace_id=\"0a\"} 0.5 17.0\n# EOF\n";
        let text = "# HELP a_build_info Who.\n# TYPE a_build_info gauge\na_build_info{v=\"1\"} 1\n\
                    # HELP a_cpu_seconds_total CPU.\n# TYPE a_cpu_seconds_total counter\na_cpu_seconds_total 1.5\n\
                    # HELP a_g G.\n# TYPE a_g gauge\na_g 2\n# HELP a_h H.\n# TYPE a_h histogram\n\
                    a_h_bucket{le=\"1.0\"} 3\n";
        assert_eq!(text_of(open), text);
    }
}
