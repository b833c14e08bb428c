"""Which head tells harm best? Learns it from the lines of build.py over an encoder that stays as it is.

    python models/train/train.py --out .models/minilm-l4/head.json            # one hidden layer
    python models/train/train.py --linear --out .models/minilm-l4/head.json   # weights and a bias only

The shipped head is not from here but from tune.py, which begins with one of these.

Learns on `part` train, chooses and calibrates on dev. Runs on one thread and from fixed seeds, so
the same machine gives the same bytes.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from build import ROOT, sentences
from encoder import Encoder, normalized
from figures import auc, figures

SCALE = np.float32(np.sqrt(384))  # unit vectors are tiny; the hidden layer learns on entries around 1
L2 = 1e-5  # of the linear head, against the mean loss
UNITS, MEMBERS = 32, 6  # six small nets side by side are one hidden layer of 192
DECAY, RATE, EPOCHS, BATCH = 0.1, 2e-3, 30, 128
DROPOUT, NOISE = 0.3, 0.5
SHORT_WORDS, SHORT_BYTES = 24, 240  # texts up to here are read as a whole only; as src/impact/text.rs
OWN_WEIGHT = 1.0  # of one of our own lines against one of the given lines


def sigmoid(z):
    return 1 / (1 + np.exp(-np.clip(z, -60, 60)))


def passages(text: str) -> list[str]:
    """What the bus scores of a text: the whole and, of a long one, each sentence; the highest counts."""
    whole = normalized(text)
    long = len(whole.split()) > SHORT_WORDS or len(whole.encode()) > SHORT_BYTES
    return list(dict.fromkeys([whole, *(sentences(text) if long else [])]))


class Features:
    """Pooled vectors of texts, each encoded once."""

    def __init__(self, encoder: Encoder):
        self.encoder, self.known = encoder, {}

    def learn(self, texts: list[str]) -> None:
        new = [t for t in dict.fromkeys(map(normalized, texts)) if t not in self.known]
        windows = [self.encoder.windows(t) for t in new]
        pooled = self.encoder.pooled([w for ws in windows for w in ws])[0]
        at = 0
        for text, ws in zip(new, windows):
            self.known[text] = pooled[at : at + len(ws)]
            at += len(ws)

    def of(self, text: str) -> np.ndarray:
        """One row for each window."""
        return self.known[normalized(text)]


def balanced(weights: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Both kinds weigh the same in all; the mean weight is 1."""
    out = weights.astype(np.float64).copy()
    for kind in (0, 1):
        out[high == kind] /= 2 * out[high == kind].sum()
    return out * len(out)


def fit_linear(x: np.ndarray, high: np.ndarray, weight: np.ndarray, l2: float = L2) -> list[np.ndarray]:
    x, weight, width = x.astype(np.float64), weight / weight.sum(), x.shape[1]

    def loss(t):
        z = x @ t[:width] + t[width]
        g = weight * (sigmoid(z) - high)
        value = np.sum(weight * (np.logaddexp(0, z) - high * z)) + l2 / 2 * t[:width] @ t[:width]
        return value, np.r_[x.T @ g + l2 * t[:width], g.sum()]

    t = minimize(loss, np.zeros(width + 1), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-7}).x
    return [t[:width], t[width:]]


