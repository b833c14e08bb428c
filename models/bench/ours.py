"""How fast and how exact is agentbus? Asks the program itself: `agentbus model bench`."""

import json
import subprocess

import numpy as np

# How each side is asked for: its precision and what computes.
SIDES = {
    "f32": ("f32", "auto"),
    "bf16": ("bf16", "auto"),
    "int8": ("int8", "auto"),
    "candle f32": ("f32", "candle"),
}
# A measurement takes seconds; one that takes this long hangs.
LIMIT_S = 300


class Unavailable(RuntimeError):
    """The program says why, in its own words."""


class Side:
    def __init__(self, binary, model_dir, layers, name):
        precision, engine = SIDES[name]
        self.expected = {"precision": precision, "layers": layers, "threads": 1}
        # What computes, in the program's words; known once it has answered.
        self.engine = None
        self.command = [str(binary), "model", "bench", "--json"]
        self.command += ["--precision", precision, "--engine", engine]
        if model_dir:
            self.command += ["--model-dir", str(model_dir)]

    def rows(self, lengths):
        answer = self.ask("--tokens", ",".join(map(str, lengths)))
        self.engine = answer["engine"]
        return answer["rows"]

    def texts_per_s(self, texts, _):
        return self.ask("--tokens", "0", "--texts", str(texts))["texts_per_s"]

    def pooled(self, texts, ids):
        out = texts.with_suffix(".pooled.jsonl")
        self.ask("--tokens", "0", "--texts", str(texts), "--pooled-out", str(out))
        lines = out.read_text(encoding="utf-8").splitlines()
        if len(lines) != len(ids):
            raise Unavailable(f"{len(ids)} texts gave {len(lines)} pooled vectors")
        return np.array([json.loads(line) for line in lines])

    def ask(self, *arguments):
        try:
            done = subprocess.run(
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"no answer within {LIMIT_S} s") from error
        if done.returncode:
            raise Unavailable((done.stderr.strip() or done.stdout.strip())[-500:])
        answer = json.loads(done.stdout)
        # A ratio is of the same work, or it is nothing.
        for key, value in self.expected.items():
            if answer[key] != value:
                raise Unavailable(f"asked for {key} = {value}, was answered {answer[key]}")
        return answer
