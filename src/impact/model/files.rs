//! Where a model's bytes come from, how many may come, and what they hash to.

use std::{
    borrow::Cow,
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{ModelError, Source, digests::Digests};
use crate::impact::distilbert::Config;

/// Most bytes of `model.safetensors`. The largest DistilBERT in f32 has 0.6 GB.
const WEIGHTS_MAX: u64 = 2 << 30;
/// Most bytes of every other file.
const OTHER_MAX: u64 = 64 << 20;
const NAME_MAX: usize = 48;

/// What a model's folder holds. `manifest.toml` is for people, and for the model's name.
pub const FILES: [&str; 5] =
    ["config.json", "model.safetensors", "tokenizer.json", "head.json", "manifest.toml"];

macro_rules! embedded {
    ($file:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/impact/", $file)).as_slice()
    };
}

/// A model's files, read.
pub struct Files {
    folder: Option<PathBuf>,
    pub config: Cow<'static, [u8]>,
    pub weights: Cow<'static, [u8]>,
    pub tokenizer: Cow<'static, [u8]>,
    pub head: Option<Cow<'static, [u8]>>,
    manifest: Option<Cow<'static, [u8]>>,
}

impl Files {
    pub fn read(source: &Source, needs_head: bool) -> Result<Self, ModelError> {
        let folder = match source {
            Source::Embedded => {
                return Ok(Self {
                    folder: None,
                    config: embedded!("config.json").into(),
                    weights: embedded!("model.safetensors").into(),
                    tokenizer: embedded!("tokenizer.json").into(),
                    head: Some(embedded!("head.json").into()),
                    manifest: Some(embedded!("manifest.toml").into()),
                });
            }
            Source::Dir(folder) => folder,
        };
        let config = needed(folder, "config.json", "")?;
        let head = match needs_head {
            true => Some(needed(folder, "head.json", "; `agentbus model train-head` makes a head.json")?),
            false => None,
        };
        Ok(Self {
            config: config.into(),
            tokenizer: needed(folder, "tokenizer.json", "")?.into(),
            weights: needed(folder, "model.safetensors", "; older *.bin files need converting first")?.into(),
            head: head.map(Cow::from),
            manifest: read(&folder.join("manifest.toml"), OTHER_MAX)?.map(Cow::from),
            folder: Some(folder.clone()),
        })
    }

    /// For messages: the file's path, or that it is the embedded one.
    pub fn place(&self, file: &str) -> String {
        match &self.folder {
            Some(folder) => folder.join(file).display().to_string(),
            None => format!("the program's own {file}"),
        }
    }

    pub fn digests(&self) -> Digests {
        let of = |bytes: &[u8]| Sha256::digest(bytes).into();
        Digests {
            config: of(&self.config),
            encoder: of(&self.weights),
            tokenizer: of(&self.tokenizer),
            head: self.head.as_deref().map(of),
        }
    }

    /// One of [`FILES`], as it was read.
    fn of(&self, file: &str) -> Option<&[u8]> {
        match file {
            "config.json" => Some(&self.config),
            "model.safetensors" => Some(&self.weights),
            "tokenizer.json" => Some(&self.tokenizer),
            "head.json" => self.head.as_deref(),
            "manifest.toml" => self.manifest.as_deref(),
            _ => None,
        }
    }

    /// What to call this model: as the manifest says, else the configuration, else the folder.
    /// Characters that have no place in a name become `-`.
    pub fn name(&self, config: &Config) -> String {
        #[derive(serde::Deserialize)]
        struct Manifest {
            name: Option<String>,
        }
        let manifest = self.manifest.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let manifest = manifest.and_then(|text| toml::from_str::<Manifest>(text).ok());
        let folder = self.folder.as_ref().and_then(|folder| folder.file_name());
        let name = manifest
            .and_then(|manifest| manifest.name)
            .or_else(|| config.name.as_ref().and_then(|name| name.rsplit('/').next()).map(str::to_owned))
            .or_else(|| folder.map(|name| name.to_string_lossy().into_owned()))
            .unwrap_or_default();
        plain_name(&name)
    }
}

/// A name as it may stand in a verdict: characters that have no place in one become `-`.
pub fn plain_name(name: &str) -> String {
    let name: String = name
        .chars()
        .take(NAME_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .collect();
    if name.is_empty() { "model".to_owned() } else { name }
}

/// SHA-256 of one of [`FILES`] in hex, whether or not the file is of any use; `None`: there is none.
pub fn sha256_of(source: &Source, file: &str) -> Result<Option<String>, ModelError> {
    let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    match source {
        Source::Embedded => Ok(Files::read(source, true)?.of(file).map(sha256)),
        Source::Dir(folder) => Ok(file_of(folder, file)?.as_deref().map(sha256)),
    }
}

/// A head that lies by itself.
pub fn head(path: &Path) -> Result<Vec<u8>, ModelError> {
    let hint = "; `agentbus model train-head` makes a head";
    read(path, OTHER_MAX)?.ok_or(ModelError::Missing { path: path.to_owned(), hint })
}

fn bytes_max(file: &str) -> u64 {
    if file == "model.safetensors" { WEIGHTS_MAX } else { OTHER_MAX }
}

fn needed(folder: &Path, file: &str, hint: &'static str) -> Result<Vec<u8>, ModelError> {
    let path = folder.join(file);
    read(&path, bytes_max(file))?.ok_or(ModelError::Missing { path, hint })
}

/// One of a folder's files; `None`: there is no such file.
pub fn file_of(folder: &Path, file: &str) -> Result<Option<Vec<u8>>, ModelError> {
    read(&folder.join(file), bytes_max(file))
}

/// `None`: there is no such file.
fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, ModelError> {
    let unreadable = |cause| ModelError::Unreadable { path: path.to_owned(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > max {
        return Err(ModelError::TooLarge { path: path.to_owned(), bytes, max });
    }
    // A pipe says 0 and a file may grow: the limit holds for what is read.
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    file.take(max + 1).read_to_end(&mut content).map_err(unreadable)?;
    match content.len() as u64 {
        bytes if bytes > max => Err(ModelError::TooLarge { path: path.to_owned(), bytes, max }),
        _ => Ok(Some(content)),
    }
}
