"""What came out? Ratios and tables, from the measurements of all rounds."""

from statistics import median

# (requirement, ours, theirs, at least, good): how many times faster ours must be.
SPEEDS = (
    ("agentbus candle f32 against ORT f32", "candle f32", "f32", 0.7, 0.85),
    ("agentbus f32 against ORT f32", "f32", "f32", 0.7, 0.85),
    ("agentbus bf16 against ORT f32", "bf16", "f32", 1.8, 2.4),
    ("agentbus int8 against ORT int8", "int8", "int8", 1.0, 1.5),
)
# What counts for a speed: the lengths of a window, as the bus runs none longer.
WINDOW = 128


def speeds(rounds, ours, theirs):
    """{tokens: how many times faster}, median and range over the rounds, side by side in each."""
    ratios = {}
    for measured in rounds:
        if ours in measured and theirs in measured:
            for mine, other in zip(measured[ours], measured[theirs], strict=True):
                ratio = other["median_us"] / mine["median_us"]
                ratios.setdefault(mine["tokens"], []).append(ratio)
    return {
        tokens: {"median": median(r), "min": min(r), "max": max(r)} for tokens, r in ratios.items()
    }


def speeds_by_target(rounds):
    return {
        name: speeds(rounds, f"agentbus {mine}", f"ort {other}")
        for name, mine, other, _, _ in SPEEDS
    }


def targets(report):
    """[requirement, found, at least, good, verdict], of what was measured."""
    made = []
    for layers, found in report["layers"].items():
        for name, _, _, least, good in SPEEDS:
            medians = [v["median"] for n, v in found["speed"][name].items() if n <= WINDOW]
            if medians:
                what = f"{name}, {layers} layers, slowest length to {WINDOW}"
                made.append(target(what, min(medians), least, good, "{:.2f}×"))
        for side, taken in found["texts_per_s"].items():
            if side.startswith("agentbus"):
                ratio = median(t["threads2_ratio"] for t in taken)
                what = f"two instances against one, {side}, {layers} layers"
                made.append(target(what, ratio, 1.7, 1.9, "{:.2f}×"))
    ours = report.get("exactness", {}).get("pooled", {}).get("agentbus int8")
    if ours:
        made.append(target("int8 pooled cosine to f32, min", ours["min"], 0.98, 0.985, "{:.4f}"))
        made.append(target("int8 pooled cosine to f32, mean", ours["mean"], 0.995, 0.997, "{:.4f}"))
        made.append(target("decisions flipped by int8", -ours["flipped"], -0.02, -0.01, "{:.2%}"))
    return made


def target(what, value, least, good, form):
    """Where less is better, all three are negative."""
    said = "good" if value >= good else "reached" if value >= least else "NOT REACHED"
    return [what, *(form.format(abs(v)) for v in (value, least, good)), said]


def markdown(report):
    lines = [
        f"{report['cpu']}, {report['cores']} cores; ONNX Runtime {report['onnxruntime']}; "
        f"one thread, batch 1; medians of {report['rounds']} rounds, sides alternating.",
    ]
    reached = targets(report)
    if reached:
        lines += ["", head("requirement", ["found", "at least", "good", "is"])]
        lines += [line(what, rest) for what, *rest in reached]
    for layers, found in report["layers"].items():
        lines += ["", f"### {layers} layers", "", *times(found)]
        if any(found["speed"].values()):
            lines += ["", *ratios(found)]
        lines += ["", *throughput(found)]
    if "exactness" in report:
        lines += ["", "### Exactness, 4 layers", "", *exactness(report["exactness"])]
    for reason in report["left_out"]:
        lines += ["", f"Not measured: {reason}"]
    return "\n".join(lines)


def times(found):
    lengths = sorted(
        {row["tokens"] for r in found["rounds"] for side in r.values() for row in side}
    )
    made = [head("ms at tokens", lengths)]
    sides = {}
    for measured in found["rounds"]:
        for side, rows in measured.items():
            for row in rows:
                sides.setdefault(side, {}).setdefault(row["tokens"], []).append(row["median_us"])
    for side, by_length in sides.items():
        cells = [f"{median(by_length[n]) / 1000:.2f}" if n in by_length else "–" for n in lengths]
        name = f"{side} ({found['engines'][side]})" if side.startswith("agentbus") else side
        made.append(line(name, cells))
    return made


def ratios(found):
    lengths = sorted({tokens for by_length in found["speed"].values() for tokens in by_length})
    made = [head("times as fast (range)", lengths)]
    for name, by_length in found["speed"].items():
        cells = [
            "{median:.2f} ({min:.2f}–{max:.2f})".format(**by_length[tokens])
            for tokens in lengths
            if tokens in by_length
        ]
        made.append(line(name, cells or ["–"] * len(lengths)))
    return made


def throughput(found):
    made = [head("texts/s", ["batch 1", "batch 8", "two instances"])]
    for side, taken in found["texts_per_s"].items():
        one, eight, ratio = (
            median(t[key] for t in taken) for key in ("batch1", "batch8", "threads2_ratio")
        )
        made.append(line(side, [f"{one:.0f}", f"{eight:.0f}", f"{ratio:.2f}×"]))
    return made


def exactness(found):
    made = [head("pooled vectors", ["against", "cosine min", "mean", "decisions flipped"])]
    for side, facts in found["pooled"].items():
        cells = ("{against}", "{min:.4f}", "{mean:.4f}", "{flipped:.2%}")
        made.append(line(side, [cell.format(**facts) for cell in cells]))
    made += ["", f"ORT f32 against the golden hidden states: {found['golden_ort']:.1e} at most."]
    made.append(f"{found['texts']} texts of {found['tokens_mean']:.0f} tokens on average.")
    return made


def head(first, rest):
    return line(first, rest) + "\n" + "|---" * (len(rest) + 1) + "|"


def line(first, rest):
    return f"| {first} | " + " | ".join(map(str, rest)) + " |"
