//! May a profile be run? Every count, rate and time has a bound, and what contradicts itself is told by its key.

use std::{collections::BTreeSet, time::Duration};

use agentbus::domain::{MessageType, TenantId};

use super::profile::{Entry, Expect, Group, Load, Profile, Recipient, Side, Way};

/// Bytes of a profile.
pub(crate) const FILE_MAX: u64 = 256 * 1024;
const GROUPS_MAX: usize = 16;
const LOADS_MAX: usize = 32;
const MIX_MAX: usize = 32;
const LINES_MAX: usize = 64;
const ROUNDS_MAX: u32 = 100;
const NODES_MAX: u32 = 8;
const NODE_CORES: std::ops::RangeInclusive<f64> = 0.01..=64.0;
const PROCESSES_MAX: u32 = 16;
/// Connections of all client processes together.
const CONNECTIONS_MAX: u64 = 8192;
const TENANTS_MAX: u32 = 100;
const AGENTS_MAX: u32 = 1000;
const IN_FLIGHT_MAX: u32 = 16_384;
const RATE_MAX: u32 = 1_000_000;
const SHARES_MAX: u32 = 10_000;
const PERCENT_MAX: u32 = 1_000;
const MESSAGE_BYTES: std::ops::RangeInclusive<u32> = 256..=65_536;
/// A whole run; longer is a mistake.
const RUN_MAX: Duration = Duration::from_secs(12 * 3600);
const MEASURE: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(3600);
const WARM_UP: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(300);

/// What is wrong, with the key that it is about.
type Checked = Result<(), String>;

pub(crate) fn check(profile: &Profile) -> Checked {
    let Profile { about, sides, rounds, measure, warm_up, warm_up_max, .. } = profile;
    if about.trim().is_empty() || about.contains('\n') || about.len() > 200 {
        return Err(format!("about: found {} bytes, expected one line of 1 to 200", about.len()));
    }
    within("rounds", *rounds, 1, ROUNDS_MAX)?;
    within("processes", profile.processes, 1, PROCESSES_MAX)?;
    within("connections", profile.connections, 1, 64)?;
    within("nodes", profile.nodes, 1, NODES_MAX)?;
    time("measure", *measure, &MEASURE)?;
    time("warm_up", *warm_up, &WARM_UP)?;
    time("warm_up_max", *warm_up_max, &(*warm_up..=*WARM_UP.end()))?;
    let different: BTreeSet<_> = sides.iter().collect();
    if sides.is_empty() || different.len() != sides.len() {
        return Err("sides: expected at least one of direct, baseline and bus, each once".to_owned());
    }
    let nodes = profile.load.iter().map(|load| profile.nodes_of(load)).max().unwrap_or(profile.nodes);
    if profile.memory && nodes > 1 {
        return Err(format!("memory: found it with nodes = {nodes}, expected 1 node"));
    }
    if let Some(cores) = profile.node_cores.filter(|cores| !NODE_CORES.contains(cores)) {
        let (low, high) = (NODE_CORES.start(), NODE_CORES.end());
        return Err(format!("node_cores: found {cores}, expected {low} to {high}"));
    }
    lines("node", &profile.node)?;
    let node = super::lines(&profile.node);
    node.map_err(|error| format!("node: found {error}, expected lines such as impact.threads = 1"))?;
    count("group", profile.group.len(), GROUPS_MAX)?;
    count("load", profile.load.len(), LOADS_MAX)?;
    let mut names = BTreeSet::new();
    for (at, group) in profile.group.iter().enumerate() {
        let key = format!("group[{at}]");
        check_group(&key, group, profile)?;
        if !names.insert(group.name.as_str()) {
            return Err(format!("{key}.name: found {:?} twice, expected another one", group.name));
        }
    }
    for (at, load) in profile.load.iter().enumerate() {
        check_load(&format!("load[{at}]"), load, profile)?;
    }
    let labels: BTreeSet<_> = profile.load.iter().map(Load::label).collect();
    if labels.len() != profile.load.len() {
        return Err("load: found the same load twice, expected different ones".to_owned());
    }
    check_whole(profile)
}

