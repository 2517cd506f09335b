"""What decides on a CPU which form of a layer is the fastest.

The order is that of ``benchmarks/RESULTS-GN-CPU.md``. What decides there is how a form goes through
memory, and on how many cores. instancenorm reads a group from the cache and writes the result, on
one core. layernorm does the same on all threads, by rows (a row is a group of a sample), and slower
on each. centred runs plain operators, each over all of memory, on all threads, and applies the
affine on the way; that pays for layers that are large, of groups that are. Between convolutions the
affine costs next to nothing, see `LayerBuilder.affine`, so that centred has no more to win there.
Two threads are what was measured; more make layernorm and centred no slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    from normswap.groupnorm.layer import Layer

LARGE = {1: 1 << 19, 2: 1 << 17}
"""Elements of a tensor from which on centred pays, by threads; 2 stands for two and more."""

LONG_GROUP = 1 << 14
"""Elements of a group that this takes where the tensor is just large enough; one that is k times
as large may have groups that are k times as small."""

LARGE_BETWEEN_CONVOLUTIONS = 1 << 20
"""The same where the affine of the other forms costs nothing, and layernorm has too few rows."""

ENOUGH_ROWS = 4
"""Rows from which on threads can share a LayerNormalization well."""


@dataclass(frozen=True, slots=True)
class LayerWork:
    """What a layer asks of a CPU.

    Attributes
    ----------
    layer : Layer
    threads : int
    rows : int
        Groups of all samples of a batch; of one, where its size is not static.
    group, elements : int
        Elements of a group, and of all.
    """

    layer: Layer
    threads: int
    rows: int
    group: int
    elements: int

    @classmethod
    def of(cls, layer: Layer, threads: int) -> LayerWork:
        """Return what is known of a layer.

        Unknown sizes are taken for small ones on one thread, where there is little between the
        forms, and for large ones on several, where there is.
        """
        batch = layer.shape[0] if layer.shape else None
        rows = layer.num_groups * (batch if isinstance(batch, int) else 1)
        unknown = 0 if threads == 1 else LARGE_BETWEEN_CONVOLUTIONS
        known = layer.group_elements
        return cls(layer, threads, rows, known or unknown, known * rows if known else unknown)

    @property
    def why(self) -> str:
        """What a person is told of a form that is chosen for its speed."""
        on = f"{self.threads} CPU threads" if self.threads > 1 else "one CPU thread"
        size = "this size" if self.layer.group_elements else "an unknown size"
        return f"the fastest in onnxruntime on {on} for {size}"

    @property
    def pays_for_plain_operators(self) -> bool:
        """Whether plain operators on all threads make up for their passes over memory."""
        if self.layer.data_type == TensorProto.DOUBLE:
            return False
        if self.layer.before_convolution:
            return self.threads > 1 and self.elements >= LARGE_BETWEEN_CONVOLUTIONS
        large = LARGE[min(self.threads, 2)]
        return (
            self.elements >= large
            and self.elements * self.group >= large * LONG_GROUP
            and (self._takes_several_nodes or self.threads > 1)
        )

    @property
    def pays_to_share_rows(self) -> bool:
        """Whether threads win more by sharing rows than they lose on each."""
        layer = self.layer
        if layer.data_type == TensorProto.DOUBLE or self.threads == 1 or self.rows < ENOUGH_ROWS:
            return False
        if layer.before_convolution:
            return True
        large = LARGE[2]
        return self._takes_several_nodes and self.elements >= (
            large // 2 if layer.depthwise_affine else large
        )

    @property
    def _takes_several_nodes(self) -> bool:
        """Whether the instancenorm form is more than a single node."""
        return not self.layer.is_instance or self.layer.rank == 2
