#!/usr/bin/env python3
"""Is our encoder faster than ONNX Runtime on this machine, and as exact? `make bench-model`.

Installs the peer by itself (.models/venv, versions pinned), builds its graphs from the very
weights that agentbus runs, and measures both sides alternately: one thread, batch 1, the same
lengths; then real texts, singly, in batches, and with two instances. Six layers are measured
against six as well as four against four. Ratios are taken inside a round, since a shared machine
is never equally fast for long. Prints a table and writes JSON.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BENCH = ROOT / "models" / "bench"
CACHE = ROOT / ".models"
SHIPPED = ROOT / "models" / "impact"
TEXTS = ROOT / "models" / "train" / "data" / "handover.jsonl"
GOLDEN = ROOT / "tests" / "golden" / "model"
# What a head belongs to, and where it says so.
ENCODER = {"model.safetensors": "encoder_sha256", "tokenizer.json": "tokenizer_sha256"}
# So that both sides encode the same tokens: longer texts become several windows with us.
TOKENS_MAX = 128
BEGIN, END = "<!-- model: begin -->", "<!-- model: end -->"


def main():
    options = arguments()
    inside_venv(BENCH / "requirements.txt")
    try:
        bench(options)
    except (RuntimeError, OSError) as error:
        sys.exit(f"models/bench/bench.py: {error}")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--binary", type=Path, default=ROOT / "target" / "release" / "agentbus")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.5, help="at least, for each length of the peer")
    add("--tokens", default="16,32,64,128,256")
    add("--layers", default="4,6", help="4, 6 or both")
    add("--texts", type=Path, nargs="+", default=[TEXTS], help="JSONL with `text` in each line")
    add("--texts-max", type=int, default=1000)
    add("--wheel", type=Path, help="for the six layers: the source's wheel, instead of pip")
    add("--out", type=Path, default=BENCH / "report.json")
    add("--page", type=Path, help="put the tables into this page as well, between its two marks")
    add("--peer-only", action="store_true", help="leave our side out")
    return parser.parse_args()


def inside_venv(requirements):
    """Go on in an environment of the bench's own, making it first if it is not there."""
    venv = CACHE / "venv-bench"
    python = venv / "bin" / "python"
    if Path(sys.prefix) == venv:
        return
    stamp = venv / "installed.txt"
    wanted = requirements.read_text(encoding="utf-8")
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        print("installing ONNX Runtime into .models/venv-bench", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
        subprocess.run([*pip, "--requirement", str(requirements)], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    # Arithmetic libraries read these when they start: one thread, as on our side.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    sys.stdout.flush()
    os.execv(python, [str(python), *sys.argv])


def bench(options):
    # Only the environment has what these need.
    import peer
    import report

    report_file = {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "onnxruntime": peer.ort.__version__,
        "rounds": options.rounds,
        "layers": {},
        "left_out": [],
    }
    texts_file, texts = chosen_texts(options)
    for layers in map(int, options.layers.split(",")):
        model_dir = None if layers == 4 else converted(layers, options.wheel)
        graphs = peer.prepare(model_dir or SHIPPED, CACHE / "onnx", layers)
        sides = {f"ort {name}": peer.Side(path, options.seconds) for name, path in graphs.items()}
        sides |= our_sides(options, model_dir, layers, report_file["left_out"])
        found = measured(sides, options, texts_file, texts, f"{layers} layers")
        found["engines"] = {name: side.engine for name, side in sides.items()}
        found["speed"] = report.speeds_by_target(found["rounds"])
        report_file["layers"][str(layers)] = found
        if layers == 4:
            golden = peer.golden_difference(graphs["f32"], GOLDEN)
            found = exactness(sides, texts_file, texts)
            report_file["exactness"] = {"golden_ort": golden, **found}
    options.out.write_text(json.dumps(report_file, indent=1) + "\n", encoding="utf-8")
    tables = report.markdown(report_file)
    print(tables)
    if options.page:
        put(tables, options.page)
    if report_file["left_out"]:
        sys.exit(1)


def put(tables, page):
    before, begun, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise RuntimeError(f"{page} needs a line {BEGIN} and after it a line {END}")
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def our_sides(options, model_dir, layers, left_out):
    """Our engines that answer; a reason in `left_out` for each that does not."""
    import ours

    sides = {}
    for name in () if options.peer_only else ours.SIDES:
        side = ours.Side(options.binary, model_dir, layers, name)
        try:
            side.rows([16])
            sides[f"agentbus {name}"] = side
        except (ours.Unavailable, OSError) as error:
            left_out.append(f"agentbus {name}, {layers} layers: {error}")
    return sides


def measured(sides, options, texts_file, texts, what):
    lengths = [int(tokens) for tokens in options.tokens.split(",")]
    found = {"rounds": [], "texts_per_s": {name: [] for name in sides}}
    names = list(sides)
    for number in range(options.rounds):
        print(f"{what}, round {number + 1} of {options.rounds}", file=sys.stderr)
        # Each round begins with another side, so that none always follows the same one.
        start = number % len(names)
        order = names[start:] + names[:start]
        found["rounds"].append({name: sides[name].rows(lengths) for name in order})
        for name in order:
            found["texts_per_s"][name].append(sides[name].texts_per_s(texts_file, texts))
    return found


def exactness(sides, texts_file, texts):
    """How near each side's pooled vectors are to its own f32, and whose decisions change."""
    import numpy as np

    head = json.loads((SHIPPED / "head.json").read_text(encoding="utf-8"))
    weights, bias, hidden = np.array(head["weights"]), head["bias"], head.get("hidden")

    def high(pooled):
        if hidden:
            rows = np.array(hidden["weights"]).reshape(hidden["units"], -1)
            pooled = np.maximum(pooled @ rows.T + np.array(hidden["bias"]), 0)
        return pooled @ weights + bias >= 0

    vectors = {name: side.pooled(texts_file, texts) for name, side in sides.items()}
    pooled = {}
    for name, found in vectors.items():
        own = name.split()[0] + " f32"
        # And f32 of ours against f32 of the peer's, which has been held against the reference.
        against = "ort f32" if name == own or own not in vectors else own
        if name == against:
            continue
        expected = vectors[against]
        cosines = (found * expected).sum(axis=1)
        flipped = high(found) != high(expected)
        pooled[name] = {
            "against": against,
            "min": float(cosines.min()),
            "mean": float(cosines.mean()),
            "flipped": float(flipped.mean()),
        }
    return {
        "texts": len(texts),
        "tokens_mean": sum(map(len, texts)) / len(texts),
        "high": int(high(vectors["ort f32"]).sum()),
        "pooled": pooled,
    }


def chosen_texts(options):
    """Evenly chosen texts of one window each: the file for us, their token ids for the peer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    fitting = {}
    for path in options.texts:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line)["text"]
                ids = tokenizer.encode(text).ids
                if len(ids) <= TOKENS_MAX and text == normalized(text):
                    fitting[text] = ids
    if not fitting:
        sys.exit("models/bench/bench.py: no texts to measure with; give --texts FILE.jsonl")
    step = max(1, len(fitting) // options.texts_max)
    chosen = dict(list(fitting.items())[::step][: options.texts_max])
    path = CACHE / "bench-texts.jsonl"
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(json.dumps({"text": text}) + "\n" for text in chosen)
    return path, list(chosen.values())


def normalized(text):
    """As agentbus reads it, near enough to tell which texts it would read otherwise."""
    return unicodedata.normalize("NFKC", " ".join(text.split()))


def converted(layers, wheel):
    """The source with this many layers, in f16 like the shipped one."""
    out = CACHE / f"minilm-l{layers}"
    command = [sys.executable, str(ROOT / "models" / "convert.py"), "--layers", str(layers)]
    command += ["--out", str(out), *(["--wheel", str(wheel)] if wheel else [])]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    # A model needs a head of its own to load. Speed does not ask what this one answers: nothing.
    digests = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in ENCODER}
    head = json.loads((SHIPPED / "head.json").read_text(encoding="utf-8"))
    head |= {key: digests[name] for name, key in ENCODER.items()}
    head |= {"layer": layers, "weights": [0.0] * len(head["weights"]), "bias": 0.0}
    head |= {"trained_on": {"nothing": "to measure speed only"}}
    (out / "head.json").write_text(json.dumps(head) + "\n", encoding="utf-8")
    return out


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown CPU"


if __name__ == "__main__":
    main()
