"""Behind which linear layers a BatchNormalization belongs: a rule, with its reasons.

Whoever trains a network puts one behind a linear layer that a nonlinearity follows, a residual sum,
or the next linear layer (a linear bottleneck; a depthwise layer before a pointwise one). An
exporter folds it into that layer, and nothing in the file says any more that it was there. What
says that there was none:

``no-bias``
    The layer has no bias. A fold leaves one, the shift of the BatchNormalization.
``output``
    The last layer makes the answer: classes, masks, pictures. Nobody normalizes these.
``pooled``
    Behind a global pooling (squeeze-and-excite, the head of a classifier) a sample has one element
    a channel; its statistics would be those of the batch alone, and a group normalization of single
    channels would erase it. Not so behind a maximum over all places, as networks over points have
    it: there the layers go on as before, unless they make a gate.
``attention``
    Queries, keys and values are compared and mixed as they are, and the layer behind mixes heads.
``normalized``
    A normalization that the file still has comes next: a LayerNorm behind a patch embedding, or a
    BatchNormalization behind the activation, the Concat or the sum (pre-activation networks), which
    a fold could not take.
``after-activation``
    Most layers like it have theirs behind the activation, where it is left; this is the last one,
    whose normalization a fold could take, into the head.
``layer-norm``
    The layer is in a block that begins with a LayerNorm, as those of a transformer.
``layer-scale``
    A depthwise layer, then two layers with an activation between, then a scale of each channel
    before the residual sum: such a block (ConvNeXt's) has one normalization, behind its depthwise
    layer.
``nothing``
    Neither a nonlinearity, nor a sum, nor another linear layer follows.

The rule knows operators, not networks. `python -m benchmarks.unfold_places` compares its places
with those of real architectures.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING

from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.decomposed import NORMALIZERS
from normswap.graph.network import Use
from normswap.semantics.families import ARITHMETIC, BLOCKS, GLOBAL_POOLS, MOVES, SHAPING, SUMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from normswap.graph.network import Network, Node, Value
    from normswap.unfolding.layers import HandedConstants, LinearLayer

REDUCTIONS = frozenset({"ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum"})

MAXIMA = frozenset({"GlobalMaxPool", "ReduceMax"})

REJOINING = frozenset({"Add", "Concat", "Resize", "Upsample"})
"""Operators that spread what was pooled over a map again, other than as a gate."""

CARRIERS = SHAPING | MOVES | BLOCKS | GLOBAL_POOLS | REDUCTIONS | {
    "AveragePool", "Dropout", "MaxPool", "Pad", "Resize", "Upsample",
}  # fmt: skip
"""Operators behind which elements, or averages of them, go on as they are."""

FEATURES = frozenset({
    "Celu", "Elu", "Erf", "Gelu", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Selu",
    "Swish", "ThresholdedRelu",
})  # fmt: skip
"""Nonlinearities of hidden layers."""

ACTIVATIONS = FEATURES | {
    "Abs", "Clip", "Exp", "HardSigmoid", "Max", "Min", "Pow", "Sigmoid", "Softplus", "Softsign",
    "Sqrt", "Tanh",
}  # fmt: skip
"""Nonlinearities, element by element; those that are not of hidden layers make answers too."""

PRODUCTS = frozenset({"Attention", "Einsum", "MatMul", "MultiHeadAttention"})
"""Operators that mix tokens, where both operands are computed."""


DEEPEST = 3
"""Linear layers of a block that begins with a LayerNorm, one behind the other."""


class Omission(enum.Enum):
    """Why no BatchNormalization is put behind a linear layer. The value is its name in JSON."""

    NO_BIAS = "no-bias"
    OUTPUT = "output"
    POOLED = "pooled"
    ATTENTION = "attention"
    NORMALIZED = "normalized"
    AFTER_ACTIVATION = "after-activation"
    LAYER_NORM = "layer-norm"
    LAYER_SCALE = "layer-scale"
    NOTHING = "nothing"
    EXCLUDED = "excluded"
    SHAPE_UNKNOWN = "shape-unknown"
    OVERFLOW = "overflow"
    NO_ESTIMATE = "no-estimate"

    @property
    def explanation(self) -> str:
        """One clause for a person."""
        return EXPLANATIONS[self]


EXPLANATIONS = {
    Omission.NO_BIAS: "it has no bias, and folding a BatchNormalization would have added one",
    Omission.OUTPUT: "it makes an output of the network",
    Omission.POOLED: "it is after a global pooling, in a gate or head",
    Omission.ATTENTION: "it is a projection of an attention block",
    Omission.NORMALIZED: "a normalization follows",
    Omission.AFTER_ACTIVATION: "similar layers have a BatchNormalization after the activation",
    Omission.LAYER_NORM: "its block is normalized by LayerNorm",
    Omission.LAYER_SCALE: "its block has a layer scale, and a normalization at its depthwise layer",
    Omission.NOTHING: "no nonlinearity, sum or linear layer follows",
    Omission.EXCLUDED: "the options leave it out",
    Omission.SHAPE_UNKNOWN: "its rank is not known",
    Omission.OVERFLOW: "its variance exceeds the range of its type",
    Omission.NO_ESTIMATE: "the data gives no statistics for it",
}


class _Kind(enum.Enum):
    """What reads a tensor."""

    LINEAR = enum.auto()
    SUM = enum.auto()
    NONLINEAR = enum.auto()
    BATCHNORM = enum.auto()
    LAYERNORM = enum.auto()
    PRODUCT = enum.auto()
    SOFTMAX = enum.auto()
    OUTPUT = enum.auto()
    OTHER = enum.auto()


GOES_ON = frozenset({_Kind.LINEAR, _Kind.SUM, _Kind.NONLINEAR})


class PlaceRule:
    """Says of each linear layer of a network whether a BatchNormalization belongs behind it.

    Parameters
    ----------
    network : Network
    layers : mapping of int to LinearLayer
        Those of the network, by the keys of their nodes.
    constants : HandedConstants
        Of the network.
    """

    def __init__(
        self, network: Network, layers: Mapping[int, LinearLayer], constants: HandedConstants
    ) -> None:
        self._main = network.graphs[0]
        self._layers = layers
        self._constants = constants
        # By ids of tensors.
        self._pooled: set[int] = set()  # features with one element a channel and sample
        self._peaks: set[int] = set()  # those of them that are maxima
        self._normed: dict[int, int] = {}  # how many layers ago their block's LayerNorm was
        self._mixed: set[int] = set()  # what an attention made
        self._learned: set[int] = set()  # behind a linear layer
        self._leads_on: set[int] = set()  # before a linear layer
        order = [node for graph in network.graphs for node in graph.topological()]
        for node in order:
            self._look(node)
        for node in reversed(order):
            if node.key in layers or any(map(self._goes_on_behind, node.outputs)):
                self._leads_on |= {id(value) for value in node.inputs if value is not None}
        self._scaled = {key for layer in layers.values() for key in self._scaled_behind(layer)}
        activated = [layer for layer in layers.values() if self._activation_of(layer)]
        late = filter(self._is_normalized_behind, activated)
        self._like, self._late = Counter(map(_shape, activated)), Counter(map(_shape, late))

    def apart(self, layer: LinearLayer) -> Omission | None:
        """Return why a layer has none; None if one belongs behind it."""
        if not layer.has_bias:
            return Omission.NO_BIAS
        x, y = layer.node.operand(0), layer.output
        kinds = set(self._read(y))
        beyond = set(self._read(y, through=True))
        goes_on = id(x) in self._peaks and not self._meets_map(y, frozenset({"Mul"}))
        if id(x) in self._pooled and not (goes_on or self._meets_map(y, REJOINING)):
            return Omission.POOLED
        if id(x) in self._mixed or _Kind.PRODUCT in (kinds if _Kind.LINEAR in beyond else beyond):
            return Omission.ATTENTION
        if kinds & {_Kind.BATCHNORM, _Kind.LAYERNORM} or self._is_normalized_later(y, beyond):
            return Omission.NORMALIZED
        if 2 * self._late[_shape(layer)] > self._like[_shape(layer)] and self._is_last(layer):
            return Omission.AFTER_ACTIVATION
        if id(x) in self._normed:
            return Omission.LAYER_NORM
        if layer.node.key in self._scaled:
            return Omission.LAYER_SCALE
        if _Kind.SOFTMAX in kinds or (not self._goes_on_behind(y) and not self._is_feature(y)):
            return Omission.OUTPUT
        return None if kinds & GOES_ON else Omission.NOTHING

    def _look(self, node: Node) -> None:
        """Note what a node makes of what it reads."""
        values = self._computed(node)
        op = "" if node.domain else node.op
        made = {id(value) for value in node.outputs if value is not None}
        ids = {id(value) for value in values}
        if node.key in self._layers or ids & self._learned:
            self._learned |= made
        starts = self._pools(node) and bool(ids & self._learned)
        stays = bool(ids) and ids <= self._pooled and op not in ("Resize", "Upsample")
        self._pooled |= made if starts or stays else set()
        if (starts and op in MAXIMA) or (stays and ids <= self._peaks):
            self._peaks |= made
        before = [self._normed[key] for key in ids if key in self._normed]
        ended = (op in SUMS and len(values) > 1) or _is_map(node)
        if node.op in NORMALIZERS or _is_layernorm(node):
            self._normed.update(dict.fromkeys(made, 0))
        elif before and not ended:
            depth = min(before) + (node.key in self._layers)
            self._normed.update(dict.fromkeys(made, depth) if depth < DEEPEST else {})
        starts = op in PRODUCTS and len(values) > 1 and node.key not in self._layers
        stays = op in CARRIERS and bool(ids & self._mixed)
        self._mixed |= made if starts or stays else set()

    def _pools(self, node: Node) -> bool:
        """Whether a node averages a map, or flattens it, so that its places are gone."""
        x, y = node.input(0), node.output(0)
        if node.domain or x is None or y is None:
            return False
        if node.op in GLOBAL_POOLS:
            return True
        if node.op in REDUCTIONS:
            return not _is_layernorm_part(node) and (x.rank is None or x.rank > 2)
        if node.op == "AveragePool":
            return y.shape is not None and all(size == 1 for size in y.shape[2:])
        if node.op not in ("Flatten", "Reshape") or x.rank is None or x.rank < 3 or y.rank != 2:
            return False
        # Not so where tokens are put in rows: their channels stay the last axis.
        before, after = (x.shape or ())[-1], (y.shape or ())[-1]
        return before != after if isinstance(after, int) else node.op == "Flatten"

    def _goes_on_behind(self, value: Value | None) -> bool:
        """Whether a linear layer comes behind a tensor, or may: outside of its body."""
        if value is None:
            return False
        leaves = value.is_output and value.graph is not self._main
        return id(value) in self._leads_on or value.captured or leaves

    def _read(self, value: Value, *, through: bool = False) -> Iterator[_Kind]:
        """Yield what reads a tensor, behind carriers; with `through` behind activations too."""
        for reader in self._readers(value, through=through):
            yield _Kind.OUTPUT if reader is None else self._kind(reader)

    def _kind(self, node: Node) -> _Kind:
        if is_batchnorm(node):
            return _Kind.SUM if _is_branch(node) else _Kind.BATCHNORM
        if node.op in NORMALIZERS or _is_layernorm(node) or _is_layernorm_part(node):
            return _Kind.LAYERNORM
        if node.domain:
            return _Kind.OTHER
        if node.key in self._layers:
            return _Kind.LINEAR
        if node.op in PRODUCTS:
            return _Kind.PRODUCT
        if node.op in ("Softmax", "LogSoftmax"):
            return _Kind.SOFTMAX
        if node.op in SUMS:
            return _Kind.SUM
        if node.op in ACTIVATIONS or node.op == "Mul":
            return _Kind.NONLINEAR
        return _Kind.OTHER

    def _is_normalized_later(self, y: Value, beyond: Iterable[_Kind]) -> bool:
        """Whether a BatchNormalization is left behind the activation, or behind the sum."""
        kinds = set(beyond)
        if _Kind.BATCHNORM in kinds and not kinds & {_Kind.LINEAR, _Kind.SUM}:
            norms = [node for node in self._readers(y, through=True) if node and is_batchnorm(node)]
            # One that an activation follows is the next layer's, which has its own besides.
            return not any(_activates(use.node) for n in norms for use in n.out.readers.values())
        sums = [node for node in self._readers(y) if node is not None and _is_sum(node)]
        return any(_Kind.BATCHNORM in self._read(node.out) for node in sums)

    def _is_feature(self, y: Value) -> bool:
        """Whether the last layer is one of a network that ends with features, without a head."""
        read = [node for node in self._readers(y) if node is not None]
        products = [node for node in read if node.op == "Mul"]
        sums = [node for node in read if _is_sum(node)]
        behind = [node for made in sums for node in self._readers(made.out) if node is not None]
        return bool(products) or any(node.op in FEATURES for node in (*read, *behind))

    def _scaled_behind(self, depthwise: LinearLayer) -> Iterator[int]:
        """Yield the keys of the two layers behind a depthwise one, if a layer scale ends them."""
        node = depthwise.node
        if node.op != "Conv" or not 1 < int(node.attr("group", 1)) == depthwise.channels:
            return
        keys, value = [], depthwise.output
        for through in (False, True):
            readers = {reader.key for reader in self._readers(value, through=through) if reader}
            layer = self._layers.get(*readers) if len(readers) == 1 else None
            if layer is None:
                return
            keys.append(layer.node.key)
            value = layer.output
        for use in value.readers.values():
            scale = use.node
            if scale.op == "Mul" and self._carries(scale):
                made = scale.out.readers.values()
                if made and all(_is_sum(reader.node) for reader in made):
                    yield from keys

    def _activation_of(self, layer: LinearLayer) -> Node | None:
        """Return the activation that alone reads what a layer makes."""
        readers = [use.node for use in layer.output.readers.values()]
        return readers[0] if len(readers) == 1 and _activates(readers[0]) else None

    def _is_normalized_behind(self, layer: LinearLayer) -> bool:
        node = self._activation_of(layer)
        return node is not None and _Kind.BATCHNORM in self._read(node.out)

    def _is_last(self, layer: LinearLayer) -> bool:
        """Whether nothing comes behind a layer's activation but a pooling, and a head."""
        node = self._activation_of(layer)
        if node is None:
            return False
        read = [use.node for use in node.out.readers.values()]
        return bool(read) and all(id(each.output(0)) in self._pooled for each in read)

    def _meets_map(self, value: Value, ops: frozenset[str]) -> bool:
        """Whether what was pooled comes together with a map again in one of some operators."""
        pending, seen = [value], {id(value)}
        while pending:
            for use in pending.pop().readers.values():
                node = use.node
                for made in node.outputs:
                    if made is None or id(made) in seen:
                        continue
                    seen.add(id(made))
                    if id(made) in self._pooled:
                        pending.append(made)
                    elif node.op in ops:
                        return True
        return False

    def _readers(self, value: Value, *, through: bool = False) -> Iterator[Node | None]:
        """Yield the nodes that read a tensor, behind carriers.

        None is the caller of the graph. With `through` it goes on behind activations and gates too.
        """
        pending, seen = [value], {id(value)}
        while pending:
            current = pending.pop()
            if current.is_output:
                yield None
            for use in current.readers.values():
                node = use.node
                if not (self._carries(node) or (through and _activates(node))):
                    yield node
                    continue
                for made in node.outputs:
                    if made is not None and id(made) not in seen:
                        seen.add(id(made))
                        pending.append(made)

    def _carries(self, node: Node) -> bool:
        """Whether what a node reads goes on as it is, but for constants."""
        if node.domain or _is_layernorm_part(node):
            return False
        if node.op in ARITHMETIC:  # a bias, a layer scale
            return len(self._computed(node)) < len(node.inputs)
        return node.op in CARRIERS

    def _computed(self, node: Node) -> list[Value]:
        """Return what a node reads that is no constant."""
        slots = range(len(node.inputs))
        values = ((slot, node.input(slot)) for slot in slots)
        return [v for slot, v in values if v and self._constants.read(Use(node, slot)) is None]


