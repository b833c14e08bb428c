//! What is known of labelled texts: lines of JSON, each checked, in the order of the files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use agentbus::{
    domain::{Judgement, Message},
    impact::for_each_text,
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::line::{self, ask, bare_message};

mod twice;

use twice::Labels;
pub use twice::Twice;

/// Of one file. Labels are made by people or from benchmarks; this is more than a thousand times
/// what the bus ships with.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// A text and the right answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// Its words; of a whole message the first of them, to know it by.
    pub text: String,
    /// As it was sent, if the line holds a message instead of a text.
    pub message: Option<Arc<Message>>,
    pub high: bool,
    pub level: Option<u8>,
    pub group: String,
    pub part: Option<Part>,
    /// How much it counts in training.
    pub weight: f64,
    /// Its label is what people decided of a message that was parked.
    pub judged: bool,
}

/// From this level on a text is high.
pub const HIGH: usize = 2;

impl Labelled {
    /// Whether it is of this level or above, as far as its line says.
    pub fn at_least(&self, level: usize) -> Option<bool> {
        match self.level {
            Some(own) => Some(usize::from(own) >= level),
            // What is high is above all that is not.
            None if self.high => (level <= HIGH).then_some(true),
            None => (level >= HIGH).then_some(false),
        }
    }

    /// What a node would read.
    pub fn spoken(&self) -> Result<Arc<Message>, LineError> {
        match &self.message {
            Some(message) => Ok(Arc::clone(message)),
            None => Ok(bare_message(&self.text)?),
        }
    }
}

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// To learn from.
    Train,
    /// To choose by.
    Dev,
    /// To judge by; training leaves it alone.
    Test,
}

/// One file that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub path: PathBuf,
    pub sha256: String,
    pub lines: usize,
}

impl Source {
    /// Without folders, which are of no use to a reader elsewhere.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {cause}", .path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("{} has more than {FILE_BYTES_MAX} bytes", .path.display())]
    FileTooLarge { path: PathBuf },
    #[error("{}, line {line}: {cause}", .path.display())]
    Line { path: PathBuf, line: usize, cause: LineError },
    #[error("{} has no lines", .path.display())]
    Empty { path: PathBuf },
    #[error("{0}")]
    Twice(Twice),
}

#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("neither \"high\" (0 or 1) nor \"level\" (0 to 3)")]
    Unlabelled,
    #[error("\"high\" is {0}, expected 0 or 1")]
    High(u64),
    #[error("\"level\" is {0}, expected 0 to 3")]
    Level(u8),
    #[error("\"high\" is {} but \"level\" is {level}; levels 2 and 3 are high, 0 and 1 are not", u8::from(*.high))]
    Contradiction { high: bool, level: u8 },
    #[error("\"weight\" is {0}, expected a number above 0 and at most 1000")]
    Weight(f64),
    #[error("neither a \"text\" nor a \"message\" with words")]
    NoText,
    #[error("\"message\": {0}")]
    Message(#[from] line::LineError),
}

/// As it is written. Other fields (source, licence, …) are for people.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    text: String,
    message: Option<Value>,
    high: Option<High>,
    level: Option<u8>,
    group: Option<String>,
    source: Option<String>,
    part: Option<Part>,
    weight: Option<f64>,
    judgement: Option<Judgement>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum High {
    Said(bool),
    Number(u64),
}

