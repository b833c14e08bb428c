//! How is a bundle made of a folder? As `opa build` does, with the time at which it was made; for nodes, which have the
//! modules that ship, or for OPA servers, which are given them.

use std::collections::BTreeSet;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value, json};
use tar::{Builder, Header};

use super::{BundleError, MANIFEST, PACKED_BYTES_MAX, wrong};
use crate::{
    domain::Timestamp,
    policy::{
        rego,
        sources::{AGGREGATION, LoadError, Module, PolicySources, SHIPPED},
    },
};

/// Packs the operator's own modules, their tests and data. The same files at the same time make the same bytes.
pub fn build(sources: &PolicySources, revision: &str, built_at: Timestamp) -> Result<Vec<u8>, LoadError> {
    let packed = bundle(sources, revision, built_at)?;
    // What it calls itself is read as a node will read it.
    super::Bundle::open(&packed, sources.shipped, None)?;
    Ok(packed)
}

/// Packs all that an OPA server needs to answer as a node does, and by which policy it answers.
pub fn build_for_opa(
    sources: &PolicySources,
    revision: &str,
    built_at: Timestamp,
) -> Result<Vec<u8>, LoadError> {
    let shipped = if sources.shipped { SHIPPED } else { &[] };
    let ours = shipped.iter().chain(AGGREGATION);
    let mut modules: Vec<Module> =
        ours.map(|(file, text)| Module { file: (*file).to_owned(), text: (*text).to_owned() }).collect();
    let names = rego::module_names(sources)?;
    modules.push(Module {
        file: "agentbus/revision.rego".to_owned(),
        text: format!(
            "package agentbus.revision\n\nid := {:?}\n\nmodules := {names:?}\n",
            &*sources.revision()
        ),
    });
    let own = sources.modules.iter().filter(|module| !rego::is_aggregation(module));
    // In a folder of their own: one may be called as one that ships.
    modules
        .extend(own.map(|module| Module { file: format!("own/{}", module.file), text: module.text.clone() }));
    let whole = PolicySources { shipped: false, modules, tests: Vec::new(), data: sources.data.clone() };
    bundle(&whole, revision, built_at)
}

fn bundle(sources: &PolicySources, revision: &str, built_at: Timestamp) -> Result<Vec<u8>, LoadError> {
    let data: Option<Map<String, Value>> = match &sources.data {
        Some(text) => {
            Some(serde_json::from_str(text).map_err(|error| LoadError::Data { cause: error.to_string() })?)
        }
        None => None,
    };
    let mut roots: BTreeSet<String> = data.iter().flat_map(Map::keys).cloned().collect();
    for module in sources.modules.iter().chain(&sources.tests) {
        roots.insert(super::slashed(&rego::package(module)?));
    }
    let manifest = json!({
        "revision": revision,
        "roots": without_overlap(&roots),
        "rego_version": 1,
        "metadata": { "agentbus": { "built_at": built_at } },
    });
    let mut files = vec![(MANIFEST.to_owned(), manifest.to_string())];
    files.extend(sources.data.iter().map(|data| ("data.json".to_owned(), data.clone())));
    let modules = sources.modules.iter().chain(&sources.tests);
    files.extend(modules.map(|module| (module.file.clone(), module.text.clone())));
    let packed = pack(&files).map_err(|cause| BundleError::Archive { cause: cause.to_string() })?;
    match packed.len() {
        ..=PACKED_BYTES_MAX => Ok(packed),
        found => {
            Err(wrong("the bundle", format!("{found} bytes, expected at most {PACKED_BYTES_MAX}")).into())
        }
    }
}

/// OPA takes no root below another.
fn without_overlap(roots: &BTreeSet<String>) -> Vec<&str> {
    let mut kept: Vec<&str> = Vec::new();
    for root in roots {
        let within = |above: &&str| root.strip_prefix(*above).is_some_and(|rest| rest.starts_with('/'));
        if !kept.iter().any(within) {
            kept.push(root);
        }
    }
    kept
}

fn pack(files: &[(String, String)]) -> std::io::Result<Vec<u8>> {
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for (path, text) in files {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}
