"""What does ONNX Runtime get to run? The encoder as a plain ONNX graph, from converted weights.

The graph is what an exporter writes for DistilBERT: Gather, Add, LayerNormalization, MatMul,
Softmax, Erf, one node each, nothing fused by hand; ONNX Runtime does its own fusing. Input: `ids`
and `positions`, int64 [batch, tokens]. Output: `hidden`, f32 [batch, tokens, width]. It has no
attention mask, as in this bench all texts of a batch have the same number of tokens.
"""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

OPSET = 17


def export(folder, path, layers):
    """Write the first `layers` layers of the model in `folder` to `path`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "model.safetensors")
    graph = Graph({name: value.astype(np.float32) for name, value in weights.items()}, config)
    hidden = graph.embeddings()
    for layer in range(layers):
        hidden = graph.layer(hidden, f"transformer.layer.{layer}.")
    graph.write(hidden, path)


class Graph:
    def __init__(self, weights, config):
        self.weights = weights
        self.heads = config["n_heads"]
        self.width = config["dim"]
        self.nodes = []
        self.tensors = {}

    def embeddings(self):
        words = self.add("Gather", self.weight("embeddings.word_embeddings.weight"), "ids")
        places = self.add(
            "Gather", self.weight("embeddings.position_embeddings.weight"), "positions"
        )
        return self.norm(self.add("Add", words, places), "embeddings.LayerNorm.")

    def layer(self, hidden, prefix):
        attended = self.linear(self.attention(hidden, prefix), prefix + "attention.out_lin.")
        hidden = self.norm(self.add("Add", attended, hidden), prefix + "sa_layer_norm.")
        inner = self.gelu(self.linear(hidden, prefix + "ffn.lin1."))
        outer = self.linear(inner, prefix + "ffn.lin2.")
        return self.norm(self.add("Add", outer, hidden), prefix + "output_layer_norm.")

    def attention(self, hidden, prefix):
        width = self.width // self.heads
        split = self.constant("split", np.array([0, 0, self.heads, width], np.int64))
        scale = self.constant("scale", np.array(width**0.5, np.float32))
        heads = {}
        for name in "qkv":
            values = self.linear(hidden, f"{prefix}attention.{name}_lin.")
            order = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
            heads[name] = self.add("Transpose", self.add("Reshape", values, split), perm=order)
        scores = self.add("MatMul", self.add("Div", heads["q"], scale), heads["k"])
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), heads["v"])
        merge = self.constant("merge", np.array([0, 0, self.width], np.int64))
        return self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), merge)

    def gelu(self, values):
        root = self.constant("root_two", np.array(2**0.5, np.float32))
        one = self.constant("one", np.array(1.0, np.float32))
        half = self.constant("half", np.array(0.5, np.float32))
        erf = self.add("Erf", self.add("Div", values, root))
        return self.add("Mul", self.add("Mul", values, self.add("Add", erf, one)), half)

    def linear(self, values, prefix):
        # Stored (out, in); a MatMul wants (in, out).
        weight = np.ascontiguousarray(self.weights[prefix + "weight"].T)
        product = self.add("MatMul", values, self.constant(prefix + "weight", weight))
        return self.add("Add", self.weight(prefix + "bias"), product)

    def norm(self, values, prefix):
        weight, bias = self.weight(prefix + "weight"), self.weight(prefix + "bias")
        return self.add("LayerNormalization", values, weight, bias, axis=-1, epsilon=1e-12)

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def constant(self, name, value):
        if name not in self.tensors:
            self.tensors[name] = numpy_helper.from_array(value, name)
        return name

    def add(self, operator, *inputs, **attributes):
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def write(self, hidden, path):
        self.nodes[-1].output[0] = "hidden"
        shape = ["batch", "tokens"]
        graph = helper.make_graph(
            self.nodes,
            "encoder",
            [
                helper.make_tensor_value_info(n, TensorProto.INT64, shape)
                for n in ("ids", "positions")
            ],
            [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*shape, self.width])],
            list(self.tensors.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        onnx.save(model, path)
