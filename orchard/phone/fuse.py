"""A network and a PCA model, and a head if there is one, as one LiteRT file.

A LiteRT file is a flatbuffer of operators, tensors and the buffers of constant ones. Here it is
read, operators are put before the network's own and after them, and it is written anew::

    photograph --> pixels --> scaled pixels --> [network] --> features
      uint8        CAST       GATHER, DIV, SUB, DIV            float32

    features --> centred --> vector --> logits --> probabilities
                 SUB         FULLY_CONNECTED       SOFTMAX
                             (components / scale)

The network's operators and weights stay as they are, and scaling is done in the order and the
precision of the job, so that the features inside are the job's own. The mean is subtracted before
the product and not after it, within its bias: with a small scale both would be large and nearly
equal, and float32 has seven digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.networks import Card
    from spark_job.networks.card import PerChannel
    from spark_job.pca import PCAModel

PHOTOGRAPH: Final = "photograph"
VECTOR: Final = "vector"
PROBABILITIES: Final = "probabilities"

SIGNATURE: Final = "serving_default"
"""Name of the only signature: what LiteRT's APIs call by default."""

METADATA: Final = "orchard"
"""Name of the metadata entry that holds the card."""

ALIGNMENT: Final = 16
"""Of a constant tensor's bytes in the file, which LiteRT reads in place."""

_BLUE_FIRST: Final = (2, 1, 0)

Operator = schema.BuiltinOperator
Options = schema.BuiltinOptions
Type = schema.TensorType


@dataclass(frozen=True)
class Weights:
    """Of a head of L labels on vectors of k components: softmax(weights @ vector + bias).

    Attributes
    ----------
    weights
        [L, k].
    bias
        [L].
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]


def fuse(
    network: bytes,
    card: Card,
    pca: PCAModel,
    about: bytes,
    head: Weights | None = None,
    *,
    half: bool = False,
) -> bytes:
    """Make one LiteRT file of a network and what follows it.

    Parameters
    ----------
    network
        Flatbuffer, float32 [1, height, width, 3] to [1, features], of one graph.
    card
        Of the network: its scaling and order of channels are put in front of it.
    pca
        Of its features.
    about
        UTF-8, kept in the file's metadata as `METADATA`.
    head
        Gives probabilities beside the vector.
    half
        Store the head's weights in float16, in half the bytes.

    Returns
    -------
    bytes
        A flatbuffer with the signature ``photograph`` uint8 [1, height, width, 3] RGB to
        ``vector`` float32 [1, k], and to ``probabilities`` float32 [1, L] where there is a head.
    """
    model = schema.ModelT.InitFromPackedBuf(network, 0)
    graph = _Graph(model)
    [given], [features] = graph.inputs, graph.outputs

    photograph = graph.tensor(PHOTOGRAPH, [1, card.height, card.width, 3], Type.UINT8)
    graph.prepend(_scaling(graph, card, photograph, given))

    vector = _project(graph, pca, features)
    outputs = {VECTOR: vector}
    if head is not None:
        outputs[PROBABILITIES] = _classify(graph, head, vector, half=half)
    graph.take_and_give({PHOTOGRAPH: photograph}, outputs)
    model.description = "A network and a PCA model of its features, fused by Orchard"
    model.metadata = [
        *(kept for kept in model.metadata or [] if kept.name != METADATA.encode()),
        _metadata(graph.buffer(np.frombuffer(about, np.uint8))),
    ]
    builder = _Builder(len(network))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def read_about(content: bytes) -> bytes | None:
    """What `fuse` was told to keep in a file's metadata; None where it is not of `fuse`."""
    model = schema.Model.GetRootAs(content, 0)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == METADATA.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


def _scaling(graph: _Graph, card: Card, photograph: int, given: int) -> list[Any]:
    """Operators from the photograph to the network's input, tensor `given`."""
    steps: list[tuple[int, list[int], Any, Any]] = []
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = Type.UINT8, Type.FLOAT32
    steps.append((Operator.CAST, [], Options.CastOptions, cast))
    if card.channels == "BGR":
        order = graph.constant("channels", np.array(_BLUE_FIRST, np.int32))
        axis = schema.GatherOptionsT()
        axis.axis = 3
        steps.append((Operator.GATHER, [order], Options.GatherOptions, axis))
    divide, subtract = (Operator.DIV, Options.DivOptions), (Operator.SUB, Options.SubOptions)
    for name, (operator, kind), values, nothing in (
        ("divide_by", divide, card.scaling.divide_by, 1.0),
        ("subtract", subtract, card.scaling.subtract, 0.0),
        ("then_divide_by", divide, card.scaling.then_divide_by, 1.0),
    ):
        if set(values) != {nothing}:
            options = schema.DivOptionsT() if operator == Operator.DIV else schema.SubOptionsT()
            steps.append((operator, [graph.constant(name, _operand(values))], kind, options))
    made, source = [], photograph
    shape = [1, card.height, card.width, 3]
    for number, (operator, constants, kind, options) in enumerate(steps, 1):
        last = number == len(steps)
        target = given if last else graph.tensor(f"pixels_{number}", shape, Type.FLOAT32)
        made.append(graph.operator(operator, [source, *constants], target, kind, options))
        source = target
    return made