/// Not longer than a day's work, and no more than one machine has room for.
fn check_whole(profile: &Profile) -> Checked {
    let each = profile.measure + profile.warm_up_max;
    let turns = profile.rounds * u32::try_from(profile.sides.len()).unwrap_or(u32::MAX);
    let all = each * turns * u32::try_from(profile.load.len()).unwrap_or(u32::MAX);
    if all > RUN_MAX {
        let hours = all.as_secs() / 3600;
        return Err(format!(
            "rounds: found a run of {hours} hours, expected at most {}",
            RUN_MAX.as_secs() / 3600
        ));
    }
    let agents = |group: &Group| {
        let senders =
            u64::from(group.senders) * u64::from(profile.connections) * u64::from(profile.processes);
        u64::from(group.tenants) * (senders + u64::from(group.recipients) + u64::from(group.judges))
    };
    let connections: u64 = profile.group.iter().map(agents).sum();
    if connections > CONNECTIONS_MAX {
        return Err(format!("group: found {connections} connections, expected at most {CONNECTIONS_MAX}"));
    }
    Ok(())
}

fn check_group(key: &str, group: &Group, profile: &Profile) -> Checked {
    let name: Result<TenantId, _> = format!("{}-1", group.name).parse();
    name.map_err(|_| {
        format!("{key}.name: found {:?}, expected 1 to 60 of a-z, 0-9, _ and -", clipped(&group.name))
    })?;
    within(&format!("{key}.tenants"), group.tenants, 1, TENANTS_MAX)?;
    within(&format!("{key}.senders"), group.senders, 1, AGENTS_MAX)?;
    within(&format!("{key}.recipients"), group.recipients, 1, AGENTS_MAX)?;
    within(&format!("{key}.judges"), group.judges, 0, 10)?;
    let agents = group.senders + group.recipients + group.judges;
    if agents > AGENTS_MAX {
        return Err(format!("{key}: found {agents} agents of each tenant, expected at most {AGENTS_MAX}"));
    }
    lines(&format!("{key}.tenant"), &group.tenant)?;
    let tenant = super::lines(&group.tenant);
    tenant.map_err(|error| {
        format!("{key}.tenant: found {error}, expected lines such as limits.agents = 100")
    })?;
    if let Some(background) = &group.background {
        within(&format!("{key}.background.rate"), background.rate, 1, RATE_MAX)?;
    }
    count(&format!("{key}.mix"), group.mix.len(), MIX_MAX)?;
    for (at, entry) in group.mix.iter().enumerate() {
        check_entry(&format!("{key}.mix[{at}]"), entry, group, profile)?;
    }
    let shares = group.mix.iter().map(|entry| entry.share).sum();
    within(&format!("{key}.mix: the sum of share"), shares, 1, SHARES_MAX)
}

fn check_entry(key: &str, entry: &Entry, group: &Group, profile: &Profile) -> Checked {
    within(&format!("{key}.share"), entry.share, 1, SHARES_MAX)?;
    match (entry.bytes.as_slice(), &entry.corpus) {
        ([], None) => return Err(format!("{key}: found neither bytes nor corpus, expected one of them")),
        ([_, ..], Some(_)) => return Err(format!("{key}: found bytes and corpus, expected one of them")),
        (sizes, _) => {
            if sizes.len() > 64 {
                return Err(format!("{key}.bytes: found {} sizes, expected at most 64", sizes.len()));
            }
            for &bytes in sizes {
                within(&format!("{key}.bytes"), bytes, *MESSAGE_BYTES.start(), *MESSAGE_BYTES.end())?;
            }
        }
    }
    let answerable = entry.message_type.unwrap_or(MessageType::Query).answered_by().is_some();
    let fault = match (entry.verb, entry.to, entry.expected()) {
        (Way::Ask, _, _) if !answerable => "a type that has an answer, such as query",
        (Way::Ask, Recipient::Broadcast, _) => "an ask to agent or capability",
        (Way::Ask, _, Expect::Stored | Expect::Deliberating) => "an ask that expects delivered",
        (Way::Submit, Recipient::Broadcast, _) => "a submit to agent or capability",
        (Way::Submit, _, Expect::Delivered | Expect::Deliberating) => "a submit that expects stored",
        (_, _, Expect::Deliberating) if group.judges == 0 => {
            "judges = 1 or more, or nothing would ever be decided"
        }
        (Way::Submit, ..) if profile.processes > group.recipients => {
            "at least one recipient for each process"
        }
        _ if profile.sides != [Side::Bus] => return check_compared(key, entry, group, profile),
        _ => return Ok(()),
    };
    Err(format!("{key}: found {}, expected {fault}", entry.label()))
}

