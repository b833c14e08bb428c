//! What the words of a message sound like when there is no model: a count of alarming words.
//!
//! It is the fallback of `origin.md`, and weak (AUC 0.51 in `scoring.md`); the other parts and the
//! floors do not rest on it.

use async_trait::async_trait;

use super::{
    Cost, Patience, Semantic, SemanticScorer, Unscored, Words,
    text::{for_each_text, words},
};
use crate::domain::Message;

/// Scores by whole words, in any case, each counted once: 0, 0.3, 0.6 and, from three on, 0.9.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keywords;

/// Hits from which more do not count.
const HITS_MAX: usize = 3;

#[async_trait]
impl SemanticScorer for Keywords {
    fn read(&self, message: &Message, _: Patience) -> Result<Words, Unscored> {
        Ok(Words::Scored(Keywords::of(message).into()))
    }

    async fn score(&self, words: Words) -> Result<Semantic, Unscored> {
        match words {
            Words::Scored(score) => Ok(score),
            Words::Texts(_) => Err(Unscored::NoModel),
        }
    }

    fn glance(&self, words: Words, then: Box<dyn FnOnce(f64) + Send>) {
        if let Words::Scored(score) = words {
            then(score.score);
        }
    }

    fn cost(&self) -> Cost {
        Cost::Low
    }

    fn name(&self) -> &str {
        "keywords"
    }
}

impl Keywords {
    /// The score itself, which takes no waiting.
    pub fn of(message: &Message) -> f64 {
        let mut hits = Hits::default();
        for_each_text(message, &mut |text| hits.read(text));
        match hits.count {
            0 => 0.0,
            1 => 0.3,
            2 => 0.6,
            _ => 0.9,
        }
    }
}

#[derive(Default)]
struct Hits {
    found: [&'static str; HITS_MAX],
    count: usize,
}

impl Hits {
    fn read(&mut self, text: &str) {
        if self.count == HITS_MAX {
            return;
        }
        for word in words(text) {
            let Some(keyword) = keyword(word) else { continue };
            if self.found.contains(&keyword) {
                continue;
            }
            if let Some(free) = self.found.get_mut(self.count) {
                *free = keyword;
                self.count += 1;
            }
        }
    }
}

/// The keyword a word is, in any case. By length first: most words are none.
fn keyword(word: &str) -> Option<&'static str> {
    let candidates: &[&'static str] = match word.len() {
        4 => &["risk"],
        5 => &["alert", "audit", "legal"],
        6 => &["attack", "breach", "danger", "policy", "threat"],
        7 => &["exploit", "payment"],
        8 => &["abnormal", "critical", "security", "transfer"],
        9 => &["consensus", "emergency", "financial", "violation"],
        10 => &["blockchain", "compliance", "compromise", "governance", "regulation", "suspicious"],
        11 => &["transaction"],
        12 => &["unauthorized"],
        13 => &["vulnerability"],
        _ => &[],
    };
    candidates.iter().copied().find(|keyword| keyword.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::keyword;

    #[test]
    fn every_keyword_of_the_formula_is_found() {
        let all = "critical emergency security breach violation danger risk threat attack exploit \
            vulnerability compromise governance policy regulation compliance legal audit financial \
            transaction payment transfer blockchain consensus unauthorized abnormal suspicious alert";
        for word in all.split_whitespace() {
            assert_eq!(keyword(word), Some(word), "{word}");
            assert_eq!(keyword(&word.to_uppercase()), Some(word), "{word}");
            assert_eq!(keyword(&format!("{word}s")), None, "only whole words count");
        }
    }
}
