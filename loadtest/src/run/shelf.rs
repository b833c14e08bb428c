//! Where do profiles come from? Those that ship are in the program; others are files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::{
    check::{self, FILE_MAX},
    corpus::{self, Corpora},
    profile::Profile,
};

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../profiles/", $name, ".toml")))),+]
    };
}

/// In the order in which `loadtest profiles` shows them.
pub(crate) const SHIPPED: &[(&str, &str)] = shipped!(
    "smoke",
    "saturate",
    "open-loop",
    "ramp",
    "tenants",
    "senders",
    "office",
    "uncached",
    "mixed-tenants",
    "noisy-tenant",
    "model-heavy",
    "deliberation-heavy",
    "durable",
    "ask",
    "broadcast",
    "capability",
    "scaling",
    "overload",
    "soak",
);
/// Contents that the shipped profiles name.
const SHIPPED_CORPORA: &[(&str, &str)] = &[("office.jsonl", include_str!("../../profiles/office.jsonl"))];

/// A profile with what it names.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) name: String,
    pub(crate) profile: Profile,
    pub(crate) corpora: Corpora,
}

/// By the name of a shipped one, or as a file.
pub(crate) fn find(name: &str) -> anyhow::Result<Chosen> {
    let file = Path::new(name);
    if let Some((name, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        return shipped(name, text);
    }
    if file.extension().is_none_or(|extension| extension != "toml") {
        anyhow::bail!("{}, or a file that ends in .toml", unknown(name));
    }
    let text = read(file, FILE_MAX)?;
    let profile = parse(&text).with_context(|| name.to_owned())?;
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    let open = |corpus: &str| read(&beside(&folder, corpus)?, corpus::FILE_MAX);
    let corpora = corpus::load(&profile, open).with_context(|| name.to_owned())?;
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Chosen { name, profile, corpora })
}

pub(crate) fn shipped(name: &str, text: &str) -> anyhow::Result<Chosen> {
    let profile = parse(text).with_context(|| format!("the shipped profile {name}"))?;
    let open = |corpus: &str| {
        let found = SHIPPED_CORPORA.iter().find(|(shipped, _)| *shipped == corpus);
        found.map(|(_, text)| (*text).to_owned()).with_context(|| format!("no corpus {corpus} ships"))
    };
    let corpora = corpus::load(&profile, open)?;
    Ok(Chosen { name: name.to_owned(), profile, corpora })
}

/// Text to a profile that may be run.
pub(crate) fn parse(text: &str) -> anyhow::Result<Profile> {
    let profile: Profile = toml::from_str(text)?;
    check::check(&profile).map_err(anyhow::Error::msg)?;
    Ok(profile)
}

/// A profile's files lie where it lies.
fn beside(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    ensure!(
        Path::new(name).file_name().is_some_and(|file| file == name),
        "corpus: found {name:?}, expected the name of a file beside the profile"
    );
    Ok(folder.join(name))
}

fn read(path: &Path, most: u64) -> anyhow::Result<String> {
    use std::io::Read as _;

    let at = || path.display().to_string();
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(at)?;
    file.take(most + 1).read_to_string(&mut text).with_context(at)?;
    let bytes = text.len() as u64;
    ensure!(bytes <= most, "{}: found more than {most} bytes, expected at most so many", path.display());
    Ok(text)
}

/// `loadtest profiles`: a line for each that ships, or one of them as it is.
pub(crate) fn show(name: Option<&str>) -> anyhow::Result<()> {
    match name {
        None => println!("{}", list()?),
        Some(name) => {
            let found = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
            print!("{}", found.map(|(_, text)| *text).with_context(|| unknown(name))?);
        }
    }
    Ok(())
}

fn list() -> anyhow::Result<String> {
    let width = SHIPPED.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line =
        |(name, text): &(&str, &str)| Ok(format!("{name:width$}  {}", shipped(name, text)?.profile.about));
    let lines = SHIPPED.iter().map(line).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(lines.join("\n"))
}

fn unknown(name: &str) -> String {
    let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
    format!("found profile {name:?}, expected {}", names.join(", "))
}

#[cfg(test)]
mod tests;
