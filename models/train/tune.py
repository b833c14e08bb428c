"""What do the last two layers have to see so that harm stands out? Tunes them, and a head with them.

    python models/train/tune.py            # writes models/impact/{model.safetensors,head.json,manifest.toml}
    python models/train/tune.py --out DIR  # the same elsewhere, to look at first

Embeddings and the first two layers stay what models/convert.py makes, byte for byte. The others
begin there and at the head that train.py fits to them, learn a few times with different seeds, and
are averaged: with one another, and with where they began (Wortsman et al. 2022, robust fine-tuning),
which keeps what the encoder knew of texts that are not among ours. One thread and fixed seeds, so
the same machine and versions give the same bytes. Needs requirements-tune.txt; a processor with
bf16 takes some minutes.
"""

from __future__ import annotations

import train  # first: it keeps the libraries to one thread

import argparse
import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from build import ROOT
from encoder import EPSILON, Encoder, normalized
from figures import figures

sys.path.insert(0, str(ROOT / "models"))
import convert

SHIPPED = ROOT / "models" / "impact"
BASE = ROOT / ".models" / "minilm-l4"

TUNED = (2, 3)  # layers, counted from 0
SEEDS = (0, 1, 2)  # one run each; their weights are averaged
SHARE = 0.75  # of the way from the first weights to the tuned ones
EPOCHS, BATCH, BATCH_TOKENS = 3, 32, 4096
RATE, HEAD_RATE, WARM_UP = 1e-4, 5e-4, 0.1
DROPOUT, DECAY, NORM_MAX = 0.1, 0.01, 1.0
# The head learns under the same noise and dropout as when it is fitted alone.
HEAD_DROPOUT, HEAD_NOISE = train.DROPOUT, train.NOISE
SCALE = float(train.SCALE)

torch.set_num_threads(1)


class Layers:
    """The encoder in PyTorch: the lower layers are computed once, the upper ones learn."""

    def __init__(self, encoder: Encoder):
        self.heads, self.width, self.layers = encoder.heads, encoder.width, encoder.layers
        self.start = {name: torch.tensor(value) for name, value in encoder.w.items()}
        self.tuned = [n for n in self.start if n.startswith(tuple(f"transformer.layer.{i}." for i in TUNED))]

    def lower(self, ids: torch.Tensor) -> torch.Tensor:
        w = self.start
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self._norm(x, w, "embeddings.LayerNorm")
        for n in range(TUNED[0]):
            x = self._layer(x, w, n, 0.0)
        return x

    def upper(self, x: torch.Tensor, w: dict, dropout: float = 0.0) -> torch.Tensor:
        for n in range(TUNED[0], self.layers):
            x = self._layer(x, w, n, dropout)
        return F.normalize(x.float().mean(1), dim=1)

    def _layer(self, x, w, n, dropout):
        p, (batch, length, _) = f"transformer.layer.{n}.", x.shape
        split = (batch, length, self.heads, self.width // self.heads)
        linear = lambda x, name: F.linear(x, w[f"{p}{name}.weight"], w[f"{p}{name}.bias"])
        q, k, v = (linear(x, f"attention.{name}_lin").view(split).transpose(1, 2) for name in "qkv")
        shares = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(split[3]), -1)
        heads = (F.dropout(shares, dropout) @ v).transpose(1, 2).reshape(batch, length, self.width)
        x = self._norm(x + linear(heads, "attention.out_lin"), w, f"{p}sa_layer_norm")
        h = linear(F.gelu(linear(x, "ffn.lin1")), "ffn.lin2")
        return self._norm(x + F.dropout(h, dropout), w, f"{p}output_layer_norm")

    def _norm(self, x, w, name):
        return F.layer_norm(x, (self.width,), w[f"{name}.weight"], w[f"{name}.bias"], EPSILON)


