//! May a bus that is already there be put under load? Only as much and for as long as was said, and not without being
//! asked when it is on another machine.

use std::{
    io::{IsTerminal as _, Write as _},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use async_nats::ServerAddr;

use super::profile::{Profile, Side};
use crate::options::AimOptions;

/// A running bus, and who may be on it.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    pub(crate) nats_url: String,
    /// Where the users' seeds are.
    pub(crate) keys: PathBuf,
}

/// None: the run starts servers of its own.
pub(crate) fn at(options: &AimOptions, profile: &Profile) -> anyhow::Result<Option<Aim>> {
    let (Some(server), Some(keys)) = (&options.server, &options.keys) else { return Ok(None) };
    within_bounds(profile, options.rate_max, options.time_max)?;
    let address: ServerAddr = server.parse().with_context(|| format!("--server: found {server:?}"))?;
    if !is_loopback(&address) {
        agreed(address.host(), profile, options.yes)?;
    }
    Ok(Some(Aim { nats_url: server.clone(), keys: keys.clone() }))
}

/// The most that all groups send in a second, and how long the whole takes.
fn within_bounds(profile: &Profile, rate_max: u32, time_max: Duration) -> anyhow::Result<()> {
    ensure!(
        profile.sides == [Side::Bus],
        "sides: at a running bus there is nothing else, expected [\"bus\"]"
    );
    for load in &profile.load {
        let label = load.label();
        let own = match (load.rate, load.ramp) {
            (Some(rate), _) => rate,
            (_, Some(ramp)) => ramp.to,
            (None, None) => bail!("{label}: it takes all that there is, expected rate or ramp"),
        };
        let beside = profile.group.iter().filter(|group| load.beside.contains(&group.name));
        let all: u32 = beside.filter_map(|group| Some(group.background.as_ref()?.rate)).sum::<u32>() + own;
        ensure!(
            all <= rate_max,
            "{label}: found {all} messages a second, expected at most --rate-max {rate_max}"
        );
    }
    let all = longest(profile);
    let (found, most) = (humantime::format_duration(all), humantime::format_duration(time_max));
    ensure!(all <= time_max, "rounds: found a run of up to {found}, expected at most --time-max {most}");
    Ok(())
}

fn longest(profile: &Profile) -> Duration {
    let measurements = profile.rounds * u32::try_from(profile.load.len()).unwrap_or(u32::MAX);
    (profile.measure + profile.warm_up_max) * measurements
}

fn is_loopback(address: &ServerAddr) -> bool {
    let host = address.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// By `--yes`, or by whoever sits at the terminal.
fn agreed(host: &str, profile: &Profile, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let input = std::io::stdin();
    ensure!(input.is_terminal(), "{host} is not this machine: say --yes to put it under load");
    let time = humantime::format_duration(longest(profile));
    eprint!("{host} is not this machine. Put it under load for up to {time}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    ensure!(answer.trim().eq_ignore_ascii_case("y"), "not agreed to");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "about = \"x\"\nrounds = 2\nmeasure = \"10s\"\nwarm_up_max = \"5s\"\n[[group]]\nname = \"one\"\n\
        [[group.mix]]\nbytes = [512]\n[[group]]\nname = \"two\"\nbackground = { rate = 50 }\n[[group.mix]]\nbytes = [512]\n";

    fn options(server: &str) -> AimOptions {
        AimOptions {
            server: Some(server.to_owned()),
            keys: Some("keys".into()),
            rate_max: 100,
            time_max: Duration::from_secs(60),
            yes: false,
        }
    }

    fn tried(load: &str, options: &AimOptions) -> Result<bool, String> {
        let profile = crate::run::shelf::parse(&format!("{PROFILE}[[load]]\n{load}")).unwrap();
        at(options, &profile).map(|aim| aim.is_some()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_running_bus_is_put_under_no_more_load_than_was_said() {
        let here = options("nats://127.0.0.1:4222");
        assert_eq!(tried("rate = 50\nbeside = [\"two\"]", &here), Ok(true));
        assert_eq!(tried("ramp = { from = 1, to = 100 }", &here), Ok(true));
        for (load, words) in [
            ("rate = 51\nbeside = [\"two\"]", "found 101 messages a second, expected at most --rate-max 100"),
            ("ramp = { from = 1, to = 101 }", "found 101 messages a second"),
            ("in_flight = 1", "it takes all that there is"),
            ("of_peak = 1", "it takes all that there is"),
        ] {
            let error = tried(load, &here).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let short = AimOptions { time_max: Duration::from_secs(29), ..here };
        let error = tried("rate = 1", &short).unwrap_err();
        assert!(error.contains("found a run of up to 30s, expected at most --time-max 29s"), "{error}");
    }

    #[test]
    fn another_machine_is_not_put_under_load_unasked() {
        for here in ["nats://localhost:4222", "nats://127.8.9.1", "tls://[::1]:4222", "127.0.0.1:4222"] {
            assert_eq!(tried("rate = 1", &options(here)), Ok(true), "{here}");
        }
        for other in
            ["nats://bus.example:4222", "nats://192.0.2.1", "nats://127.0.0.1.example", "nats://0.0.0.0"]
        {
            assert!(tried("rate = 1", &options(other)).unwrap_err().contains("say --yes"), "{other}");
            let yes = AimOptions { yes: true, ..options(other) };
            assert_eq!(tried("rate = 1", &yes), Ok(true), "{other}");
        }
    }
}
