"""How fast and how exact is ONNX Runtime? The peer: one thread an instance, as pip installs it.

Only the run is timed: token ids and the output's memory are bound beforehand, so no Python object
is made inside. Pooling is left out of its time; ours has it inside.
"""

import json
import logging
import threading
import time

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import quantize_dynamic
from safetensors.numpy import load_file

import onnx_graph

# Dynamic quantisation in its default (one scale a matrix, the fastest) and per channel.
QUANTISED = {"int8": False, "int8-channel": True}


def prepare(folder, cache, layers):
    """Write the graphs of this model to `cache`; returns {precision: path}."""
    cache.mkdir(parents=True, exist_ok=True)
    # It recommends preparing the graph for static quantisation; this one is dynamic.
    logging.getLogger().setLevel(logging.ERROR)
    paths = {"f32": cache / f"l{layers}-f32.onnx"}
    onnx_graph.export(folder, paths["f32"], layers)
    for name, per_channel in QUANTISED.items():
        paths[name] = cache / f"l{layers}-{name}.onnx"
        quantize_dynamic(paths["f32"], paths[name], per_channel=per_channel)
    return paths


class Side:
    """One engine of the peer, measured like ours."""

    def __init__(self, path, seconds):
        self.engine = path.name
        self.path = path
        self.seconds = seconds
        self.instance = Instance(path)

    def rows(self, lengths):
        """Median, 10th and 90th percentile of one run, for each number of tokens."""
        return [self.row(tokens) for tokens in lengths]

    def row(self, tokens):
        _, run = self.instance.bound([list(range(2000, 2000 + tokens))])
        for _ in range(3):
            run()
        times = []
        until = time.perf_counter() + self.seconds
        while len(times) < 50 or time.perf_counter() < until:
            begin = time.perf_counter_ns()
            run()
            times.append((time.perf_counter_ns() - begin) / 1000)
        low, median, high = (float(value) for value in np.percentile(times, [10, 50, 90]))
        return {"tokens": tokens, "median_us": median, "p10_us": low, "p90_us": high}

    def texts_per_s(self, _, texts):
        """Texts a second: singly; in batches of up to 8; and two instances against one."""
        singles = [[ids] for ids in texts]
        batch1 = self.instance.rate(singles)
        two = (self.instance, Instance(self.path))
        two[1].rate(singles[:16])
        threads = [
            threading.Thread(target=instance.rate, args=(singles[start::2],))
            for start, instance in enumerate(two)
        ]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        both = len(texts) / (time.perf_counter() - begin)
        batch8 = self.instance.rate(same_length(texts, 8))
        return {"batch1": batch1, "batch8": batch8, "threads2_ratio": both / batch1}

    def pooled(self, _, texts):
        return np.array([self.instance.pooled(ids) for ids in texts])


class Instance:
    """One session with one thread."""

    def __init__(self, path):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def bound(self, batch):
        """A call that runs this batch (texts of one length) again and again."""
        ids = np.array(batch, np.int64)
        positions = np.ascontiguousarray(np.broadcast_to(np.arange(ids.shape[1]), ids.shape))
        binding = self.session.io_binding()
        binding.bind_cpu_input("ids", ids)
        binding.bind_cpu_input("positions", positions)
        binding.bind_output("hidden")
        return binding, lambda: self.session.run_with_iobinding(binding)

    def hidden(self, ids):
        binding, run = self.bound([ids])
        run()
        return binding.copy_outputs_to_cpu()[0][0]

    def pooled(self, ids):
        mean = self.hidden(ids).mean(axis=0)
        return mean / np.linalg.norm(mean)

    def rate(self, batches):
        """Texts a second over these batches; binding is inside, as each batch is another."""
        begin = time.perf_counter()
        for batch in batches:
            _, run = self.bound(batch)
            run()
        return sum(map(len, batches)) / (time.perf_counter() - begin)


def same_length(texts, most):
    """Batches without a token of padding: the best that any order of arrival could give it."""
    by_length = {}
    for ids in texts:
        by_length.setdefault(len(ids), []).append(ids)
    return [
        group[start : start + most]
        for _, group in sorted(by_length.items())
        for start in range(0, len(group), most)
    ]


def golden_difference(path, folder):
    """Greatest difference from the golden hidden states: is this graph the same encoder?"""
    golden = load_file(folder / "hidden.safetensors")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    instance = Instance(path)
    differences = [
        np.abs(instance.hidden(case["ids"]) - golden[f"hidden.{index}"]).max()
        for index, case in enumerate(cases)
        if case.get("hidden")
    ]
    return float(max(differences))
