"""What does the encoder make of a text? Passages and windows of tokens in, pooled vectors out.

DistilBERT in PyTorch and f32 (post-norm, erf GELU, layer-norm epsilon 1e-12), its layers apart so
that the lower ones are computed once; `tests/golden/model` holds the product's encoder to the same
values.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from tokenizers import Tokenizer

TOKENS_MAX = 128  # of a window, [CLS] and [SEP] included
OVERLAP = 32  # tokens that two neighbouring windows share
WINDOWS_MAX = 64  # of a text; a longer one is not scored
EPSILON = 1e-12
BATCH_TOKENS = 4096

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
    """A DistilBERT in Hugging Face layout: config.json, model.safetensors, tokenizer.json.

    With `int8` its linear layers round as the product's do: weights per output to -127…127, inputs per row to 0…255.
    """

    def __init__(self, folder: Path, int8: bool = False):
        folder, self.int8 = Path(folder), int8
        config = json.loads((folder / "config.json").read_text())
        self.width, self.heads, self.layers = config["dim"], config["n_heads"], config["n_layers"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.cls, self.sep = (self.tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]"))
        self.sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        self.tokenizer_sha256 = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
        raw = load_file(str(folder / "model.safetensors"))
        self.w = {k.removeprefix("distilbert."): torch.tensor(v.astype(np.float32)) for k, v in raw.items()}

    def windows(self, text: str) -> list[list[int]]:
        """Token ids with [CLS] and [SEP]; a long text gives several that overlap."""
        ids = self.tokenizer.encode(normalized(text), add_special_tokens=False).ids
        room = TOKENS_MAX - 2
        starts = [0]
        while starts[-1] + room < len(ids):
            starts.append(starts[-1] + room - OVERLAP)
        return [[self.cls, *ids[s : s + room], self.sep] for s in starts]

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.w["embeddings.word_embeddings.weight"][ids]
        x = x + self.w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        return self._norm(x, self.w, "embeddings.LayerNorm")

    def run(self, x: torch.Tensor, w: dict, layers: range, dropout: float = 0.0) -> torch.Tensor:
        for n in layers:
            x = self._layer(x, w, f"transformer.layer.{n}.", dropout)
        return x

    def _layer(self, x, w, p, dropout):
        batch, length, _ = x.shape
        split = (batch, length, self.heads, self.width // self.heads)
        linear = lambda x, name: self._linear(x, w[f"{p}{name}.weight"], w[f"{p}{name}.bias"])
        q, k, v = (linear(x, f"attention.{name}_lin").view(split).transpose(1, 2) for name in "qkv")
        shares = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(split[3]), -1)
        heads = (F.dropout(shares, dropout) @ v).transpose(1, 2).reshape(batch, length, self.width)
        x = self._norm(x + linear(heads, "attention.out_lin"), w, f"{p}sa_layer_norm")
        h = linear(F.gelu(linear(x, "ffn.lin1")), "ffn.lin2")
        return self._norm(x + F.dropout(h, dropout), w, f"{p}output_layer_norm")

    def _linear(self, x, weight, bias):
        if self.int8:
            x, weight = in_bytes(x), in_signed_bytes(weight)
        return F.linear(x, weight, bias)

    def _norm(self, x, w, name):
        return F.layer_norm(x, (self.width,), w[f"{name}.weight"], w[f"{name}.bias"], EPSILON)


def in_bytes(rows: torch.Tensor) -> torch.Tensor:
    """Each row as 0…255 between its least and its greatest value."""
    least = rows.amin(-1, keepdim=True)
    unit = (rows.amax(-1, keepdim=True) - least).clamp_min(1e-30) / 255
    return ((rows - least) / unit).round().clamp(0, 255) * unit + least


def in_signed_bytes(outputs: torch.Tensor) -> torch.Tensor:
    """The weights of each output as -127…127."""
    unit = outputs.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return (outputs / unit).round().clamp(-127, 127) * unit


def pooled(x: torch.Tensor) -> torch.Tensor:
    """The mean over all tokens of each window, divided by its length."""
    return F.normalize(x.float().mean(1), dim=1)


class Texts:
    """Each text's windows, and what the layers below `first` make of them: only the others learn."""

    def __init__(self, encoder: Encoder, texts: list[str], first: int):
        self.encoder, self.upper, self.ids, self.places = encoder, range(first, encoder.layers), [], {}
        for text in dict.fromkeys(map(normalized, texts)):
            windows = encoder.windows(text)[:WINDOWS_MAX]
            self.places[text] = range(len(self.ids), len(self.ids) + len(windows))
            self.ids += windows
        self.lower: list = [None] * len(self.ids)
        with torch.no_grad():
            for batch in self.batches(np.arange(len(self.ids))):
                made = encoder.embedded(torch.tensor([self.ids[i] for i in batch]))
                for i, hidden in zip(batch, encoder.run(made, encoder.w, range(first))):
                    self.lower[i] = hidden.half()  # half the memory; far finer than what learning can tell

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
        return torch.stack([self.lower[i] for i in batch]).float()

    def vectors(self, w: dict) -> np.ndarray:
        """The pooled vector of each window under these weights."""
        out = np.zeros((len(self.ids), self.encoder.width), np.float32)
        with torch.no_grad():
            for batch in self.batches(np.arange(len(self.ids))):
                out[batch] = pooled(self.encoder.run(self.hidden(batch), w, self.upper)).numpy()
        return out

    def of(self, text: str) -> range:
        return self.places[normalized(text)]