/// Is there the same thing to do for what the bus is compared with?
fn check_compared(key: &str, entry: &Entry, group: &Group, profile: &Profile) -> Checked {
    let has = |side| profile.sides.contains(&side);
    let fault = match (entry.verb, entry.to, entry.expected()) {
        (_, Recipient::Capability | Recipient::Broadcast, _) | (_, _, Expect::Deliberating) => {
            "sides = [\"bus\"]: only the bus knows capabilities, broadcasts and deliberations"
        }
        (Way::Submit, ..) if has(Side::Direct) => "no side direct: it keeps nothing",
        (Way::Ask, ..) if has(Side::Baseline) => "no side baseline: it answers by itself. Take direct",
        (Way::Submit, ..) if group.tenants * group.recipients > 1 || group.mix.len() > 1 => {
            "one tenant, one recipient and nothing but submit beside the baseline"
        }
        _ => return Ok(()),
    };
    Err(format!("{key}: found {}, expected {fault}", entry.label()))
}

fn check_load(key: &str, load: &Load, profile: &Profile) -> Checked {
    let ways = [
        load.in_flight.map(|_| "in_flight"),
        load.rate.map(|_| "rate"),
        load.ramp.map(|_| "ramp"),
        load.of_peak.map(|_| "of_peak"),
    ];
    let found: Vec<&str> = ways.into_iter().flatten().collect();
    if found.len() != 1 {
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(" and ") };
        return Err(format!("{key}: found {found}, expected one of in_flight, rate, ramp and of_peak"));
    }
    load.of_peak.map_or(Ok(()), |percent| within(&format!("{key}.of_peak"), percent, 1, PERCENT_MAX))?;
    load.nodes.map_or(Ok(()), |nodes| within(&format!("{key}.nodes"), nodes, 1, NODES_MAX))?;
    load.in_flight
        .map_or(Ok(()), |n| within(&format!("{key}.in_flight"), n, profile.processes, IN_FLIGHT_MAX))?;
    load.rate.map_or(Ok(()), |rate| within(&format!("{key}.rate"), rate, 1, RATE_MAX))?;
    if let Some(ramp) = load.ramp {
        within(&format!("{key}.ramp.from"), ramp.from, 1, RATE_MAX)?;
        within(&format!("{key}.ramp.to"), ramp.to, ramp.from, RATE_MAX)?;
    }
    let Some(measured) = profile.measured(load) else {
        let of = load.of.as_deref().unwrap_or_default();
        return Err(format!("{key}.of: found {:?}, expected the name of a group", clipped(of)));
    };
    if load.beside.len() > GROUPS_MAX {
        return Err(format!("{key}.beside: found {}, expected at most {GROUPS_MAX}", load.beside.len()));
    }
    for name in &load.beside {
        let group = profile.group.iter().find(|group| group.name == *name && group.name != measured.name);
        if group.is_none_or(|group| group.background.is_none()) {
            let found = clipped(name);
            return Err(format!(
                "{key}.beside: found {found:?}, expected another group that has a background"
            ));
        }
    }
    Ok(())
}

fn within(key: &str, found: u32, low: u32, high: u32) -> Checked {
    match (low..=high).contains(&found) {
        true => Ok(()),
        false => Err(format!("{key}: found {found}, expected {low} to {high}")),
    }
}

fn time(key: &str, found: Duration, range: &std::ops::RangeInclusive<Duration>) -> Checked {
    let [found_text, low, high] = [found, *range.start(), *range.end()].map(humantime::format_duration);
    match range.contains(&found) {
        true => Ok(()),
        false => Err(format!("{key}: found {found_text}, expected {low} to {high}")),
    }
}

fn count(key: &str, found: usize, most: usize) -> Checked {
    match (1..=most).contains(&found) {
        true => Ok(()),
        false => Err(format!("{key}: found {found} of them, expected 1 to {most}")),
    }
}

fn lines(key: &str, lines: &[String]) -> Checked {
    match lines.len() <= LINES_MAX {
        true => Ok(()),
        false => Err(format!("{key}: found {} lines, expected at most {LINES_MAX}", lines.len())),
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(40).collect()
}
