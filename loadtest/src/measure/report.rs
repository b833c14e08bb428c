//! Where do all figures go? Into one JSON file, one page to look at, and between two marks of `docs/benchmarks.md`;
//! what people wrote around them stays.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    cpu,
    run::sheet::{Figure, Report},
    targets::{self, Target},
};

const FORMAT: &str = "agentbus loadtest measure 1";
const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// What one part came to.
pub(crate) struct Outcome {
    pub(crate) title: String,
    /// Its tables.
    pub(crate) text: String,
    pub(crate) targets: Vec<Target>,
    /// Of what was measured over NATS.
    pub(crate) report: Option<Report>,
}

/// All of it.
pub(crate) struct Whole {
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) versions: Vec<String>,
    pub(crate) targets: Vec<Target>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Whole {
    pub(crate) fn new(outcomes: Vec<Outcome>) -> Self {
        let reports = || outcomes.iter().filter_map(|outcome| outcome.report.as_ref());
        let versions = reports().max_by_key(|report| report.versions.len());
        let built = if cfg!(debug_assertions) { "a development build" } else { "an optimised build" };
        let versions = versions.map(|report| report.versions.clone()).unwrap_or_default();
        let mut targets: Vec<Target> = outcomes.iter().flat_map(|outcome| outcome.targets.clone()).collect();
        targets.sort_by_key(|target| number(target.id));
        Self {
            command: crate::options::command(),
            machine: cpu::machine(),
            versions: versions.into_iter().chain([built.to_owned()]).collect(),
            targets,
            outcomes,
        }
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let reports = self.outcomes.iter().filter_map(|outcome| outcome.report.as_ref());
        let of = |report: &'_ Report| Profile {
            settings: report.settings.clone(),
            figures: report.figures.clone(),
        };
        let written = Written {
            format: FORMAT,
            command: &self.command,
            machine: &self.machine,
            versions: &self.versions,
            targets: &self.targets,
            profiles: reports.map(|report| (report.name.clone(), of(report))).collect(),
        };
        fs::write(path, serde_json::to_vec_pretty(&written)?).with_context(|| path.display().to_string())
    }

    fn markdown(&self) -> String {
        let parts = self.outcomes.iter().map(|outcome| format!("### {}\n\n{}", outcome.title, outcome.text));
        let head = format!(
            "`{}`\n\n- machine: {}\n- versions: {}\n\nEach figure is the median of the rounds, with their range.\n\n{}",
            self.command,
            self.machine,
            self.versions.join(", "),
            targets::shown(&self.targets)
        );
        [head].into_iter().chain(parts).collect::<Vec<_>>().join("\n\n")
    }
}

/// P2 comes before P11.
fn number(id: &str) -> u32 {
    id.trim_start_matches('P').parse().unwrap_or(u32::MAX)
}

#[derive(Serialize)]
struct Written<'a> {
    format: &'static str,
    command: &'a str,
    machine: &'a str,
    versions: &'a [String],
    targets: &'a [Target],
    /// By name. Medians with ranges and rounds; the histograms are in reports of `loadtest run`.
    profiles: BTreeMap<String, Profile>,
}

#[derive(Serialize)]
struct Profile {
    settings: BTreeMap<String, String>,
    figures: Vec<Figure>,
}

/// A page with two marks, read before minutes are spent on figures that could not be written.
pub(super) struct Page {
    path: PathBuf,
    before: String,
    after: String,
}

impl Page {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (before, after) = around(&text)
            .with_context(|| format!("{} needs a line {BEGIN} and after it a line {END}", path.display()))?;
        Ok(Self { path: path.to_owned(), before: before.to_owned(), after: after.to_owned() })
    }

    pub(super) fn write(&self, whole: &Whole) -> anyhow::Result<()> {
        let Self { path, before, after } = self;
        let text = format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", whole.markdown());
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}

fn around(page: &str) -> Option<(&str, &str)> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_around_the_figures_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.md");
        fs::write(&path, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
        let outcome =
            Outcome { title: "One".to_owned(), text: "two".to_owned(), targets: Vec::new(), report: None };
        Page::open(&path).unwrap().write(&Whole::new(vec![outcome])).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with(&format!("{END}\nafter\n")), "{text}");
        assert!(text.contains("### One\n\ntwo") && !text.contains("old"), "{text}");
        fs::write(&path, "no marks").unwrap();
        let error = Page::open(&path).err().unwrap().to_string();
        assert!(error.contains("needs a line <!-- figures: begin -->"), "{error}");
    }

    #[test]
    fn figures_come_by_their_numbers() {
        let mut names = ["soak", "P11", "P2"];
        names.sort_by_key(|name| number(name));
        assert_eq!(names, ["P2", "P11", "soak"]);
    }
}
