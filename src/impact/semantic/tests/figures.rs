//! What does reading each sentence cost, and what does it find? The figures of `docs/impact.md`.

use std::{fs, time::Instant};

use super::*;

struct Labelled {
    text: String,
    high: bool,
}

fn labelled() -> Vec<Labelled> {
    let path = std::env::var("AGENTBUS_LABELLED").expect("AGENTBUS_LABELLED names a file of labelled JSONL");
    let lines = fs::read_to_string(path).unwrap();
    let parsed = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    parsed
        .filter(|line| line["part"] == "dev")
        .map(|line| Labelled { text: line["text"].as_str().unwrap().to_owned(), high: line["high"] == 1 })
        .collect()
}

fn auc(scored: &[(f64, bool)]) -> f64 {
    let (mut wins, mut pairs) = (0.0, 0.0);
    for (high, _) in scored.iter().filter(|(_, high)| *high) {
        for (low, _) in scored.iter().filter(|(_, high)| !*high) {
            wins += if high > low {
                1.0
            } else if high == low {
                0.5
            } else {
                0.0
            };
            pairs += 1.0;
        }
    }
    wins / pairs
}

#[test]
#[ignore = "measures; needs AGENTBUS_LABELLED"]
fn reading_sentences() {
    let texts = labelled();
    let low: Vec<&str> = texts.iter().filter(|it| !it.high).map(|it| it.text.as_str()).collect();
    let mut pads = low.iter().cycle();
    let mut padded = |text: &str, words: usize| {
        let mut before: Vec<&str> = Vec::new();
        while before.iter().map(|it| it.split(' ').count()).sum::<usize>() < words {
            before.push(pads.next().unwrap());
        }
        let middle = before.len() / 2;
        before.insert(middle, text);
        before.join(" ")
    };
    let sets: Vec<(String, Vec<(String, bool)>)> = [0, 60, 400]
        .into_iter()
        .map(|words| {
            let all = texts.iter().filter(|it| words == 0 || it.high);
            let set =
                all.map(|it| (if words == 0 { it.text.clone() } else { padded(&it.text, words) }, it.high));
            (format!("{words} words of padding"), set.collect())
        })
        .collect();
    type Scheme = fn(&str) -> Vec<String>;
    let whole: Scheme = |text| vec![normalized(text)];
    for (name, scheme) in [("whole", whole), ("whole and sentences", read as Scheme)] {
        let mut plain_low = Vec::new();
        for (set, items) in &sets {
            let (started, mut tokens) = (Instant::now(), 0);
            let mut scored: Vec<(f64, bool)> = Vec::new();
            for (text, high) in items {
                let passages = scheme(text);
                tokens += windows_of(&MODEL, &passages, 10_000).unwrap().iter().map(Vec::len).sum::<usize>();
                scored.push((highest(&passages), *high));
            }
            let took = started.elapsed();
            if plain_low.is_empty() {
                plain_low = scored.iter().copied().filter(|(_, high)| !*high).collect();
            } else {
                scored.extend(plain_low.iter().copied());
            }
            let share = |wanted: bool, above: f64| {
                let of: Vec<_> = scored.iter().filter(|(_, high)| *high == wanted).collect();
                of.iter().filter(|(score, _)| *score > above).count() as f64 / of.len() as f64
            };
            println!(
                "{name:20} {set:22} AUC {:.3}  >0.5 high {:.3} low {:.3}  >0.8 high {:.3} low {:.3}  {tokens} tokens {took:.1?}",
                auc(&scored),
                share(true, 0.5),
                share(false, 0.5),
                share(true, 0.8),
                share(false, 0.8),
            );
        }
    }
}
