//! What does the process itself take? The numbers that every exporter has, under the names that they have there.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{TypedMetric, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use crate::memory::{RESIDENT, bytes_of};

/// Looked at when it is asked for. What a system does not tell is left out.
#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    pub(super) fn starting_now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: since.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
        let help = "Time on the processors, by user and system";
        put(&mut encoder, "process_cpu", help, Some(Unit::Seconds), &cpu)?;
        let started = ConstGauge::new(self.started);
        put(&mut encoder, "process_start_time", "When it began, since 1970", Some(Unit::Seconds), &started)?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (name, line, help) in [
            ("process_resident_memory", RESIDENT, "Memory that it has in RAM"),
            ("process_virtual_memory", "VmSize:", "Memory that it has addresses for"),
        ] {
            if let Some(bytes) = bytes_of(&status, line) {
                let bytes = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
                put(&mut encoder, name, help, Some(Unit::Bytes), &bytes)?;
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let open = ConstGauge::new(i64::try_from(open.count()).unwrap_or(i64::MAX));
            put(&mut encoder, "process_open_fds", "File descriptors that are open", None, &open)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            let most = ConstGauge::new(i64::try_from(most).unwrap_or(i64::MAX));
            put(&mut encoder, "process_max_fds", "File descriptors that may be open", None, &most)?;
        }
        Ok(())
    }
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    metric: &(impl TypedMetric + EncodeMetric),
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
}
