//! What may be left untested here? What this CPU cannot run, unless it is declared to be able to.
//!
//! `AGENTBUS_CPU_HAS` declares: names as in /proc/cpuinfo, by spaces or commas. `.ci/run` sets it.

use crate::{Format, Level};

/// All kernels of layers that there are.
pub const LAYERS: [(Level, Format); 5] = [
    (Level::Avx512, Format::F32),
    (Level::Avx512, Format::Bf16),
    (Level::Avx512, Format::Int8),
    (Level::Avx2, Format::F32),
    (Level::Avx2, Format::Int8),
];

/// Whether a test of these kernels has nothing to do here. It has where they are declared: then a
/// CPU without them, or a mistake in asking for them, is a failure.
pub fn skips(level: Level, format: Format) -> bool {
    let Some(missing) = format.missing(level) else { return false };
    let declared = std::env::var("AGENTBUS_CPU_HAS").unwrap_or_default();
    assert!(
        !declares(&declared, level, format),
        "AGENTBUS_CPU_HAS declares what {format:?} needs at {level:?}, but {missing} was not found"
    );
    println!("skipped: {format:?} at {level:?}, no {missing}");
    true
}

fn declares(declared: &str, level: Level, format: Format) -> bool {
    let wide = ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"].as_slice();
    let needs = match level {
        Level::Avx512 => wide,
        Level::Avx2 | Level::Baseline => &["avx2", "fma"],
    };
    let beside = match (level, format) {
        (Level::Avx512, Format::Bf16) => Some("avx512_bf16"),
        (Level::Avx512, Format::Int8) => Some("avx512_vnni"),
        _ => None,
    };
    let has = |name: &&str| declared.split([' ', ',']).any(|found| found == *name);
    needs.iter().chain(beside.as_ref()).all(has)
}

#[test]
fn what_is_declared_may_not_be_skipped_and_all_else_may() {
    let declared = "fpu avx avx2,fma avx512f avx512bw avx512dq avx512vl avx512_vnni";
    assert!(declares(declared, Level::Avx2, Format::Int8));
    assert!(declares(declared, Level::Avx512, Format::F32));
    assert!(declares(declared, Level::Avx512, Format::Int8));
    assert!(!declares(declared, Level::Avx512, Format::Bf16));
    assert!(!declares("avx2", Level::Avx2, Format::F32));
    assert!(!declares("", Level::Avx2, Format::F32));
}