def _shape(layer: LinearLayer) -> tuple[str, int, str]:
    """Return what makes layers alike."""
    node = layer.node
    return node.op, int(node.attr("group", 1)), str(node.attr("kernel_shape", ""))


def _activates(node: Node) -> bool:
    return not node.domain and (node.op in ACTIVATIONS or node.op == "Mul")


def _is_sum(node: Node) -> bool:
    return not node.domain and node.op in SUMS


def _is_branch(batchnorm: Node) -> bool:
    """Whether a BatchNormalization is beside layers of the same tensor, to which it is added."""
    x, y = batchnorm.input(0), batchnorm.out
    added = all(_is_sum(use.node) for use in y.readers.values())
    return x is not None and len(x.readers) > 1 and added


def _is_layernorm_part(node: Node) -> bool:
    """Whether a node takes the mean, of what it is then subtracted from."""
    x, y = node.input(0), node.output(0)
    if node.op != "ReduceMean" or x is None or y is None:
        return False
    return any(_is_layernorm(use.node) for use in y.readers.values())


def _is_layernorm(node: Node) -> bool:
    """Whether a node centres a tensor by its own mean: a LayerNorm in parts."""
    if node.op != "Sub" or node.domain or len(node.inputs) != 2:
        return False
    x, mean = node.inputs
    maker = None if mean is None else mean.producer
    return maker is not None and maker.op == "ReduceMean" and maker.input(0) is x


def _is_map(node: Node) -> bool:
    """Whether a node puts tokens back into a map: after it, what came from a LayerNorm is one."""
    x, y = node.input(0), node.output(0)
    if node.op == "DepthToSpace":
        return True
    if node.op != "Reshape" or x is None or y is None or y.shape is None or y.rank != 4:
        return False
    # But for the second half of a GroupNorm that is written as an InstanceNormalization of groups.
    is_half = x.producer is not None and x.producer.op == "InstanceNormalization"
    has_same = x.rank == 4 and x.shape is not None and x.shape[1] == y.shape[1]
    return not is_half and not has_same
