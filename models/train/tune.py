"""What do the upper layers have to see so that harm stands out, level by level? Tunes them and the head.

    python models/train/tune.py learn --seed 0     # → .models/runs/0.pt; seeds may run beside each other
    python models/train/tune.py finish             # averages all runs, calibrates → models/impact

Begins at the weights in --start (models/impact as it was before) and at a head that is fitted to
them, and learns both on the part `train` of build.py's lines. The weights of all runs are averaged
(Wortsman et al. 2022, model soups). The part `dev` calibrates the outputs. One thread and fixed seeds;
the figures come out the same, the bytes only on a like processor with the same versions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch

import ordinal
from build import ROOT
from encoder import Encoder, Texts, pooled
from figures import figures

sys.path.insert(0, str(ROOT / "models"))
import convert

SHIPPED = ROOT / "models" / "impact"
RUNS = ROOT / ".models" / "runs"

FIRST = 2  # the layers from here on learn, counted from 0
EPOCHS, BATCH = 2, 32
RATE, HEAD_RATE, WARM_UP = 1e-4, 5e-4, 0.1
DROPOUT, DECAY, NORM_MAX = 0.1, 0.01, 1.0
SAY_EVERY = 100  # steps

torch.set_num_threads(1)


def load(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def entries(texts: Texts, rows: list[dict]) -> tuple[np.ndarray, list[dict]]:
    """Every window of a text of no more than a small effect is one; else the first, few have more."""
    windows, of = [], []
    for row in rows:
        place = texts.of(row["text"])
        for i in place if row["level"] < 2 else place[:1]:
            windows.append(i)
            of.append(row)
    return np.array(windows), of


def tuned_names(encoder: Encoder) -> list[str]:
    return [n for n in encoder.w if n.startswith(tuple(f"transformer.layer.{i}." for i in range(FIRST, encoder.layers)))]


def tune(texts: Texts, rows: list[dict], head: list[torch.Tensor], seed: int, epochs: int = EPOCHS):
    """Weights and head after some epochs of AdamW."""
    encoder, order = texts.encoder, np.random.RandomState(seed)
    torch.manual_seed(seed)
    windows, rows = entries(texts, rows)
    reached, weight = ordinal.targets(rows)
    lengths = np.array([len(texts.ids[i]) for i in windows])
    names = tuned_names(encoder)
    w = dict(encoder.w)
    for name in names:
        w[name] = w[name].clone().requires_grad_(True)
    head = [part.clone().requires_grad_(True) for part in head]
    matrices, vectors = ([w[n] for n in names if (w[n].dim() == 2) == two] for two in (True, False))
    groups = [(matrices, RATE, DECAY), (vectors, RATE, 0.0), (head, HEAD_RATE, DECAY)]
    optimizer = torch.optim.AdamW([{"params": p, "lr": r, "weight_decay": d} for p, r, d in groups], fused=True)

    def batches() -> list[np.ndarray]:
        shuffled, made = order.permutation(len(windows)), []
        for length in np.unique(lengths):
            same = shuffled[lengths[shuffled] == length]
            made += [same[at : at + BATCH] for at in range(0, len(same), BATCH)]
        return [made[i] for i in order.permutation(len(made))]

    steps, step, total, begun = epochs * len(batches()), 0, 0.0, time.monotonic()
    for _ in range(epochs):
        for batch in batches():
            pace = min(1.0, (step + 1) / (WARM_UP * steps)) * (1 - step / steps)
            step += 1
            for group, (_, rate, _) in zip(optimizer.param_groups, groups):
                group["lr"] = rate * pace
            x = pooled(encoder.run(texts.hidden(windows[batch]), w, texts.upper, DROPOUT))
            z = ordinal.log_odds(head, x, ordinal.DROPOUT, ordinal.NOISE)
            # By the full batch's size, so that a text of a rare length weighs no more than others.
            cost = ordinal.loss(z, reached[batch], weight[batch]) / BATCH
            optimizer.zero_grad(set_to_none=True)
            cost.backward()
            torch.nn.utils.clip_grad_norm_([*matrices, *vectors, *head], NORM_MAX)
            optimizer.step()
            total += cost.item()
            if step % SAY_EVERY == 0:
                print(f"step {step} of {steps}: loss {total / SAY_EVERY:.4f}, {time.monotonic() - begun:.0f} s", flush=True)
                total = 0.0
    return {n: w[n].detach() for n in names}, [part.detach() for part in head]


def mean(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(parts).mean(0)


def learn(data: Path, start: Path, seed: int, made=Texts) -> dict:
    """One run: what it began with and where it ended."""
    rows = [row for row in load(data) if row["part"] == "train"]
    encoder = Encoder(start)
    texts = made(encoder, [row["text"] for row in rows], FIRST)
    plain = [row for row in rows if "varied" not in row]
    first = made(encoder, [row["text"] for row in plain], FIRST)
    windows, of = entries(first, plain)
    fitted = ordinal.fit(first.vectors(encoder.w)[windows], *ordinal.targets(of), seed=0)
    w, head = tune(texts, rows, fitted, seed)
    return {"start": encoder.sha256, "data": sha256(data), "w": w, "head": head}


def averaged(encoder: Encoder, runs: list[dict]) -> tuple[dict, list[torch.Tensor]]:
    """Weights, rounded to what the file holds, and head."""
    w = {**encoder.w, **{n: mean([run["w"][n] for run in runs]).half().float() for n in runs[0]["w"]}}
    return w, [mean(list(parts)) for parts in zip(*(run["head"] for run in runs))]


def write_weights(path: Path, start: Path, w: dict, names: list[str], data_sha256: str) -> None:
    """The start's file with other bytes where a layer was tuned; the header says what was done."""
    data = (start / "model.safetensors").read_bytes()
    header, body = convert.safetensors_parts(data)
    body = bytearray(body)
    for name in names:
        begin, end = header[name]["data_offsets"]
        made = w[name].numpy().astype("<f2").tobytes()
        if header[name]["dtype"] != "F16" or len(made) != end - begin:
            raise SystemExit(f"{name}: {header[name]['dtype']} of {end - begin} bytes, expected F16 of {len(made)}")
        body[begin:end] = made
    header["__metadata__"] |= {
        "tuned_layers": ", ".join(str(n) for n in range(FIRST, 4)),
        "tuned_by": "models/train/tune.py",
        "tuned_data_sha256": data_sha256,
        "tuned_start_sha256": hashlib.sha256(data).hexdigest(),
    }
    path.write_bytes(convert.safetensors_bytes(header, bytes(body)))


