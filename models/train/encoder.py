"""What does the frozen encoder make of a text? Windows of tokens in, pooled vectors out.

The shipped model in plain numpy and f32, so that training needs no deep-learning framework and does
not depend on one's version. It is the arithmetic of DistilBERT (post-norm, erf GELU, layer-norm
epsilon 1e-12); `tests/golden/model` holds the product's encoder to the same values.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

TOKENS_MAX = 128  # of a window, [CLS] and [SEP] included
OVERLAP = 32  # tokens that two neighbouring windows share
EPSILON = 1e-12
BATCH_TOKENS = 2048

# Default-ignorable characters: they show nothing, so they must not change what is read.
_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)


def normalized(text: str) -> str:
    """NFKC, without characters that show nothing, white space collapsed."""
    text = _IGNORED.sub("", unicodedata.normalize("NFKC", text))
    return " ".join(text.split())


class Encoder:
    """A DistilBERT in Hugging Face layout: config.json, model.safetensors, tokenizer.json."""

    def __init__(self, folder: Path):
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text())
        self.width, self.heads, self.layers = config["dim"], config["n_heads"], config["n_layers"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.cls, self.sep = (self.tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]"))
        self.sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        self.tokenizer_sha256 = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
        raw = load_file(str(folder / "model.safetensors"))
        self.w = {k.removeprefix("distilbert."): v.astype(np.float32) for k, v in raw.items()}

    def windows(self, text: str) -> list[list[int]]:
        """Token ids with [CLS] and [SEP]; a long text gives several that overlap."""
        ids = self.tokenizer.encode(normalized(text), add_special_tokens=False).ids
        room = TOKENS_MAX - 2
        starts = [0]
        while starts[-1] + room < len(ids):
            starts.append(starts[-1] + room - OVERLAP)
        return [[self.cls, *ids[s : s + room], self.sep] for s in starts]

    def pooled(self, windows: list[list[int]], layers: tuple[int, ...] | None = None) -> np.ndarray:
        """Normalised mean over all tokens of each window at each layer asked for: [layers, windows, width]."""
        layers = layers or (self.layers,)
        out = np.zeros((len(layers), len(windows), self.width), np.float32)
        order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
        at = 0
        while at < len(order):
            # Only windows of one length share a batch: no padding, no mask, nothing to get wrong.
            length = len(windows[order[at]])
            end = at
            while (
                end < len(order)
                and len(windows[order[end]]) == length
                and (end - at) * length < BATCH_TOKENS
            ):
                end += 1
            batch = order[at:end]
            for n, hidden in self._forward(np.array([windows[i] for i in batch])):
                if n in layers:
                    mean = hidden.mean(axis=1)
                    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
                    out[layers.index(n), batch] = mean
                if n == max(layers):
                    break
            at = end
        return out

    def _forward(self, ids: np.ndarray):
        w, (batch, length) = self.w, ids.shape
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][:length]
        x = self._norm(x, "embeddings.LayerNorm")
        split = (batch, length, self.heads, self.width // self.heads)
        for n in range(self.layers):
            p = f"transformer.layer.{n}."
            q, k, v = (
                self._linear(x, f"{p}attention.{name}_lin").reshape(split).transpose(0, 2, 1, 3)
                for name in "qkv"
            )
            scores = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(split[3]))
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            scores /= scores.sum(axis=-1, keepdims=True)
            heads = (scores @ v).transpose(0, 2, 1, 3).reshape(batch, length, self.width)
            x = self._norm(x + self._linear(heads, f"{p}attention.out_lin"), f"{p}sa_layer_norm")
            h = self._linear(x, f"{p}ffn.lin1")
            h = h * np.float32(0.5) * (1 + erf(h * np.float32(np.sqrt(0.5))))
            x = self._norm(x + self._linear(h, f"{p}ffn.lin2"), f"{p}output_layer_norm")
            yield n + 1, x

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(EPSILON))
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]
