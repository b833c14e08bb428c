"""How good are scores? Figures that need no library, of labels and margins (log-odds)."""

from __future__ import annotations

import numpy as np

NEEDS_LOOK, FLOOR = 0.0, float(np.log(0.8 / 0.2))  # margins of the scores 0.5 and 0.8


def auc(high: np.ndarray, z: np.ndarray) -> float:
    """How often a high text scores above a low one; ties count half."""
    values, at, counts = np.unique(z, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[at]
    positive = int(high.sum())
    return float((ranks[high == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(high) - positive)))


def figures(high: np.ndarray, z: np.ndarray) -> dict[str, float]:
    low, up = z[high == 0], z[high == 1]
    hit, false = int((up > NEEDS_LOOK).sum()), int((low > NEEDS_LOOK).sum())
    return {
        "texts": len(z),
        "auc": round(auc(high, z), 4),
        "f1": round(2 * hit / (hit + false + len(up)), 4),
        "accuracy": round(float(((z > NEEDS_LOOK) == high).mean()), 4),
        "found": round(hit / len(up), 4),
        "false": round(false / len(low), 4),
        "found_above_0.8": round(float((up > FLOOR).mean()), 4),
        "false_above_0.8": round(float((low > FLOOR).mean()), 4),
        "found_at_5_percent_false": round(float((up > np.quantile(low, 0.95)).mean()), 4),
    }
