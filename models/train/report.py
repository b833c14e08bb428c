"""How good is a model on what nothing was learned from? Tables in Markdown, of one model or several.

    python models/train/report.py models/impact [OTHER …]

Reads .models/heldout.jsonl and traces.jsonl (heldout.py), data/eval_*.jsonl and the part `dev` of
.models/train.jsonl; all are read as the bus reads them, whole and by sentence, in f32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import ordinal
from build import HERE, ROOT
from encoder import Encoder, Texts
from figures import figures, parked, reliability
from tune import load

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
DATA = ROOT / ".models"


def head_of(folder: Path) -> tuple[list[torch.Tensor], list[float] | None]:
    """Hidden layer, outputs and the levels' values; a head of format 2 has one output and no values."""
    it = json.loads((folder / "head.json").read_text())
    units, single = it["hidden"]["units"], it["format"] == 2
    outputs = [it] if single else it["outputs"]
    head = [np.reshape(it["hidden"]["weights"], (units, -1)) / ordinal.SCALE, it["hidden"]["bias"]]
    head += [[o["weights"] for o in outputs], [o["bias"] for o in outputs]]
    return [torch.tensor(np.array(part)).float() for part in head], None if single else it["values"]


def sets() -> dict[str, list[dict]]:
    dev = [{**row, "set_of": row["set"]} for row in load(DATA / "train.jsonl") if row["part"] == "dev"]
    held = [{**row, "set_of": row["group"].split()[0]} for row in load(DATA / "heldout.jsonl")]
    other = [{**row, "set_of": row["group"]} for path in sorted((HERE / "data").glob("eval_*.jsonl")) for row in load(path)]
    traces = [{**row, "set_of": row["desk"]} for row in load(DATA / "traces.jsonl")]
    return {"dev": dev, "other sources": held, "other writer": other, "traces": traces}


class Scores:
    """What a model says of each set: scores, and the three probabilities (one for a head of format 2)."""

    def __init__(self, folder: Path, rows_of: dict[str, list[dict]], made=Texts):
        encoder = Encoder(folder)
        head, values = head_of(folder)
        passages = [p for rows in rows_of.values() for row in rows for p in ordinal.passages(row["text"])]
        texts = made(encoder, passages, 2)
        vectors, self.p, self.score = texts.vectors(encoder.w), {}, {}
        for name, rows in rows_of.items():
            read = ordinal.Read(texts, [row["text"] for row in rows])
            single = values is None
            p = ordinal.probabilities(read.log_odds(head, vectors, (0.0, 1.0) if single else values))
            self.p[name] = np.repeat(p, 3, 1) if single else p
            self.score[name] = p[:, 0] if single else ordinal.semantic(p, values)


def table(head: list[str], rows: list[list]) -> str:
    show = lambda it: "–" if it is None or it != it else f"{it:.3f}" if isinstance(it, float) else str(it)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(show, line)) + " |" for line in lines) + "\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", type=Path, nargs="+")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    rows_of = sets()
    for folder in given.models:
        print(f"\n## {folder}\n")
        show(Scores(folder, rows_of), rows_of)


def show(scores: Scores, rows_of: dict[str, list[dict]]) -> None:
    lines, shares = [], []
    for name, rows in rows_of.items():
        group = np.array([row["set_of"] for row in rows])
        if name == "traces":
            for desk in sorted(set(group)):
                s = scores.score[name][group == desk]
                shares.append([desk, len(s), *[float((s >= t).mean()) for t in THRESHOLDS]])
            continue
        level = np.array([row["level"] for row in rows])
        for part in [None, *sorted(set(group))]:
            mine = group == part if part else np.full(len(rows), True)
            f = figures(level[mine], scores.score[name][mine], scores.p[name][mine])
            lines.append([f"**{name}**" if not part else part, f["texts"], f["auc_high"], f["auc_worst"], f["recall_1"], f["recall_5"], *f["parked"], f["ece_high"]])
    print(table(["set", "texts", "AUC ≥ 2", "AUC 3", "recall at 1 %", "at 5 %", "parked of 0", "1", "2", "3", "ECE"], lines))
    print(table(["traces", "messages", *[f"≥ {t}" for t in THRESHOLDS]], shares))
    for name in ("other sources", "other writer"):
        level = np.array([row["level"] for row in rows_of[name]])
        print(f"{name}: share of each level at or above")
        print(table(["", "0", "1", "2", "3"], [[f"≥ {t}", *parked(level, scores.score[name], t)] for t in THRESHOLDS]))
        error, bins = reliability((level >= 2).astype(float), scores.p[name][:, 1])
        print(f"{name}: P(level ≥ 2) said and was, by tenths; ECE {error:.3f}")
        print(table(["said", "was", "texts"], [list(b) for b in bins]))


if __name__ == "__main__":
    main()
