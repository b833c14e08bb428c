"""How good are scores? Figures that need no library, of levels and scores."""

from __future__ import annotations

import numpy as np

PARK = 0.8  # the threshold of a tenant that names none
LEVELS = (0, 1, 2, 3)
BINS = 10  # of the reliability table


def auc(high: np.ndarray, z: np.ndarray) -> float:
    """How often a high text scores above a low one; ties count half."""
    _, at, counts = np.unique(z, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[at]
    positive = int(high.sum())
    if positive in (0, len(high)):
        return float("nan")
    return float((ranks[high == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(high) - positive)))


def recall(high: np.ndarray, z: np.ndarray, false: float) -> float:
    """The share of high texts found where this share of low ones is falsely so."""
    low = np.sort(z[high == 0])[::-1]
    return float((z[high == 1] > low[int(false * len(low))]).mean())


def reliability(high: np.ndarray, p: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, list]:
    """Expected calibration error, and by tenth: mean probability, share that was so, texts."""
    weight = np.ones(len(p)) if weight is None else weight
    weight, bins, error, rows = weight / weight.sum(), np.minimum((p * BINS).astype(int), BINS - 1), 0.0, []
    for n in range(BINS):
        mine = bins == n
        if mine.any():
            share = weight[mine].sum()
            said, was = (p[mine] @ weight[mine]) / share, (high[mine] @ weight[mine]) / share
            error += share * abs(said - was)
            rows.append((round(float(said), 3), round(float(was), 3), int(mine.sum())))
    return float(error), rows


def parked(level: np.ndarray, score: np.ndarray, at: float = PARK) -> list:
    return [round(float((score[level == n] >= at).mean()), 3) if (level == n).any() else None for n in LEVELS]


def figures(level: np.ndarray, semantic: np.ndarray, p: np.ndarray) -> dict:
    """`p` has a column for each of P(level >= 1), P(>= 2), P(= 3)."""
    high, worst = (level >= 2).astype(float), (level == 3).astype(float)
    both = 0 < high.sum() < len(high)
    return {
        "texts": len(level),
        "auc_high": round(auc(high, semantic), 3),
        "auc_worst": round(auc(worst, semantic), 3),
        "recall_1": round(recall(high, semantic, 0.01), 3) if both else None,
        "recall_5": round(recall(high, semantic, 0.05), 3) if both else None,
        "parked": parked(level, semantic),
        "ece_high": round(reliability(high, p[:, 1])[0], 3),
        "ece_worst": round(reliability(worst, p[:, 2])[0], 3),
    }
