#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// A system that tells this.
fn system(files: &[(&str, &str)]) -> (System, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    (System { proc: folder.path().join("proc"), groups: folder.path().join("cgroup") }, folder)
}

const MACHINE: (&str, &str) =
    ("proc/meminfo", "MemTotal: 1000000 kB\nMemFree: 1 kB\nMemAvailable: 400000 kB\n");

#[test]
fn the_nearest_limit_of_all_groups_counts_without_what_the_kernel_can_take_back() {
    for (files, expected) in [
        // No groups: the machine.
        (vec![MACHINE], Some((600_000 * 1024, 1_000_000 * 1024))),
        // A group without a limit: the machine.
        (
            vec![MACHINE, ("proc/self/cgroup", "0::/a\n"), ("cgroup/a/memory.max", "max\n")],
            Some((600_000 * 1024, 1_000_000 * 1024)),
        ),
        // Version 2, where the group above is nearer to its limit.
        (
            vec![
                MACHINE,
                ("proc/self/cgroup", "0::/a/b\n"),
                ("cgroup/a/b/memory.max", "1000\n"),
                ("cgroup/a/b/memory.current", "300\n"),
                ("cgroup/a/memory.max", "2000\n"),
                ("cgroup/a/memory.current", "1900\n"),
                ("cgroup/a/memory.stat", "anon 5\nactive_file 60\ninactive_file 40\n"),
            ],
            Some((1_800, 2_000)),
        ),
        // Version 1, in a container that does not see the machine's path.
        (
            vec![
                ("proc/self/cgroup", "12:cpu,cpuacct:/x\n7:memory:/docker/x\n"),
                ("cgroup/memory/memory.limit_in_bytes", "1000"),
                ("cgroup/memory/memory.usage_in_bytes", "700"),
                ("cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n"),
            ],
            Some((600, 1_000)),
        ),
        (vec![("proc/self/cgroup", "junk\n0::\n"), ("proc/meminfo", "MemTotal: x kB\n")], None),
        (vec![], None),
    ] {
        let (system, _folder) = system(&files);
        let read = system.read().map(|reading| (reading.used, reading.limit));
        assert_eq!(read, expected, "{files:?}");
    }
}

#[test]
fn a_level_is_left_only_with_more_room_than_where_it_began() {
    let (system, folder) = system(&[("proc/self/status", "VmRSS: 0 kB\n")]);
    let memory = Memory::of(system, Some(1000 * 1024));
    let mut at = |used: u64| {
        fs::write(folder.path().join("proc/self/status"), format!("VmRSS: {used} kB\n")).unwrap();
        memory.look()
    };
    use Pressure::{None, Short, Tight};
    let used = [0, 840, 860, 845, 800, 930, 905, 895, 810];
    let found = used.map(&mut at);
    assert_eq!(found, [None, None, Tight, Tight, None, Short, Short, Tight, None]);
    assert_eq!(memory.reading().share(), 0.81);
}

#[test]
fn a_machine_keeps_no_more_than_so_many_bytes_free() {
    let of = |free: u64| {
        let limit = 64 << 30;
        Reading { used: limit - free, limit, shared: true }.pressure(Pressure::None)
    };
    assert_eq!([1 << 30, 400 << 20, 200 << 20].map(of), [Pressure::None, Pressure::Tight, Pressure::Short]);
}

#[test]
fn where_nobody_says_there_is_no_pressure() {
    let (system, _folder) = system(&[]);
    let memory = Memory::of(system, None);
    assert_eq!((memory.look(), memory.reading().limit), (Pressure::None, 0));
}

#[test]
fn files_that_are_mapped_are_not_counted_against_the_operators_limit() {
    let status = "VmRSS: 990 kB\nRssAnon: 100 kB\nRssFile: 880 kB\nRssShmem: 10 kB\n";
    let (system, _folder) = system(&[("proc/self/status", status)]);
    let memory = Memory::of(system, Some(1000 * 1024));
    assert_eq!((memory.look(), memory.reading().used), (Pressure::None, 110 * 1024));
}

#[test]
fn of_a_group_above_no_more_is_kept_free_than_of_a_machine() {
    for (group, expected) in [("0::/a\n", Pressure::Short), ("0::/a/b\n", Pressure::None)] {
        let (limit, used) = ((64_u64 << 30).to_string(), (63_u64 << 30).to_string());
        let (system, _folder) = system(&[
            ("proc/self/cgroup", group),
            ("cgroup/a/b/memory.max", "max\n"),
            ("cgroup/a/memory.max", &limit),
            ("cgroup/a/memory.current", &used),
        ]);
        assert_eq!(Memory::of(system, None).look(), expected, "{group}");
    }
}