def _operand(values: PerChannel) -> NDArray[np.float32]:
    """One number where all channels share it."""
    return np.array(values[:1] if len(set(values)) == 1 else values, np.float32)


def _project(graph: _Graph, pca: PCAModel, features: int) -> int:
    """Append the operators from features to the vector; its tensor."""
    count = len(pca.mean)
    mean = pca.mean.astype(np.float32)
    weights = pca.components / pca.scale
    # What of the mean float32 cannot hold.
    bias = -weights @ (pca.mean - mean)
    centred = graph.tensor("centred", [1, count], Type.FLOAT32)
    vector = graph.tensor(VECTOR, [1, pca.k], Type.FLOAT32)
    graph.append(
        Operator.SUB,
        [features, graph.constant("mean", mean[np.newaxis])],
        centred,
        Options.SubOptions,
        schema.SubOptionsT(),
    )
    graph.append(
        Operator.FULLY_CONNECTED,
        [
            centred,
            graph.constant("components", weights.astype(np.float32)),
            graph.constant("rest", bias.astype(np.float32)),
        ],
        vector,
        Options.FullyConnectedOptions,
        schema.FullyConnectedOptionsT(),
    )
    return vector


def _classify(graph: _Graph, head: Weights, vector: int, *, half: bool) -> int:
    """Append the operators from the vector to probabilities; their tensor."""
    labels = len(head.bias)
    weights = graph.constant("head", head.weights.astype(np.float16 if half else np.float32))
    if half:
        wide = graph.tensor("wide_head", list(head.weights.shape), Type.FLOAT32)
        graph.append(
            Operator.DEQUANTIZE,
            [weights],
            wide,
            Options.DequantizeOptions,
            schema.DequantizeOptionsT(),
        )
        weights = wide
    logits = graph.tensor("logits", [1, labels], Type.FLOAT32)
    probabilities = graph.tensor(PROBABILITIES, [1, labels], Type.FLOAT32)
    graph.append(
        Operator.FULLY_CONNECTED,
        [vector, weights, graph.constant("head_bias", head.bias.astype(np.float32))],
        logits,
        Options.FullyConnectedOptions,
        schema.FullyConnectedOptionsT(),
    )
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    graph.append(Operator.SOFTMAX, [logits], probabilities, Options.SoftmaxOptions, softmax)
    return probabilities


class _Graph:
    """The only graph of a model, while it grows."""

    def __init__(self, model: Any) -> None:
        self._model = model
        [self._graph] = model.subgraphs
        self.inputs: list[int] = [int(tensor) for tensor in self._graph.inputs]
        self.outputs: list[int] = [int(tensor) for tensor in self._graph.outputs]

    def buffer(self, content: NDArray[np.uint8]) -> int:
        """Add a buffer; its number."""
        buffer = schema.BufferT()
        buffer.data = content
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def tensor(self, name: str, shape: list[int], kind: int, buffer: int = 0) -> int:
        """Add a tensor, by default one that is computed; its number. Buffer 0 is empty."""
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = np.array(shape, np.int32)
        tensor.type = kind
        tensor.buffer = buffer
        tensor.hasRank = True
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, name: str, values: NDArray[Any]) -> int:
        """Add a tensor of known values; its number."""
        kind = getattr(Type, str(values.dtype).upper())
        buffer = self.buffer(np.frombuffer(values.tobytes(), np.uint8))
        return self.tensor(name, list(values.shape), kind, buffer)

    def operator(self, code: int, inputs: list[int], output: int, kind: int, options: Any) -> Any:
        """Make an operator."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(code)
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array([output], np.int32)
        operator.builtinOptionsType = kind
        operator.builtinOptions = options
        return operator

    def append(self, code: int, inputs: list[int], output: int, kind: int, options: Any) -> None:
        """Put an operator behind all others."""
        self._graph.operators.append(self.operator(code, inputs, output, kind, options))

    def prepend(self, operators: list[Any]) -> None:
        """Put operators before all others."""
        self._graph.operators[:0] = operators

    def take_and_give(self, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        """Make these tensors what the graph, and its only signature, takes and gives."""
        self._graph.inputs = np.array(list(inputs.values()), np.int32)
        self._graph.outputs = np.array(list(outputs.values()), np.int32)
        signature = schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.inputs = [_named(*item) for item in inputs.items()]
        signature.outputs = [_named(*item) for item in outputs.items()]
        self._model.signatureDefs = [signature]

    def _code(self, builtin: int) -> int:
        """Number of a builtin operator of version 1 in the model's list, to which it is added."""
        codes = self._model.operatorCodes
        for number, code in enumerate(codes):
            if (code.builtinCode, code.version) == (builtin, 1):
                return number
        added = schema.OperatorCodeT()
        added.builtinCode = builtin
        # Readers of before there were more than 127 operators look here.
        added.deprecatedBuiltinCode = min(builtin, Operator.PLACEHOLDER_FOR_GREATER_OP_CODES)
        added.version = 1
        codes.append(added)
        return len(codes) - 1


def _named(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


def _metadata(buffer: int) -> Any:
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA, buffer
    return entry


class _Builder(flatbuffers.Builder):
    """Aligns arrays of bytes as LiteRT's schema asks, of which the generated code knows nothing."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        """Begin a vector."""
        aligned = ALIGNMENT if elemSize == 1 else alignment
        return int(super().StartVector(elemSize, numElems, aligned))
