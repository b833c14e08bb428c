//! From text to token ids, and into windows: nothing of a text is left out.

use std::{borrow::Cow, collections::HashSet};

use tokenizers::{ModelWrapper, Tokenizer};
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

use crate::impact::distilbert::Config;

/// Longer texts are not looked at. The bus takes at most a quarter of it.
pub const TEXT_MAX: usize = 1 << 20;
/// Text is tokenised in pieces of about this size, so that one far too long costs no more than
/// the longest that is read.
const PIECE: usize = 8 << 10;

/// How a long text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Windows {
    /// Tokens of a window, `[CLS]` and `[SEP]` included.
    pub tokens: usize,
    /// Tokens that a window shares with the one before it: what is said across a border is read
    /// whole once.
    pub overlap: usize,
    /// Most windows of a text.
    pub max: usize,
}

impl Default for Windows {
    fn default() -> Self {
        Self { tokens: 128, overlap: 32, max: 32 }
    }
}

/// A text of more windows than are read. It has at least `windows` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a text of at least {windows} windows, at most {max} are read")]
pub struct TooLong {
    pub windows: usize,
    pub max: usize,
}

/// Why a `tokenizer.json` is not this encoder's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    #[error("not a tokenizer ({cause}); take the tokenizer.json that came with the encoder")]
    Unreadable { cause: String },
    #[error("no token `{token}`; take the tokenizer.json that came with the encoder")]
    NoToken { token: &'static str },
    #[error(
        "{found} tokens around a text, expected one before and one after it; take the tokenizer.json that came \
         with the model"
    )]
    Ends { found: usize },
    #[error(
        "token ids up to {found}, this encoder's vocabulary ends at {max}; take the tokenizer.json that \
         came with the encoder"
    )]
    Vocabulary { found: u32, max: usize },
    #[error("a text could not be tokenised: {cause}")]
    Encode { cause: String },
}

/// A tokenizer that neither pads nor cuts.
pub struct Tokens {
    tokenizer: Tokenizer,
    /// Letters that may stand within a word; of others than WordPiece it does not matter.
    letters: Option<HashSet<char>>,
    first: u32,
    last: u32,
    /// Tokens that no text can mean, and what stands for them.
    special: HashSet<u32>,
    unknown: Option<u32>,
}

impl Tokens {
    pub fn load(bytes: &[u8], config: &Config) -> Result<Self, TokenizerError> {
        let tokenizer = plain(bytes)?;
        let token = |token| tokenizer.token_to_id(token).ok_or(TokenizerError::NoToken { token });
        let (first, last) = (token("[CLS]")?, token("[SEP]")?);
        token("[UNK]")?;
        Self::of(tokenizer, config.vocab_size, first, last)
    }

    /// Of any kind; what stands around a text is as the file says.
    pub fn load_any(bytes: &[u8], vocabulary: usize) -> Result<Self, TokenizerError> {
        let tokenizer = plain(bytes)?;
        let ends = tokenizer.encode("", true).map_err(encode)?;
        let mut tokens = match *ends.get_ids() {
            [first, last] => Self::of(tokenizer, vocabulary, first, last)?,
            ref found => return Err(TokenizerError::Ends { found: found.len() }),
        };
        // The pieces of SentencePiece have them among them, so that letters could become one.
        tokens.unknown = ["[UNK]", "<unk>"].into_iter().find_map(|it| tokens.tokenizer.token_to_id(it));
        let added = tokens.tokenizer.get_added_tokens_decoder();
        tokens.special = added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        tokens.special.extend([tokens.first, tokens.last]);
        Ok(tokens)
    }