def fit_net(x: np.ndarray, high: np.ndarray, weight: np.ndarray, seed: int) -> list[np.ndarray]:
    """One hidden layer of ReLUs by Adam. Noise on the input and dropout keep it from learning by heart."""
    rng = np.random.RandomState(seed)
    x, high, weight = (x * SCALE).astype(np.float32), high.astype(np.float32), weight.astype(np.float32)
    rows, width = x.shape

    def start(*shape: int) -> np.ndarray:
        bound = np.sqrt(6 / (shape[0] + (shape[1] if len(shape) > 1 else 1)))
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    p = [start(width, UNITS), np.zeros(UNITS, np.float32), start(UNITS), np.zeros(1, np.float32)]
    m, v = [np.zeros_like(a) for a in p], [np.zeros_like(a) for a in p]
    step, steps = 0, EPOCHS * -(-rows // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(rows)
        for at in range(0, rows, BATCH):
            i = order[at : at + BATCH]
            seen = x[i] + np.float32(NOISE) * rng.standard_normal((len(i), width)).astype(np.float32)
            a = seen @ p[0] + p[1]
            open_ = ((a > 0) & (rng.random_sample(a.shape) >= DROPOUT)).astype(np.float32) / np.float32(1 - DROPOUT)
            h = a * open_
            g = weight[i] * (sigmoid(h @ p[2] + p[3]).astype(np.float32) - high[i]) / np.float32(len(i))
            back = g[:, None] * p[2] * open_
            decay = np.float32(DECAY / rows)
            gradients = (seen.T @ back + decay * p[0], back.sum(0), h.T @ g + decay * p[2], g.sum(keepdims=True))
            step += 1
            rate = RATE * (1 - step / (steps + 1))
            for n, gradient in enumerate(gradients):
                m[n] = np.float32(0.9) * m[n] + np.float32(0.1) * gradient
                v[n] = np.float32(0.999) * v[n] + np.float32(0.001) * gradient * gradient
                size = np.sqrt(v[n] / np.float32(1 - 0.999**step)) + np.float32(1e-8)
                p[n] = p[n] - np.float32(rate / (1 - 0.9**step)) * m[n] / size
    return [p[0].T * SCALE, p[1], p[2], p[3]]


def fit_nets(x, high, weight, members: int = MEMBERS) -> list[np.ndarray]:
    nets = [fit_net(x, high, weight, seed) for seed in range(members)]
    return [
        np.concatenate([n[0] for n in nets]),
        np.concatenate([n[1] for n in nets]),
        np.concatenate([n[2] for n in nets]) / members,
        sum(n[3] for n in nets) / members,
    ]


def margin(head: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    if len(head) == 2:
        return x @ head[0] + head[1][0]
    return np.maximum(x @ head[0].T + head[1], 0) @ head[2] + head[3][0]


def training_rows(rows: list[dict], features: Features):
    """Every window of a harmless text is harmless; of a harmful one the first counts, few have more."""
    x, high, weight = [], [], []
    for row in rows:
        windows = features.of(row["text"])
        for window in windows if not row["high"] else windows[:1]:
            x.append(window)
            high.append(row["high"])
            weight.append(row["weight"] * (1.0 if row["set"] == "handover" else OWN_WEIGHT))
    high = np.array(high)
    return np.array(x), high, balanced(np.array(weight), high)


def score(head, rows: list[dict], features: Features) -> np.ndarray:
    """As the bus does: the highest margin of all windows of all passages."""
    return np.array([max(float(margin(head, features.of(p)).max()) for p in passages(row["text"])) for row in rows])


def calibration(z: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Slope and offset by which margins become log-odds on dev, both kinds weighing the same."""
    weight = balanced(np.ones(len(z)), high)

    def loss(t):
        s = t[0] * z + t[1]
        g = weight * (sigmoid(s) - high)
        return np.sum(weight * (np.logaddexp(0, s) - high * s)), np.array([g @ z, g.sum()])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    if not slope > 0:
        raise SystemExit(f"the head is worse than a coin on dev: slope {slope:.3f}")
    return float(slope), float(offset)


def calibrated(head, slope: float, offset: float):
    return [*head[:-2], head[-2] * slope, head[-1] * slope + offset]


def finished(head, parts, features: Features, encoder: Encoder, data_sha256: str, method: str) -> dict:
    """Calibrated on dev and measured there: what head.json says. The head is this encoder's."""
    train, dev = parts
    dev_high = np.array([row["high"] for row in dev])
    head = calibrated(head, *calibration(score(head, dev, features), dev_high))
    z = score(head, dev, features)
    found = {"all": figures(dev_high, z)}
    for name, part in (("given", [r["set"] == "handover" for r in dev]), ("own", [r["set"] != "handover" for r in dev]), ("traps", [r["trap"] for r in dev])):
        part = np.array(part)
        found[name] = figures(dev_high[part], z[part])
    for name, it in found.items():
        print(f"{name:6}", it)

    short = lambda a: [float(f"{value:.6g}") for value in np.asarray(a).ravel()]
    linear = len(head) == 2
    out = {
        "format": 1 if linear else 2,
        "encoder_sha256": encoder.sha256,
        "tokenizer_sha256": encoder.tokenizer_sha256,
        "layer": encoder.layers,
        "pooling": "mean",
        "normalize": True,
    }
    if not linear:
        out["hidden"] = {"activation": "relu", "units": len(head[1]), "weights": short(head[0]), "bias": short(head[1])}
    out["weights"] = short(head[-2])
    out["bias"] = short(head[-1])[0]
    out["trained_on"] = {
        "data": "models/train/data, built by models/train/build.py",
        "sha256": data_sha256,
        "lines": len(train),
        "high": sum(row["high"] for row in train),
        "dev_lines": len(dev),
        "method": method,
        "dev_auc": found["all"]["auc"],
        "dev_f1": found["all"]["f1"],
    }
    return out


def load(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=ROOT / ".models" / "train.jsonl", help="made by build.py")
    arguments.add_argument("--model", type=Path, default=ROOT / ".models" / "minilm-l4", help="made by models/convert.py")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--linear", action="store_true")
    given = arguments.parse_args()

    rows = load(given.data)
    encoder = Encoder(given.model)
    features = Features(encoder)
    features.learn([p for row in rows for p in (passages(row["text"]) if row["part"] == "dev" else [row["text"]])])
    train, dev = ([row for row in rows if row["part"] == part] for part in ("train", "dev"))
    x, high, weight = training_rows(train, features)
    head = fit_linear(x, high, weight) if given.linear else fit_nets(x, high, weight)
    data_sha256 = hashlib.sha256(given.data.read_bytes()).hexdigest()
    method = f"logistic regression, l2 {L2:g}" if given.linear else f"{MEMBERS} nets of {UNITS} ReLUs, averaged"
    out = finished(head, (train, dev), features, encoder, data_sha256, method)
    given.out.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
