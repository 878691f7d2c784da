"""A classifier of fairseq's RoBERTa as an ONNX graph, built node by node from its weights.

Written out rather than traced: fairseq's encoder branches on what it reads, and torch's exporters
change with its versions. All operators are of ONNX's own set. With B sentences of T tokens and C
channels, ``input_ids`` and ``attention_mask`` (B, T) become ``logits`` (B, classes), B and T free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scl_fairseq.checkpoints.weights import POSITIONS, TOKEN_TYPES, WORDS
from scl_fairseq.embeddings import CLS
from scl_fairseq.text.dictionary import PAD

if TYPE_CHECKING:
    import onnx

OPSET = 17  # the first with LayerNormalization
IDS, MASK, LOGITS = "input_ids", "attention_mask", "logits"
HEAD = "classifier"  # begins the names of the head's nodes, which stay float32
_NORM = "LayerNorm"
_HIDDEN = -1e4  # added to a score that does not count; fp16 has it


@dataclass(frozen=True)
class Network:
    """What the graph computes.

    Attributes:
        state: the encoder, under the names of ``transformers``; float32.
        head: its layers, (outputs, inputs) and (outputs,) each; float32.
        head_activation: between them, by fairseq's name.
        pooling: what the head reads, ``cls`` or ``mean``.
        num_layers: of the encoder.
        num_heads: of its attention.
        activation: of its layers, by the name of ``transformers``.
        eps: of its layer norms.
    """

    state: Mapping[str, np.ndarray]
    head: Sequence[tuple[np.ndarray, np.ndarray]]
    head_activation: str
    pooling: str
    num_layers: int
    num_heads: int
    activation: str
    eps: float


def build(network: Network, dtype: type = np.float32) -> onnx.ModelProto:
    """The graph.

    Args:
        network: what to compute.
        dtype: of the encoder's weights and arithmetic, float32 or float16. Pooling, head and logits
            are float32 in both.

    Raises:
        ValueError: the dtype cannot hold a weight.
    """
    return _Graph(network, dtype).model()


class _Graph:
    def __init__(self, network: Network, dtype: type):
        self.network, self.dtype = network, np.dtype(dtype)
        self.nodes: list[Any] = []
        self.tensors: dict[str, np.ndarray] = {}

    def model(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper, numpy_helper

        head = self.head(self.pooled(self.encoder()))
        self.node("Identity", head, name=LOGITS)
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in (IDS, MASK)
        ]
        classes = len(self.network.head[-1][1])
        output = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", classes])
        graph = helper.make_graph(
            self.nodes,
            "classifier",
            inputs,
            [output],
            [numpy_helper.from_array(value, name) for name, value in self.tensors.items()],
        )
        version = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph, opset_imports=[version], ir_version=8, producer_name="scl-fairseq"
        )

    def encoder(self) -> str:
        """The last layer: (B, T, C), or (B, 1, C) where the head reads the first token alone."""
        x = self.embedded()
        mask = self.node("Cast", MASK, to=self.code(self.dtype))
        mask = self.node("Unsqueeze", mask, self.axes(1, 2))  # (B, 1, 1, T)
        absent = self.node("Sub", self.number("one", 1), mask)
        bias = self.node("Mul", absent, self.number("hidden", _HIDDEN))
        for index in range(self.network.num_layers):
            is_last = index == self.network.num_layers - 1
            first_only = is_last and self.network.pooling == CLS
            x = self.layer(f"encoder.layer.{index}.", x, bias, first_only)
        return x

    def embedded(self) -> str:
        state = self.network.state
        words = self.node("Gather", self.tensor(WORDS, state[WORDS]), IDS)
        # Of a token its number in the sentence, above that of padding; the first has PAD + 1.
        kept = self.node("Not", self.node("Equal", IDS, self.whole("pad", PAD)))
        kept = self.node("Cast", kept, to=self.code(np.int64))
        places = self.node("CumSum", kept, self.whole("along", 1))
        places = self.node("Add", self.node("Mul", places, kept), self.whole("pad", PAD))
        table = state[POSITIONS] + state[TOKEN_TYPES][0]
        positions = self.node("Gather", self.tensor(POSITIONS, table), places)
        return self.norm("embeddings." + _NORM, self.node("Add", words, positions))

    def layer(self, prefix: str, x: str, bias: str, first_only: bool) -> str:
        parts = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
        if first_only:
            # (B, 1, C): of the other tokens nobody reads more than their keys and values.
            first = self.node("Slice", x, self.axes(0), self.axes(1), self.axes(1))
            query = self.linear(parts[:1], first)
            key, value = self.split(self.linear(parts[1:], x), 2)
        else:
            first = x
            query, key, value = self.split(self.linear(parts, x), 3)
        heads, width = self.network.num_heads, self.network.state[WORDS].shape[1]
        scores = self.node("MatMul", self.heads(query), self.heads(key, for_key=True))
        scale = self.number("scale", 1 / math.sqrt(width // heads))
        scores = self.node("Add", self.node("Mul", scores, scale), bias)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), self.heads(value))
        mixed = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = self.node("Reshape", mixed, self.whole("joined", [0, 0, width]))
        mixed = self.linear([prefix + "attention.output.dense"], mixed)
        x = self.norm(prefix + "attention.output." + _NORM, self.node("Add", mixed, first))
        inner = self.activated(
            self.network.activation, self.linear([prefix + "intermediate.dense"], x)
        )
        outer = self.linear([prefix + "output.dense"], inner)
        return self.norm(prefix + "output." + _NORM, self.node("Add", outer, x))

    def pooled(self, x: str) -> str:
        """(B, C), float32."""
        x = self.node("Cast", x, to=self.code(np.float32))
        if self.network.pooling == CLS:
            return self.node("Squeeze", x, self.axes(1))
        mask = self.node("Cast", MASK, to=self.code(np.float32))
        mask = self.node("Unsqueeze", mask, self.axes(2))
        total = self.node("ReduceSum", self.node("Mul", x, mask), self.axes(1), keepdims=0)
        return self.node("Div", total, self.node("ReduceSum", mask, self.axes(1), keepdims=0))

    def head(self, x: str) -> str:
        for index, (weight, bias) in enumerate(self.network.head):
            if index:
                x = self.activated(self.network.head_activation, x, np.float32)
            name = f"{HEAD}.{index}"
            product = f"{name}.MatMul"
            self.node(
                "MatMul", x, self.tensor(name + ".weight", weight.T, np.float32), name=product
            )
            x = self.node("Add", product, self.tensor(name + ".bias", bias, np.float32))
        return x

    def linear(self, names: Sequence[str], x: str) -> str:
        """Linear layers side by side, their outputs joined."""
        state = self.network.state
        weight = np.concatenate([state[name + ".weight"] for name in names]).T
        bias = np.concatenate([state[name + ".bias"] for name in names])
        name = "+".join(names)
        product = self.node("MatMul", x, self.tensor(name + ".weight", weight))
        return self.node("Add", product, self.tensor(name + ".bias", bias))

    def split(self, x: str, count: int) -> list[str]:
        """(B, T, count * C) into (B, T, C) each."""
        return self.node("Split", x, count=count, axis=-1)

    def heads(self, x: str, for_key: bool = False) -> str:
        """(B, T, C) to (B, heads, T, C / heads), of keys to (B, heads, C / heads, T)."""
        count, width = self.network.num_heads, self.network.state[WORDS].shape[1]
        x = self.node("Reshape", x, self.whole("parted", [0, 0, count, width // count]))
        return self.node("Transpose", x, perm=[0, 2, 3, 1] if for_key else [0, 2, 1, 3])

    def norm(self, name: str, x: str) -> str:
        parts = (self.network.state[f"{name}.{part}"] for part in ("weight", "bias"))
        weight, bias = (self.tensor(f"{name}.{index}", value) for index, value in enumerate(parts))
        return self.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=self.network.eps)

    def activated(self, name: str, x: str, dtype: type | None = None) -> str:
        if name == "linear":
            return x
        if name in ("tanh", "relu"):
            return self.node(name.capitalize(), x)
        half, one = (self.number(word, value, dtype) for word, value in (("half", 0.5), ("one", 1)))
        if name == "gelu":  # x/2 (1 + erf(x / sqrt 2))
            inner = self.node("Div", x, self.number("root", math.sqrt(2), dtype))
            inner = self.node("Erf", inner)
        else:  # gelu_new: x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
            cube = self.node("Mul", x, self.node("Mul", x, x))
            cube = self.node("Mul", cube, self.number("cubic", 0.044715, dtype))
            scale = self.number("slope", math.sqrt(2 / math.pi), dtype)
            inner = self.node("Tanh", self.node("Mul", self.node("Add", x, cube), scale))
        outer = self.node("Mul", x, self.node("Add", inner, one))
        return self.node("Mul", outer, half)

    def node(self, kind: str, *inputs: str, name: str = "", count: int = 1, **attributes: Any):
        """Add a node; returns the name of its output, or of several a list."""
        from onnx import helper

        name = name or f"{kind}.{len(self.nodes)}"
        outputs = [name] if count == 1 else [f"{name}.{index}" for index in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return name if count == 1 else outputs

    def tensor(self, name: str, value: np.ndarray, dtype: type | None = None) -> str:
        """Add weights, once."""
        if name not in self.tensors:
            with np.errstate(over="ignore"):
                stored = np.ascontiguousarray(value, dtype or self.dtype)
            if not np.isfinite(stored).all():
                raise ValueError(f"{name} holds numbers that {stored.dtype} has not")
            self.tensors[name] = stored
        return name

    def number(self, name: str, value: float, dtype: type | None = None) -> str:
        stored = np.dtype(dtype or self.dtype)
        return self.tensor(f"{name}.{stored.name}", np.array(value), stored)

    def whole(self, name: str, value: int | Sequence[int]) -> str:
        return self.tensor(name, np.array(value), np.int64)

    def axes(self, *values: int) -> str:
        return self.whole("axes." + ".".join(map(str, values)), list(values))

    def code(self, dtype: type) -> int:
        """ONNX's number of a dtype."""
        from onnx import helper

        return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
