#!/usr/bin/env python3
"""What does the reference compute? Writes the golden values that every path is tested against.

The reference is DistilBertModel of Hugging Face transformers with eager attention in f32, on the
weights of models/impact as they are (f16, widened). tests/golden/model/cases.json has the texts;
this fills in their token ids and writes hidden.safetensors beside it:

  pooled      [cases, width]   mean over all tokens of the last layer, divided by its length
  hidden.N    [tokens, width]  the last layer of case N, of those cases that say "hidden"

A case with "cut" keeps that many tokens: the first ones, and the text's last one, [SEP].
The texts of cli/src/model/golden.json, which is built in for `agentbus model verify`, get their
pooled states anew as well.
Needs models/golden-requirements.txt; run it only when the encoder or the cases change.
"""

import hashlib
import json
import struct
from pathlib import Path

import numpy
import torch
from tokenizers import Tokenizer
from transformers import DistilBertModel

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "impact"
GOLDEN = ROOT / "tests" / "golden" / "model"
BUILT_IN = ROOT / "cli" / "src" / "model" / "golden.json"
TOKENS_MAX = 128  # of a window: a text of more is read in several, and has no single state


def main():
    torch.set_num_threads(1)
    model = DistilBertModel.from_pretrained(
        MODEL, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    cases = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))

    tensors = {}
    pooled = []
    for index, case in enumerate(cases):
        ids = tokenizer.encode(case["text"]).ids
        cut = case.get("cut", len(ids))
        case["ids"] = ids if cut >= len(ids) else [*ids[: cut - 1], ids[-1]]
        hidden, state = states(model, case["ids"])
        pooled.append(state)
        if case.get("hidden"):
            tensors[f"hidden.{index}"] = hidden.numpy()
    tensors["pooled"] = numpy.stack(pooled)

    # Escaped, since some texts are of characters that no editor shows.
    lines = ",\n".join(json.dumps(case) for case in cases)
    (GOLDEN / "cases.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")
    write_safetensors(GOLDEN / "hidden.safetensors", tensors)
    longest = max(len(case["ids"]) for case in cases)
    print(f"{len(cases)} cases, up to {longest} tokens, {len(tensors) - 1} with hidden states")
    write_built_in(model, tokenizer)


def states(model, ids):
    """The last layer, and its mean over all tokens divided by its length."""
    with torch.no_grad():
        hidden = model(torch.tensor([ids])).last_hidden_state[0]
        mean = hidden.mean(dim=0)
        return hidden, (mean / mean.norm()).numpy()


def write_built_in(model, tokenizer):
    lines = []
    for case in json.loads(BUILT_IN.read_text(encoding="utf-8"))["cases"]:
        ids = tokenizer.encode(case["text"]).ids
        if len(ids) > TOKENS_MAX:
            raise SystemExit(f"{BUILT_IN.name}: a text of {len(ids)} tokens, at most {TOKENS_MAX} fit: {case['text']}")
        pooled = [float(f"{value:.6g}") for value in states(model, ids)[1]]
        lines.append(json.dumps({"text": case["text"], "pooled": pooled}, separators=(",", ":")))
    encoder = hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest()
    body = ",\n".join(lines)
    text = f'{{"encoder_sha256":"{encoder}","cases":[\n{body}\n]}}\n'
    BUILT_IN.write_text(text, encoding="utf-8", newline="\n")
    print(f"{BUILT_IN.name}: {len(lines)} texts")


def write_safetensors(path, tensors):
    header, body = {}, b""
    for name in sorted(tensors):
        data = tensors[name].astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


if __name__ == "__main__":
    main()