def head_json(head: list[torch.Tensor], encoder: Encoder, facts: dict) -> dict:
    short = lambda a: [float(f"{value:.6g}") for value in np.asarray(a, np.float64).ravel()]
    return {
        "format": 3,
        "encoder_sha256": encoder.sha256,
        "tokenizer_sha256": encoder.tokenizer_sha256,
        "layer": encoder.layers,
        "pooling": "mean",
        "normalize": True,
        "hidden": {"activation": "relu", "units": len(head[1]), "weights": short(head[0] * ordinal.SCALE), "bias": short(head[1])},
        "outputs": [{"weights": short(weights), "bias": short(bias)[0]} for weights, bias in zip(head[2], head[3])],
        "values": list(ordinal.VALUES),
        "trained_on": facts,
    }


def finish(data: Path, start: Path, out: Path, runs: list[dict], made=Texts) -> None:
    rows, data_sha256 = load(data), sha256(data)
    encoder = Encoder(start)
    if any(run["data"] != data_sha256 or run["start"] != encoder.sha256 for run in runs):
        raise SystemExit(f"a run began elsewhere than {start} or learned from other lines than {data}: learn anew")
    w, head = averaged(encoder, runs)
    texts, vectors = dev_texts(encoder, rows, FIRST, w, made)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", *convert.KEPT) if out.resolve() != SHIPPED else ():
        shutil.copyfile(SHIPPED / name, out / name)
    write_weights(out / "model.safetensors", start, w, list(runs[0]["w"]), data_sha256)
    method = f"layers {FIRST} to 3 and {ordinal.UNITS} ReLUs, {EPOCHS} epochs, {len(runs)} runs averaged"
    write_head(out, head, rows, texts, [vectors], {"sha256": data_sha256, "method": method})


def dev_texts(encoder: Encoder, rows: list[dict], first: int, w: dict, made=Texts) -> tuple[Texts, np.ndarray]:
    """What the outputs are calibrated on."""
    texts = made(encoder, [p for row in rows if row["part"] == "dev" for p in ordinal.passages(row["text"])], first)
    return texts, texts.vectors(w)


def write_head(out: Path, head: list[torch.Tensor], rows: list[dict], texts: Texts, views: list[np.ndarray], facts: dict) -> None:
    """Calibrates the head on dev, as each precision sees it, and puts it beside the encoder, with the facts of its making."""
    dev = [row for row in rows if row["part"] == "dev"]
    read, level = ordinal.Read(texts, [row["text"] for row in dev]), np.array([row["level"] for row in dev])
    head = ordinal.calibrated(head, read, views, level)
    p = ordinal.probabilities(read.log_odds(head, views[0]))
    found = figures(level, ordinal.semantic(p), p)
    print("dev, calibrated", found)
    facts = {
        "data": "models/train/data, built by models/train/build.py",
        "sha256": facts["sha256"],
        "lines": len(rows) - len(dev),
        "dev_lines": len(dev),
        "method": facts["method"],
        "prior": str(ordinal.PRIOR),
        "dev_auc_high": found["auc_high"],
        "dev_auc_worst": found["auc_worst"],
    }
    (out / "head.json").write_text(json.dumps(head_json(head, Encoder(out), facts), separators=(",", ":")) + "\n")
    convert.write_manifest(out)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=("learn", "finish"))
    arguments.add_argument("--data", type=Path, default=ROOT / ".models" / "train.jsonl", help="made by build.py")
    arguments.add_argument("--start", type=Path, default=ROOT / ".models" / "start", help="a model's folder")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path, default=SHIPPED)
    given = arguments.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    if given.what == "learn":
        torch.save(learn(given.data, given.start, given.seed), RUNS / f"{given.seed}.pt")
    else:
        finish(given.data, given.start, given.out, [torch.load(path) for path in sorted(RUNS.glob("*.pt"))])


if __name__ == "__main__":
    main()