class Texts:
    """Each text's windows, and what the lower layers make of them: only that goes on learning."""

    def __init__(self, encoder: Encoder, layers: Layers, texts: list[str]):
        self.layers, self.ids, self.places = layers, [], {}
        for text in dict.fromkeys(map(normalized, texts)):
            windows = encoder.windows(text)
            self.places[text] = range(len(self.ids), len(self.ids) + len(windows))
            self.ids += windows
        self.lower: list = [None] * len(self.ids)
        with torch.no_grad():
            for batch in self.batches(np.arange(len(self.ids))):
                made = layers.lower(torch.tensor([self.ids[i] for i in batch]))
                for i, hidden in zip(batch, made):
                    self.lower[i] = hidden.clone()

    def batches(self, windows: np.ndarray, size: int = 64) -> list[np.ndarray]:
        """Only windows of one length share a batch: no padding, no mask. The order within stays."""
        by_length: dict[int, list[int]] = {}
        for i in windows:
            by_length.setdefault(len(self.ids[i]), []).append(i)
        made = []
        for length in sorted(by_length):
            step = max(1, min(size, BATCH_TOKENS // length))
            made += [np.array(by_length[length][at : at + step]) for at in range(0, len(by_length[length]), step)]
        return made

    def hidden(self, batch: np.ndarray) -> torch.Tensor:
        return torch.stack([self.lower[i] for i in batch])

    def features(self, encoder: Encoder, w: dict) -> train.Features:
        """Pooled vectors under these weights, as train.py keeps them."""
        pooled = np.zeros((len(self.ids), encoder.width), np.float32)
        with torch.no_grad():
            for batch in self.batches(np.arange(len(self.ids))):
                pooled[batch] = self.layers.upper(self.hidden(batch), w).numpy()
        made = train.Features(encoder)
        made.known = {text: pooled[place.start : place.stop] for text, place in self.places.items()}
        return made


def log_odds(head: list[torch.Tensor], x: torch.Tensor, dropout: float = 0.0, noise: float = 0.0) -> torch.Tensor:
    x = x * SCALE
    x = x + noise * torch.randn_like(x)
    return F.dropout(F.relu(x @ head[0].T + head[1]), dropout) @ head[2] + head[3][0]


def tune(texts: Texts, rows: list[dict], head: list[torch.Tensor], seed: int) -> tuple[dict, list[torch.Tensor]]:
    """Weights and head after some epochs of AdamW; class balance and windows as in train.py."""
    layers, rng = texts.layers, np.random.RandomState(seed)
    torch.manual_seed(seed)
    windows, high, weight = [], [], []
    for row in rows:
        place = texts.places[normalized(row["text"])]
        for i in place if not row["high"] else place[:1]:
            windows.append(i)
            high.append(row["high"])
            weight.append(row["weight"])
    weight = train.balanced(np.array(weight), np.array(high))
    entries = np.arange(len(windows))
    lengths = np.array([len(texts.ids[i]) for i in windows])
    windows, high, weight = np.array(windows), torch.tensor(high).float(), torch.tensor(weight).float()

    w = dict(layers.start)
    for name in layers.tuned:
        w[name] = w[name].clone().requires_grad_(True)
    head = [part.clone().requires_grad_(True) for part in head]
    matrices = [w[n] for n in layers.tuned if w[n].dim() == 2]
    vectors = [w[n] for n in layers.tuned if w[n].dim() == 1]
    groups = [(matrices, RATE, DECAY), (vectors, RATE, 0.0), (head, HEAD_RATE, DECAY)]
    optimizer = torch.optim.AdamW([{"params": p, "lr": r, "weight_decay": d} for p, r, d in groups], fused=True)

    def batches():
        made = []
        shuffled = rng.permutation(entries)
        for length in np.unique(lengths):
            same = shuffled[lengths[shuffled] == length]
            made += [same[at : at + BATCH] for at in range(0, len(same), BATCH)]
        return [made[i] for i in rng.permutation(len(made))]

    steps, step = EPOCHS * len(batches()), 0
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in batches():
            pace = min(1.0, (step + 1) / (WARM_UP * steps)) * (1 - step / steps)
            step += 1
            for group, (_, rate, _) in zip(optimizer.param_groups, groups):
                group["lr"] = rate * pace
            with torch.autocast("cpu", torch.bfloat16):
                x = layers.upper(texts.hidden(windows[batch]), w, DROPOUT)
            z = log_odds(head, x.float(), HEAD_DROPOUT, HEAD_NOISE)
            # By the full batch's size, so that a text of a rare length weighs no more than others.
            loss = (F.binary_cross_entropy_with_logits(z, high[batch], reduction="none") * weight[batch]).sum() / BATCH
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*matrices, *vectors, *head], NORM_MAX)
            optimizer.step()
            total += loss.item()
        print(f"seed {seed} epoch {epoch + 1}: loss {total * BATCH / len(entries):.4f}", flush=True)
    return {n: w[n].detach() for n in layers.tuned}, [part.detach() for part in head]


def towards(start: torch.Tensor, ends: list[torch.Tensor], share: float = SHARE) -> torch.Tensor:
    return start + share * (torch.stack(ends).mean(0) - start)


