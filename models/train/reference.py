"""Scores the texts by which `agentbus tenants check` shows what a threshold would park.

    python models/train/reference.py target/release/agentbus      # → models/reference.json

Asks the program itself, in f32, which every processor has. `cargo test --test it thresholds` says when the
file is not of the shipped model any more.
"""

import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
TEXTS = HERE / "data" / "eval_other_writer.jsonl"
OUT = HERE.parent / "reference.json"


def main() -> None:
    ask = [sys.argv[1], "score", "--precision", "f32", "--file", str(TEXTS)]
    said = [json.loads(line) for line in subprocess.run(ask, check=True, capture_output=True, text=True).stdout.splitlines()]
    levels = [json.loads(line)["level"] for line in TEXTS.read_text().splitlines()]
    head = json.loads((HERE.parent / "impact" / "head.json").read_text())
    scores = [[round(one["semantic"], 4) for one, own in zip(said, levels, strict=True) if own == level] for level in range(4)]
    model = said[0]["model"].rpartition("/")[0]
    reference = {"model": model, "texts": TEXTS.name, "most": head["values"][-1]}
    lines = ",\n".join("    " + json.dumps(of_level) for of_level in scores)
    OUT.write_text(json.dumps(reference)[:-1] + f', "scores": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
