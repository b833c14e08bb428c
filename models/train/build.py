"""Which lines does the head learn from, and which is it chosen by?

Reads data/*.jsonl, applies data/corrections.jsonl (train part only), drops doubles, assigns whole
families to train or dev, adds variations to train, and writes one JSONL file with `part`, `family`
and `weight` on each line. Same input, same bytes.

    python models/train/build.py [--out .models/train.jsonl]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

from encoder import normalized
from wordy import joined, wordy

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEV_SHARE = 0.15  # of our own families; the given lines keep the part they came with
FAMILY_OVERLAP = 0.5  # of words and pairs of words, from which on two texts are of one family
NEAR_DOUBLE = 0.8  # the same, from which on a line of train is a double of one in dev
WORDS_MIN = 3  # of a sentence that is read on its own; as src/impact/text/sentences.rs
SENTENCE_WORDS, PIECE_WORDS, PIECE_STEP = 32, 16, 8  # a longer one is read in such pieces as well
COMMON_MAX = 200  # a pair of words in more texts than this says nothing about kinship
WORDY_TURNS = 2  # of a line out of domains where people talk much; of others every third gets one
VARIED_WEIGHT = 0.5  # of a line that is a variation of another


def digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def read() -> list[dict]:
    """All lines, in the order of file names; a text that comes again is dropped."""
    rows, seen = [], set()
    for path in sorted((HERE / "data").glob("*.jsonl")):
        if path.name == "corrections.jsonl" or path.name.startswith("eval_"):
            continue  # eval_*.jsonl are kept aside: nothing is learned from them or chosen by them
        for number, line in enumerate(path.read_text().splitlines(), 1):
            row = json.loads(line)
            where = f"{path.name}:{number}"
            if row["level"] not in (0, 1, 2, 3) or row["high"] != int(row["level"] >= 2):
                raise SystemExit(f"{where}: high is {row['high']} at level {row['level']}; high means level 2 or 3")
            key = normalized(row["text"]).lower()
            if not key:
                raise SystemExit(f"{where}: empty text")
            if key in seen:
                continue
            seen.add(key)
            row["set"] = "handover" if path.name == "handover.jsonl" else path.stem
            row["trap"] = row["group"].startswith("trap") or "trap" in path.stem
            if row["set"] == "handover":
                # A template's lines are mates; lines of a benchmark are single.
                row["family"] = row["source"] if row["group"] == "template" else row["id"]
            rows.append(row)
    return rows


def correct(rows: list[dict]) -> int:
    by_id = {row["id"]: row for row in rows if "id" in row}
    corrections = [json.loads(l) for l in (HERE / "data" / "corrections.jsonl").read_text().splitlines()]
    for it in corrections:
        row = by_id[it["id"]]
        if row["part"] != "train" or row["level"] != it["was"]:
            raise SystemExit(f"correction of {it['id']}: part {row['part']}, level {row['level']}; expected train and {it['was']}")
        row["level"], row["high"] = it["level"], int(it["level"] >= 2)
    return len(corrections)


def grams(text: str) -> set:
    words = re.findall(r"\w+", text.lower())
    return set(words) | set(zip(words, words[1:]))


def kinship(rows: list[dict]):
    """Pairs of rows with the share of words and pairs of words that they have in common."""
    sets, where = [grams(row["text"]) for row in rows], defaultdict(list)
    for i, mine in enumerate(sets):
        shared = Counter(j for gram in mine if len(where[gram]) < COMMON_MAX for j in where[gram])
        for j, common in shared.items():
            overlap = common / (len(mine) + len(sets[j]) - common)
            if overlap >= FAMILY_OVERLAP:
                yield i, j, overlap
        for gram in mine:
            where[gram].append(i)


def assign(rows: list[dict]) -> list[dict]:
    """Whole families to one part, and no line of train that nearly is one of dev."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    own = [row["set"] != "handover" for row in rows]
    first: dict[tuple, int] = {}
    for i, row in enumerate(rows):
        if own[i]:
            parent[root(i)] = root(first.setdefault((row["set"], row["family"]), i))
    pairs = list(kinship(rows))
    for i, j, _ in pairs:
        if own[i] and own[j]:
            low, high = sorted((root(i), root(j)))
            parent[high] = low
    for i, row in enumerate(rows):
        if own[i]:
            row["family"] = f"own-{root(i)}"
            share = digest(rows[root(i)]["text"]) / 2**64
            row["part"] = "dev" if share < DEV_SHARE else "train"
    doubles = set()
    for i, j, overlap in pairs:
        if overlap >= NEAR_DOUBLE and {rows[i]["part"], rows[j]["part"]} == {"train", "dev"}:
            doubles.add(i if rows[i]["part"] == "train" else j)
    return [row for i, row in enumerate(rows) if i not in doubles]