    fn of(tokenizer: Tokenizer, max: usize, first: u32, last: u32) -> Result<Self, TokenizerError> {
        let vocabulary = tokenizer.get_vocab(true);
        let within = |token: &String| token.strip_prefix("##").and_then(single);
        let letters = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_))
            .then(|| vocabulary.keys().filter_map(within).collect());
        match vocabulary.into_values().max() {
            Some(found) if found as usize >= max => return Err(TokenizerError::Vocabulary { found, max }),
            _ => {}
        }
        let (special, unknown) = (HashSet::new(), None);
        let tokens = Self { tokenizer, letters, first, last, special, unknown };
        // What cannot be read is found out now and not with a message at hand.
        tokens
            .encode("a \u{1F980} word \u{4E2D}\u{0301}")
            .map_err(|cause| TokenizerError::Encode { cause })?;
        Ok(tokens)
    }

    pub fn windows(&self, text: &str, limits: &Windows) -> Result<Vec<Vec<u32>>, TooLong> {
        let body = limits.tokens.saturating_sub(2).max(1);
        let step = body.saturating_sub(limits.overlap).max(1);
        let max = limits.max.max(1);
        let most = body + (max - 1) * step;
        let too_long = |tokens: usize| TooLong { windows: count(tokens, body, step).max(max + 1), max };
        if text.len() > TEXT_MAX {
            return Err(too_long(0));
        }
        let mut ids = Vec::new();
        for piece in pieces(text) {
            // Loading has shown that the vocabulary has a token for everything; should one text fail
            // all the same, it is one that cannot be scored.
            ids.extend(self.encode(piece).map_err(|_| too_long(0))?);
            if ids.len() > most {
                return Err(too_long(ids.len()));
            }
        }
        let starts = (0..count(ids.len(), body, step)).map(|at| at * step);
        Ok(starts
            .map(|start| {
                let own = ids.iter().skip(start).take(body).copied();
                std::iter::once(self.first).chain(own).chain([self.last]).collect()
            })
            .collect())
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let text = self.apart(text);
        let encoding = self.tokenizer.encode_fast(&*text, false).map_err(|error| error.to_string())?;
        let meant = |id: &u32| if self.special.contains(id) { self.unknown } else { Some(*id) };
        Ok(encoding.get_ids().iter().filter_map(meant).collect())
    }

    /// The text with spaces around what the vocabulary does not know. Within a word, one such character makes
    /// the whole word unknown, after every beginning and end of it was tried.
    fn apart<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(letters) = &self.letters else { return Cow::Borrowed(text) };
        if text.chars().all(|c| knows(letters, c)) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            if knows(letters, c) {
                out.push(c);
            } else {
                out.extend([' ', c, ' ']);
            }
        }
        Cow::Owned(out)
    }
}

/// A tokenizer that neither pads nor cuts.
fn plain(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let unreadable = |error: tokenizers::Error| TokenizerError::Unreadable { cause: error.to_string() };
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unreadable)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(unreadable)?;
    // `[SEP]` in a text is five letters that somebody wrote, not the end of it.
    tokenizer.set_encode_special_tokens(true);
    Ok(tokenizer)
}

fn encode(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Encode { cause: error.to_string() }
}

/// As the tokenizer sees it: lowercase, without accents.
fn knows(letters: &HashSet<char>, c: char) -> bool {
    if c.is_ascii() || is_combining_mark(c) || c.is_whitespace() {
        return true;
    }
    let mut known = true;
    let letter = |c: char| is_combining_mark(c) || c.to_lowercase().all(|c| letters.contains(&c));
    decompose_canonical(c, |part| known &= letter(part));
    known
}

/// The character that a text is.
fn single(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.as_str().is_empty())
}

/// Windows of a text of so many tokens.
fn count(tokens: usize, body: usize, step: usize) -> usize {
    1 + tokens.saturating_sub(body).div_ceil(step)
}

/// Parts of a text, cut before spaces only: no token reaches over one. A part without spaces stays whole.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let from = text.ceil_char_boundary(PIECE);
        let cut = text.get(from..).and_then(|rest| rest.find(' ')).map_or(text.len(), |at| from + at);
        let (piece, rest) = text.split_at_checked(cut)?;
        text = rest;
        Some(piece)
    })
}