/// All lines of all files, in their order.
pub fn read(paths: &[PathBuf]) -> Result<(Vec<Labelled>, Vec<Source>), DataError> {
    let (mut all, mut sources) = (Vec::new(), Vec::new());
    let mut labels = Labels::default();
    for (file, path) in paths.iter().enumerate() {
        let bytes = bytes_of(path)?;
        let before = all.len();
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let labelled = parse(line).map_err(|cause| DataError::Line {
                path: path.clone(),
                line: number + 1,
                cause,
            })?;
            labels.add(&labelled, file, number + 1);
            all.push(labelled);
        }
        if all.len() == before {
            return Err(DataError::Empty { path: path.clone() });
        }
        let sha256 = hex::encode(Sha256::digest(&bytes));
        sources.push(Source { path: path.clone(), sha256, lines: all.len() - before });
    }
    match labels.twice(paths) {
        Some(twice) => Err(DataError::Twice(twice)),
        None => Ok((all, sources)),
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, DataError> {
    let failed = |cause| DataError::File { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(DataError::FileTooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn parse(line: &[u8]) -> Result<Labelled, LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError::TooLong);
    }
    let Written { text, message, high, level, group, source, part, weight, judgement } =
        serde_json::from_slice(line)?;
    let high = match high {
        None => None,
        Some(High::Said(high)) => Some(high),
        Some(High::Number(0)) => Some(false),
        Some(High::Number(1)) => Some(true),
        Some(High::Number(other)) => return Err(LineError::High(other)),
    };
    let high = match (high, level) {
        (_, Some(level @ 4..)) => return Err(LineError::Level(level)),
        (Some(high), Some(level)) if high != (level >= 2) => {
            return Err(LineError::Contradiction { high, level });
        }
        (Some(high), _) => high,
        (None, Some(level)) => level >= 2,
        (None, None) => return Err(LineError::Unlabelled),
    };
    let weight = weight.unwrap_or(1.0);
    if !(weight > 0.0 && weight <= 1_000.0) {
        return Err(LineError::Weight(weight));
    }
    let message = message.map(|it| ask(it.to_string().as_bytes(), 0)).transpose()?.map(|asked| asked.message);
    let text = message.as_deref().map_or(text, first_words);
    if text.trim().is_empty() {
        return Err(LineError::NoText);
    }
    let group = group.or(source).unwrap_or_else(|| "all".to_owned());
    Ok(Labelled { text, message, high, level, group, part, weight, judged: judgement.is_some() })
}

fn first_words(message: &Message) -> String {
    const BYTES: usize = 200;
    let mut words = String::new();
    for_each_text(message, &mut |text| {
        if words.len() < BYTES {
            words.extend([text, " "]);
        }
    });
    words
}

/// Which part a text belongs to if no line says so: by its own bytes, so that the same text is
/// always in the same part, whatever else is in the files. A fifth is for choosing.
pub fn drawn_part(text: &str) -> Part {
    match Sha256::digest(text.as_bytes()).first() {
        Some(0..52) => Part::Dev,
        Some(_) | None => Part::Train,
    }
}

/// How many of each class.
pub fn counts<'a>(texts: impl IntoIterator<Item = &'a Labelled>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::from([("texts", 0), ("high", 0)]);
    for text in texts {
        for (name, count) in &mut counts {
            *count += usize::from(*name == "texts" || text.high);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn high_or_level_says_what_is_right() {
        for (line, high) in [
            (r#"{"text": "a", "high": 1}"#, true),
            (r#"{"text": "a", "high": false}"#, false),
            (r#"{"text": "a", "level": 2}"#, true),
            (r#"{"text": "a", "level": 1}"#, false),
            (r#"{"message": {"content": {"text": "wipe it"}, "tools": ["delete"]}, "high": 1}"#, true),
            (r#"{"text": "a", "level": 3, "high": 1, "license": "CC0", "part": "dev"}"#, true),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap().high, high, "{line}");
        }
    }

    #[test]
    fn a_line_without_a_level_says_of_levels_what_high_says() {
        let of = |line: &str| [1, 2, 3].map(|level| parse(line.as_bytes()).unwrap().at_least(level));
        assert_eq!(of(r#"{"text": "a", "level": 1}"#), [Some(true), Some(false), Some(false)]);
        assert_eq!(of(r#"{"text": "a", "high": 1}"#), [Some(true), Some(true), None]);
        assert_eq!(of(r#"{"text": "a", "high": 0}"#), [None, Some(false), Some(false)]);
    }

    #[test]
    fn a_wrong_line_is_refused_with_what_was_found() {
        for (line, said) in [
            (r#"{"text": "a"}"#, "neither"),
            (r#"{"text": "a", "high": 2}"#, "\"high\" is 2"),
            (r#"{"text": "a", "level": 4}"#, "\"level\" is 4"),
            (r#"{"text": "a", "level": 7}"#, "\"level\" is 7, expected 0 to 3"),
            (r#"{"text": "a", "level": 300}"#, "expected u8"),
            (r#"{"text": "a", "level": -1}"#, "expected u8"),
            (r#"{"text": "a", "level": 1, "level": 2}"#, "duplicate field `level`"),
            (r#"{"text": "a", "level": 3, "high": 0}"#, "\"high\" is 0 but \"level\" is 3"),
            (r#"{"text": "a", "high": 1, "weight": 0}"#, "\"weight\" is 0"),
            (r#"{"text": " ", "high": 1}"#, "neither a \"text\" nor"),
            (r#"{"high": 1}"#, "neither a \"text\" nor a \"message\""),
            (r#"{"high": 1, "message": {"to": 7}}"#, "\"message\": "),
            (r#"{"text": "a", "high": 1, "part": "exam"}"#, "exam"),
            ("nonsense", "expected"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
    }

    #[test]
    fn an_error_names_its_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        std::fs::write(&path, "{\"text\": \"a\", \"high\": 1}\n\n{\"text\": 1}\n").unwrap();
        let error = read(std::slice::from_ref(&path)).unwrap_err().to_string();
        assert!(error.contains("data.jsonl, line 3"), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read(&[path]), Err(DataError::Empty { .. })));
    }

    #[test]
    fn about_a_fifth_is_drawn_for_choosing() {
        let dev = (0..1_000).filter(|at| drawn_part(&format!("text {at}")) == Part::Dev).count();
        assert!((150..250).contains(&dev), "{dev}");
    }
}