def rendered_json(text: str) -> str | None:
    """A call in JSON as the bus shows it to the model: values behind the words of their keys."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    parts: list[str] = []

    def walk(label: str, value) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                words = " ".join(re.findall(r"[^\W_]+", key))
                walk(f"{label} {words}".strip(), inner)
        elif isinstance(value, list):
            for inner in value:
                walk(label, inner)
        else:
            shown = "" if value is None else ("no", "yes")[value] if isinstance(value, bool) else str(value)
            parts.append(f"{label}: {shown}" if shown else label)

    walk("", value)
    return "; ".join(parts)


def sentences(text: str) -> list[str]:
    """As src/impact/text/sentences.rs: a long one also in pieces."""
    found, open_words = [], []

    def end() -> None:
        nonlocal open_words
        if len(open_words) >= WORDS_MIN:
            found.append(" ".join(open_words))
            if len(open_words) > SENTENCE_WORDS:
                found.extend(" ".join(open_words[at : at + PIECE_WORDS]) for at in range(0, len(open_words) - PIECE_STEP, PIECE_STEP))
            open_words = []

    for line in text.splitlines():
        for word in normalized(line).split():
            open_words.append(word)
            if word.rstrip("\"')]}”’»").endswith((".", "!", "?", ";", ":", "…")):
                end()
        end()
    return found


POLITE = ("Please {}", "Hi, {}", "{} Thanks!", "Task: {}", "Hello agent, {}", "{} asap", "FYI: {}", "Could you do this: {}")
KEYS = ("task: {}", "instruction: {}; priority: normal", "step: 1; request: {}", "note: {}", "from: planner; to: worker; {}")


def vary(rows: list[dict]) -> list[dict]:
    """Other shapes of the same request, for train only. Each is chosen by the text's digest."""
    out = []

    def add(row: dict, text: str, how: str, **more) -> None:
        out.append({**row, "text": text, "varied": how, "weight": VARIED_WEIGHT, **more})

    low = [row for row in rows if row["level"] < 2]
    for row in rows:
        text, n = row["text"], digest(row["text"])
        lowered = text[:1].lower() + text[1:] if text[:2].istitle() else text
        as_call = rendered_json(text)
        if as_call:
            add(row, as_call, "call")
        elif n % 8 == 0:
            add(row, POLITE[n // 8 % len(POLITE)].format(lowered), "polite")
        elif n % 8 == 1:
            add(row, KEYS[n // 8 % len(KEYS)].format(text), "keys")
        pieces = sentences(text)
        if as_call is None and len(text) < 300:
            for turn in range(WORDY_TURNS if row["set"].endswith("_5") else n // 5 % 3 == 0):
                add(row, wordy(text, digest(f"{turn} {text}")), "wordy")
        mate = rows[n // 11 % len(rows)]
        both = joined(text, mate["text"], n // 13)
        if both and n // 17 % 4 == 0:
            add(row, both, "joined", level=max(row["level"], mate["level"]))
        # Each sentence is scored alone as well, and none can be worse than its text.
        if row["level"] < 3 and len(pieces) > 1:
            for piece in sorted(pieces, key=digest)[:4]:
                add(row, piece, "sentence", at_most=True)
        # Two requests are as bad as the worse of them.
        other = low[n // 64 % len(low)]
        if n % 16 == 2 and len(text) + len(other["text"]) < 400:
            both = f"{text} {other['text']}" if n // 16 % 2 else f"{other['text']} {text}"
            add(row, both, "beside", level=max(row["level"], other["level"]))
    return out


def build() -> list[dict]:
    rows = read()
    given = len(rows)
    corrected = correct(rows)
    rows = assign(rows)
    for row in rows:
        row["weight"] = 1.0
    dev_texts = {normalized(row["text"]).lower() for row in rows if row["part"] == "dev"}
    varied = [row for row in vary([r for r in rows if r["part"] == "train"]) if normalized(row["text"]).lower() not in dev_texts]
    print(f"{given} texts, {corrected} corrected, {given - len(rows)} doubles of dev dropped, {len(varied)} variations")
    return rows + varied


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=ROOT / ".models" / "train.jsonl")
    out = arguments.parse_args().out
    rows = build()
    out.parent.mkdir(parents=True, exist_ok=True)
    keep = ("text", "level", "part", "weight", "group", "family", "set", "trap", "varied", "at_most")
    body = "".join(json.dumps({k: row[k] for k in keep if k in row}, ensure_ascii=False) + "\n" for row in rows)
    out.write_text(body)
    for part in ("train", "dev"):
        print(part, dict(Counter(f"{row['set'].split('_')[0]}{'+' if row['high'] else '-'}" for row in rows if row["part"] == part)))
    print(f"{out.name}: {len(rows)} lines, sha256 {hashlib.sha256(body.encode()).hexdigest()[:16]}")


if __name__ == "__main__":
    main()
