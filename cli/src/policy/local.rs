//! What can be done with a policy at a desk: made into a bundle, compiled and tested.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use agentbus::{
    phrase::counted,
    policy::{
        Bundle, Label, PolicyEngine as _, PolicySources, RegoEngine, build_bundle, build_for_opa,
        bundle::PACKED_BYTES_MAX,
    },
    skew::wall_clock,
};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::context::say;

/// A folder, or a bundle.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Folder of Rego modules, or a bundle that was made of one
    #[arg(value_name = "DIR|BUNDLE")]
    pub(super) path: PathBuf,
    /// Without the modules that ship, as policy.shipped = false of the nodes
    #[arg(long)]
    pub(super) no_shipped: bool,
}

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    #[command(flatten)]
    source: Source,
    /// What the bundle is called, such as a commit
    #[arg(long, value_name = "TEXT")]
    revision: String,
    /// Who is to have it: nodes, or OPA servers that nodes ask, which are given the modules that ship too
    #[arg(long = "for", value_name = "WHO", value_enum, default_value_t = Audience::Nodes)]
    audience: Audience,
    /// Where it is written
    #[arg(long, short, value_name = "FILE", default_value = "bundle.tar.gz")]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Audience {
    Nodes,
    Opa,
}

/// A policy as nodes would get it, compiled, with its tests passed.
pub(super) struct Tested {
    pub(super) label: Label,
    pub(super) packed: Bytes,
    pub(super) engine: RegoEngine,
    tests: usize,
    pub(super) sources: PolicySources,
}

impl Source {
    /// `revision` names what is made of a folder; a bundle has a name.
    pub(super) fn tested(&self, revision: Option<&str>) -> anyhow::Result<Tested> {
        let Self { path, no_shipped } = self;
        let packed = match (path.is_dir(), revision) {
            (true, _) => {
                let sources = PolicySources::read(Some(path), !no_shipped)?;
                build_bundle(&sources, revision.unwrap_or_default(), wall_clock())?
            }
            (false, None) => read(path)?,
            (false, Some(_)) => bail!(
                "{} is a bundle, which has its revision; --revision names what is made of a folder",
                path.display()
            ),
        };
        let Bundle { label, sources } =
            Bundle::open(&packed, !no_shipped, None).with_context(|| path.display().to_string())?;
        let (engine, tests) = RegoEngine::tested(&sources)?;
        Ok(Tested { label, packed: packed.into(), engine, tests, sources })
    }
}

impl Tested {
    fn shown(&self) -> String {
        let modules = counted(self.engine.modules().count(), "module");
        let (revision, tests) = (self.engine.revision(), counted(self.tests, "test"));
        format!("policy_revision {revision}: {modules}, {tests} passed\n")
    }
}

pub(super) fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    say(&args.source.tested(None)?.shown())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn build(args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let tested = args.source.tested(Some(&args.revision))?;
    let packed = match args.audience {
        Audience::Nodes => tested.packed.clone(),
        Audience::Opa => build_for_opa(&tested.sources, &args.revision, wall_clock())?.into(),
    };
    fs::write(&args.output, &packed).with_context(|| args.output.display().to_string())?;
    let (path, bytes) = (args.output.display(), packed.len());
    say(&format!("{}wrote {path}, {bytes} bytes\n", tested.shown()))?;
    Ok(ExitCode::SUCCESS)
}

/// What is in a folder or a bundle, as nodes would read it.
pub(crate) fn sources_at(path: &Path, shipped: bool) -> anyhow::Result<PolicySources> {
    if path.is_dir() {
        return Ok(PolicySources::read(Some(path), shipped)?);
    }
    let bundle = Bundle::open(&read(path)?, shipped, None).with_context(|| path.display().to_string())?;
    Ok(bundle.sources)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut packed = Vec::new();
    // One byte more than a bundle may have says that it has too many.
    file.take(PACKED_BYTES_MAX as u64 + 1)
        .read_to_end(&mut packed)
        .with_context(|| path.display().to_string())?;
    Ok(packed)
}
