"""What do new lines teach the head, while the encoder stays as it is? Learns the head alone.

    python models/train/head.py                    # → models/impact: head.json, manifest.toml

The head is fitted several times over the vectors of the part `train`, each time from another seed. The units of
all stand side by side in one hidden layer whose outputs are the mean of theirs. It learns from each text twice, as f32
and as int8 computes it, so that the two are of one mind; `dev` calibrates it by both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import ordinal
from build import ROOT
from encoder import Encoder, Texts
from tune import SHIPPED, dev_texts, entries, load, mean, sha256, write_head

SEEDS = range(5)


def side_by_side(heads: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    """One head whose outputs are the mean of these heads' outputs."""
    hidden, hidden_bias, outputs, bias = zip(*heads)
    return [torch.cat(hidden), torch.cat(hidden_bias), torch.cat(outputs, 1) / len(heads), mean(list(bias))]


def learn(encoders: list[Encoder], rows: list[dict], made=Texts) -> list[torch.Tensor]:
    seen, epochs = [], ordinal.EPOCHS // len(encoders)
    for encoder in encoders:
        texts = made(encoder, [row["text"] for row in rows], encoder.layers)
        windows, of = entries(texts, rows)
        seen.append(texts.vectors(encoder.w)[windows])
    vectors, wanted = np.concatenate(seen), [part.repeat(len(encoders), 1) for part in ordinal.targets(of)]
    return side_by_side([ordinal.fit(vectors, *wanted, seed=seed, epochs=epochs) for seed in SEEDS])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=ROOT / ".models" / "train.jsonl", help="made by build.py")
    arguments.add_argument("--model", type=Path, default=SHIPPED, help="a model's folder, whose head is written")
    given = arguments.parse_args()
    rows, encoders = load(given.data), [Encoder(given.model, int8) for int8 in (False, True)]
    head = learn(encoders, [row for row in rows if row["part"] == "train"])
    read = [dev_texts(encoder, rows, encoder.layers, encoder.w) for encoder in encoders]
    (texts, _), views = read[0], [vectors for _, vectors in read]
    ways = f"f32 and int8, {ordinal.EPOCHS // len(encoders)} epochs of both"
    method = f"over the encoder as it is in {ways}, {len(SEEDS)} times {ordinal.UNITS} ReLUs side by side"
    write_head(given.model, head, rows, texts, views, {"sha256": sha256(given.data), "method": method})


if __name__ == "__main__":
    main()
