//! Is what a profile says understood, and what it must not say refused with its key?

use super::*;

/// A profile with some lines instead of the load.
const HEAD: &str = "about = \"x\"\n[[group]]\nname = \"acme\"\n[[group.mix]]\nbytes = [512]\n";

fn refused(text: &str, words: &[&str]) {
    let error = format!("{:#}", parse(text).unwrap_err());
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}, of\n{text}");
    }
}

#[test]
fn every_profile_that_ships_may_be_run_and_has_its_tenants() {
    for (name, text) in SHIPPED {
        let chosen = shipped(name, text).unwrap();
        let file = super::super::world::tenants_file(&chosen.profile).unwrap();
        let plan = agentbus::tenants::Plan::parse(&file);
        let tenants: u32 = chosen.profile.group.iter().map(|group| group.tenants).sum();
        assert_eq!(plan.unwrap().tenants().len(), tenants as usize, "{name}");
        let written = toml::to_string(&chosen.profile).unwrap();
        assert_eq!(parse(&written).unwrap(), chosen.profile, "{name}");
    }
}

#[test]
fn every_profile_of_the_folder_ships() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut named: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    found.sort();
    named.sort_unstable();
    assert_eq!(found, named);
}

#[test]
fn a_key_that_nobody_knows_is_told_with_those_that_are() {
    refused(&format!("round = 3\n{HEAD}[[load]]\nrate = 1"), &["unknown field `round`", "rounds"]);
    refused(&format!("{HEAD}byte = 3\n[[load]]\nrate = 1"), &["unknown field `byte`", "bytes"]);
    refused(&format!("{HEAD}[[load]]\nrates = 1"), &["unknown field `rates`", "in_flight"]);
    refused(&format!("{HEAD}type = \"shout\"\n[[load]]\nrate = 1"), &["unknown variant `shout`", "event"]);
    refused(
        &format!("sides = [\"bush\"]\n{HEAD}[[load]]\nrate = 1"),
        &["unknown variant `bush`", "baseline"],
    );
    refused("about = \"x\"", &["missing field `group`"]);
}

#[test]
fn what_is_out_of_bounds_is_told_with_its_key_and_the_bounds() {
    for (line, words) in [
        ("rounds = 0", ["rounds: found 0", "1 to 100"]),
        ("measure = \"1ms\"", ["measure: found 1ms", "250ms to 1h"]),
        ("warm_up = \"9s\"", ["warm_up_max: found 4s", "9s to 5m"]),
        ("processes = 17", ["processes: found 17", "1 to 16"]),
        ("nodes = 9", ["nodes: found 9", "1 to 8"]),
        ("node_cores = 0", ["node_cores: found 0", "0.01 to 64"]),
        ("sync = \"never\"", ["sync", "never"]),
        ("nodes = 2\nmemory = true", ["memory: found it with nodes = 2", "expected 1 node"]),
        ("sides = []", ["sides:", "at least one"]),
        ("node = [\"impact.threads\"]", ["node: found", "impact.threads = 1"]),
        ("rounds = 100\nmeasure = \"1h\"", ["found a run of", "hours"]),
    ] {
        refused(&format!("{line}\n{HEAD}[[load]]\nrate = 1"), &words);
    }
    for (line, words) in [
        ("", ["load[0]: found nothing", "one of in_flight, rate, ramp and of_peak"]),
        ("rate = 1\nin_flight = 2", ["load[0]: found in_flight and rate", "one of"]),
        ("rate = 0", ["load[0].rate: found 0", "1 to 1000000"]),
        ("in_flight = 20000", ["load[0].in_flight: found 20000", "1 to 16384"]),
        ("of_peak = 1001", ["load[0].of_peak: found 1001", "1 to 1000"]),
        ("rate = 1\nnodes = 9", ["load[0].nodes: found 9", "1 to 8"]),
        ("ramp = { from = 9, to = 3 }", ["load[0].ramp.to: found 3", "9 to"]),
        ("rate = 1\nof = \"nobody\"", ["load[0].of: found \"nobody\"", "name of a group"]),
        ("rate = 1\nbeside = [\"acme\"]", ["load[0].beside: found \"acme\"", "another group"]),
        ("rate = 1\n[[load]]\nrate = 1", ["load: found the same load twice", "different"]),
    ] {
        refused(&format!("{HEAD}[[load]]\n{line}"), &words);
    }
}

#[test]
fn a_mix_that_cannot_be_answered_or_compared_is_told_before_anything_starts() {
    for (line, words) in [
        ("share = 0", ["group[0].mix[0].share: found 0", "1 to"]),
        ("corpus = \"x.jsonl\"", ["group[0].mix[0]: found bytes and corpus", "one of them"]),
        ("verb = \"ask\"\ntype = \"event\"", ["found ask to agent", "type that has an answer"]),
        ("verb = \"ask\"\nto = \"broadcast\"", ["found ask to broadcast", "agent or capability"]),
        ("expect = \"deliberating\"", ["found send to agent, deliberated", "judges"]),
        ("verb = \"submit\"\nexpect = \"delivered\"", ["found submit to agent", "expects stored"]),
    ] {
        refused(&format!("{HEAD}{line}\n[[load]]\nrate = 1"), &words);
    }
    for (sides, line, words) in [
        ("baseline", "to = \"capability\"", ["found send to capability", "sides = [\"bus\"]"]),
        ("direct", "verb = \"submit\"", ["found submit to agent", "no side direct"]),
        ("baseline", "verb = \"ask\"", ["found ask to agent", "no side baseline"]),
    ] {
        refused(&format!("sides = [\"{sides}\", \"bus\"]\n{HEAD}{line}\n[[load]]\nrate = 1"), &words);
    }
}

#[test]
fn a_profile_that_is_not_there_is_told_with_those_that_are() {
    let error = find("smoky").unwrap_err().to_string();
    assert!(error.contains("found profile \"smoky\", expected smoke, saturate"), "{error}");
    let error = format!("{:#}", find("nowhere/mine.toml").unwrap_err());
    assert!(error.contains("nowhere/mine.toml") && error.contains("No such file"), "{error}");
}

#[test]
fn a_corpus_lies_beside_its_profile_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let mix = "[[group.mix]]\ncorpus = \"NAME\"\n[[load]]\nrate = 1\n";
    let write = |name: &str| {
        let head = "about = \"x\"\n[[group]]\nname = \"acme\"\n";
        std::fs::write(&file, format!("{head}{}", mix.replace("NAME", name))).unwrap();
        find(&file.to_string_lossy())
    };
    std::fs::write(folder.path().join("own.jsonl"), "{\"content\": {}}\n").unwrap();
    let chosen = write("own.jsonl").unwrap();
    assert_eq!((chosen.name.as_str(), chosen.corpora.len()), ("mine", 1));
    for outside in ["../own.jsonl", "/etc/hostname", ".."] {
        let error = format!("{:#}", write(outside).unwrap_err());
        assert!(error.contains("file beside the profile"), "{outside}: {error}");
    }
}

#[test]
fn every_profile_is_listed_with_its_line() {
    let list = list().unwrap();
    assert_eq!(list.lines().count(), SHIPPED.len());
    assert!(list.lines().all(|line| line.split_whitespace().count() > 4), "{list}");
}
