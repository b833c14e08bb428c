"""How far up the levels does a text's vector lie? The head: one hidden layer and three outputs.

Output k is the log-odds of "level k or above". Scores are the expectation of the levels' values.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

from build import sentences
from encoder import Texts, normalized

OUTPUTS = 3
SCALE = 384**0.5  # unit vectors are tiny; the hidden layer learns on entries around 1
UNITS = 192
DROPOUT, NOISE = 0.3, 0.5  # keep the head from learning by heart
RATE, DECAY, EPOCHS, BATCH = 2e-3, 1e-4, 20, 128
MASS = (0.35, 0.25, 0.25, 0.15)  # what the levels count in learning
VALUES = (0.05, 0.25, 0.76, 0.97)  # of the levels; why: README.md
PRIOR = (0.42, 0.23, 0.22, 0.13)  # how often the levels are taken to come where the words are read; README.md
SHORT_WORDS, SHORT_BYTES = 24, 240  # texts up to here are read as a whole only; as src/impact/text.rs
PASSAGES_MAX = 64


def passages(text: str) -> list[str]:
    """What the bus reads of a text: the whole and, of a long one, each sentence; the highest counts."""
    whole = normalized(text)
    long = len(whole.split()) > SHORT_WORDS or len(whole.encode()) > SHORT_BYTES
    return list(dict.fromkeys([whole, *(sentences(text) if long else [])]))[:PASSAGES_MAX]


def start(seed: int) -> list[torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    uniform = lambda *shape: (torch.rand(*shape, generator=made) * 2 - 1) * (6 / sum(shape)) ** 0.5
    return [uniform(UNITS, 384), torch.zeros(UNITS), uniform(OUTPUTS, UNITS), torch.zeros(OUTPUTS)]


def log_odds(head: list[torch.Tensor], x: torch.Tensor, dropout: float = 0.0, noise: float = 0.0) -> torch.Tensor:
    x = x * SCALE
    x = x + noise * torch.randn_like(x) if noise else x
    return F.dropout(F.relu(x @ head[0].T + head[1]), dropout) @ head[2].T + head[3]


def targets(rows: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each output: whether the level reaches it, and what that counts.

    Of a line that says `at_most` (a sentence out of a longer text) only the outputs above its level
    are known. What a level counts in all is MASS, however many lines it has.
    """
    level = np.array([row["level"] for row in rows])
    weight = np.array([row["weight"] for row in rows], np.float64)
    for n in range(OUTPUTS + 1):
        weight[level == n] *= MASS[n] / max(weight[level == n].sum(), 1e-9)
    weight *= len(rows)
    reached = (level[:, None] > np.arange(OUTPUTS)).astype(np.float32)
    known = np.array([[not row.get("at_most") or k >= row["level"] for k in range(OUTPUTS)] for row in rows], np.float32)
    return torch.tensor(reached), torch.tensor(known * weight[:, None]).float()


def loss(z: torch.Tensor, reached: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (F.binary_cross_entropy_with_logits(z, reached, reduction="none") * weight).sum()


def fit(x: np.ndarray, reached: torch.Tensor, weight: torch.Tensor, seed: int = 0, epochs: int = EPOCHS) -> list[torch.Tensor]:
    """The head over vectors that stay as they are."""
    torch.manual_seed(seed)
    head, x, order = [part.requires_grad_(True) for part in start(seed)], torch.tensor(x), np.random.RandomState(seed)
    steps, step = epochs * -(-len(x) // BATCH), 0
    optimizer = torch.optim.AdamW(head, lr=RATE, weight_decay=DECAY)
    for _ in range(epochs):
        shuffled = order.permutation(len(x))
        for at in range(0, len(x), BATCH):
            i = shuffled[at : at + BATCH]
            optimizer.param_groups[0]["lr"], step = RATE * (1 - step / steps), step + 1
            optimizer.zero_grad(set_to_none=True)
            (loss(log_odds(head, x[i], DROPOUT, NOISE), reached[i], weight[i]) / len(i)).backward()
            optimizer.step()
    return [part.detach() for part in head]


def probabilities(z: np.ndarray) -> np.ndarray:
    """P(level >= k); one that is above the one before it is cut to that."""
    return np.minimum.accumulate(1 / (1 + np.exp(-np.clip(z, -60, 60))), -1)


def semantic(p: np.ndarray, values=VALUES) -> np.ndarray:
    return values[0] + p @ np.diff(values)


class Read:
    """The texts' passages as the bus reads them: the one with the highest score speaks for its text."""

    def __init__(self, texts: Texts, rows: list[str]):
        self.windows, self.of = [], []
        for n, text in enumerate(rows):
            for passage in passages(text):
                for window in texts.of(passage):
                    self.windows.append(window)
                    self.of.append(n)
        self.of, self.count = np.array(self.of), len(rows)

    def log_odds(self, head: list[torch.Tensor], vectors: np.ndarray, values=VALUES) -> np.ndarray:
        with torch.no_grad():
            z = log_odds(head, torch.tensor(vectors[self.windows])).numpy().astype(np.float64)
        score = semantic(probabilities(z), values)
        best = np.zeros(self.count, int)
        order = np.argsort(score, kind="stable")
        best[self.of[order]] = order  # the last one written is the highest
        return z[best]


def calibrated(head: list[torch.Tensor], read: Read, views: list[np.ndarray], level: np.ndarray) -> list[torch.Tensor]:
    """Slope and offset for each output, so that probabilities are shares of texts that come by PRIOR.

    `views` are the vectors as each precision computes them; all count the same.
    """
    level = np.tile(level, len(views))
    weight = np.array([PRIOR[n] / (level == n).sum() for n in level])
    outputs, bias = head[2].double().numpy().copy(), head[3].double().numpy().copy()
    for _ in range(2):  # once more, since another passage may now be the highest
        now = [*head[:2], torch.tensor(outputs).float(), torch.tensor(bias).float()]
        z = np.concatenate([read.log_odds(now, vectors) for vectors in views])
        for k in range(OUTPUTS):
            slope, offset = platt(z[:, k], (level > k).astype(float), weight)
            outputs[k], bias[k] = outputs[k] * slope, bias[k] * slope + offset
    return [*head[:2], torch.tensor(outputs).float(), torch.tensor(bias).float()]


def platt(z: np.ndarray, reached: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    def cost(t):
        s = t[0] * z + t[1]
        slack = weight * (1 / (1 + np.exp(-np.clip(s, -60, 60))) - reached)
        return np.sum(weight * (np.logaddexp(0, s) - reached * s)), np.array([slack @ z, slack.sum()])

    slope, offset = minimize(cost, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    if not slope > 0:
        raise SystemExit(f"an output is worse than a coin on dev: slope {slope:.3f}")
    return float(slope), float(offset)