def learn(texts: Texts, rows: list[dict], encoder: Encoder, seeds=SEEDS, share: float = SHARE):
    """Start (weights, head) and the averaged outcome (weights, head); heads as train.py has them."""
    layers = texts.layers
    fitted = train.fit_nets(*train.training_rows(rows, texts.features(encoder, layers.start)))
    head = [torch.tensor(np.asarray(part, np.float32)) for part in fitted]
    head[0] = head[0] / SCALE
    runs = [tune(texts, rows, head, seed) for seed in seeds]
    w = {**layers.start, **{n: towards(layers.start[n], [r[0][n] for r in runs], share) for n in layers.tuned}}
    end = [towards(part, [r[1][i] for r in runs], share).double().numpy() for i, part in enumerate(head)]
    end[0] = end[0] * SCALE
    return fitted, w, end


def rounded(w: dict, names: list[str]) -> dict:
    return {n: (t.half().float() if n in names else t) for n, t in w.items()}


def write_weights(base: Path, path: Path, w: dict, names: list[str], data_sha256: str) -> None:
    """The conversion's file with other bytes where a layer was tuned; the header says what was done."""
    data = (base / "model.safetensors").read_bytes()
    header, body = convert.safetensors_parts(data)
    body = bytearray(body)
    for name in names:
        begin, end = header[name]["data_offsets"]
        made = w[name].numpy().astype("<f2").tobytes()
        if header[name]["dtype"] != "F16" or len(made) != end - begin:
            raise SystemExit(f"{name}: {header[name]['dtype']} of {end - begin} bytes, expected F16 of {len(made)}")
        body[begin:end] = made
    header["__metadata__"] |= {
        "tuned_layers": ", ".join(map(str, TUNED)),
        "tuned_by": "models/train/tune.py",
        "tuned_data_sha256": data_sha256,
        "tuned_from_sha256": hashlib.sha256(data).hexdigest(),
    }
    path.write_bytes(convert.safetensors_bytes(header, bytes(body)))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=ROOT / ".models" / "train.jsonl", help="made by build.py")
    arguments.add_argument("--base", type=Path, default=BASE, help="what convert.py makes; it is run if this is missing")
    arguments.add_argument("--out", type=Path, default=SHIPPED)
    given = arguments.parse_args()
    if not (given.base / "model.safetensors").is_file():
        subprocess.run([sys.executable, ROOT / "models" / "convert.py", "--out", given.base], check=True)

    rows = train.load(given.data)
    parts = [[row for row in rows if row["part"] == part] for part in ("train", "dev")]
    encoder = Encoder(given.base)
    layers = Layers(encoder)
    read = [p for row in rows for p in (train.passages(row["text"]) if row["part"] == "dev" else [row["text"]])]
    texts = Texts(encoder, layers, read)
    _, exact, head = learn(texts, parts[0], encoder)
    w = rounded(exact, layers.tuned)
    features = texts.features(encoder, w)
    before = texts.features(encoder, exact)
    cosine = min(float((features.known[t] * before.known[t]).sum(1).min()) for t in features.known)
    print(f"rounding to f16: least cosine of pooled vectors {cosine:.7f}")

    data_sha256 = hashlib.sha256(given.data.read_bytes()).hexdigest()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", *convert.KEPT) if given.out.resolve() != SHIPPED else ():
        shutil.copyfile((given.base if (given.base / name).is_file() else SHIPPED) / name, given.out / name)
    write_weights(given.base, given.out / "model.safetensors", w, layers.tuned, data_sha256)
    # Read back: the head belongs to what is in the file, and it is what was measured.
    stored = load_file(str(given.out / "model.safetensors"))
    if any(not np.array_equal(stored[n].astype(np.float32), w[n].numpy()) for n in w):
        raise SystemExit(f"{given.out / 'model.safetensors'} does not hold the weights that were learned")
    method = f"layers {TUNED[0]} and {TUNED[1]} tuned with {train.MEMBERS} nets of {train.UNITS} ReLUs, {EPOCHS} epochs, "
    method += f"{len(SEEDS)} seeds averaged, {SHARE:g} of the way"
    made = train.finished(head, parts, features, Encoder(given.out), data_sha256, method)
    (given.out / "head.json").write_text(json.dumps(made, separators=(",", ":")) + "\n")
    convert.write_manifest(given.out)


if __name__ == "__main__":
    main()
