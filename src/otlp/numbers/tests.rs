#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::*;

const TEXT: &str = "# HELP a_build Who.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n\
    # HELP a_cpu_seconds CPU.\n# TYPE a_cpu_seconds counter\n# UNIT a_cpu_seconds seconds\na_cpu_seconds_total 1.5\n\
    # HELP a_sent Sent, by whom.\n# TYPE a_sent counter\na_sent_total{by=\"a \\\"b\\\" {c}\\\\\",to=\"d\"} 7\n\
    # HELP a_took How long.\n# TYPE a_took histogram\n# UNIT a_took seconds\na_took_sum{verb=\"send\"} 4.25\n\
    a_took_count{verb=\"send\"} 6\na_took_bucket{le=\"0.5\",verb=\"send\"} 2\n\
    a_took_bucket{le=\"1.0\",verb=\"send\"} 5 # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 0.75 17.5\n\
    a_took_bucket{le=\"+Inf\",verb=\"send\"} 6\n# EOF\n";

#[test]
fn the_numbers_are_those_of_the_page() {
    let metrics = read(TEXT, UNIX_EPOCH);
    let names: Vec<_> = metrics.iter().map(|metric| (metric.name.as_str(), metric.unit.as_str())).collect();
    assert_eq!(names, [("a_build", "1"), ("a_cpu_seconds", "s"), ("a_sent", "1"), ("a_took", "s")]);
    assert_eq!(metrics[2].description, "Sent, by whom.");
    let Some(Data::Gauge(build)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
    assert_eq!(build.data_points[0].value, Some(Number::AsInt(1)));
    let Some(Data::Sum(cpu)) = &metrics[1].data else { panic!("{:?}", metrics[1]) };
    assert_eq!(cpu.data_points[0].value, Some(Number::AsDouble(1.5)));
    assert!(cpu.is_monotonic && cpu.aggregation_temporality == CUMULATIVE);
    let Some(Data::Sum(sent)) = &metrics[2].data else { panic!("{:?}", metrics[2]) };
    let by = [pair("by", "a \"b\" {c}\\".into()), pair("to", "d".into())];
    assert_eq!(sent.data_points[0].attributes, by);
    let Some(Data::Histogram(took)) = &metrics[3].data else { panic!("{:?}", metrics[3]) };
    let [point] = &took.data_points[..] else { panic!("{took:?}") };
    assert_eq!((point.count, point.sum), (6, Some(4.25)));
    assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[2, 3, 1][..], &[0.5, 1.0][..]));
    assert_eq!(point.attributes, [pair("verb", "send".into())]);
    let [exemplar] = &point.exemplars[..] else { panic!("{point:?}") };
    assert_eq!(exemplar.value, Some(exemplar::Value::AsDouble(0.75)));
    assert_eq!(exemplar.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(exemplar.time_unix_nano, 17_500_000_000);
    assert_eq!(metrics.iter().map(points).sum::<usize>(), 4);
}

#[test]
fn the_page_of_a_node_is_read_whole() {
    let node = crate::telemetry::Metrics::new("node-1");
    let text = node.encode();
    let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(read(&text, UNIX_EPOCH).len(), families);
}
