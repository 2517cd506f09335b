"""Whether a BatchNormalization is in training mode: the one place that knows all ways to say so.

======  ================================================================================
opset   training mode is
======  ================================================================================
1, 6    ``is_test=0``, which is the default
7 - 13  outputs beyond the first (ONNX: "Output case #1: Y, mean, var, saved_mean, saved_var
        (training mode)"), whether anyone reads them or not; onnxruntime goes by it
14 -    ``training_mode=1``; the default is 0
======  ================================================================================

An output with an empty name is one that is left out. Some, but not all, of the four statistics is
neither of ONNX's two cases; who asks for any of them asks for training mode. So does, at any opset,
who reads one.

Source: ONNX operator BatchNormalization, opsets 1, 6, 7, 9, 14 and 15.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import Reason, unless_blocked

if TYPE_CHECKING:
    from normswap.graph.network import Node


@dataclass(frozen=True, slots=True)
class Mode:
    """The mode of a BatchNormalization.

    Attributes
    ----------
    reason : Reason or None
        ``TRAINING_MODE`` or ``USED_STATISTICS``; None in inference mode.
    why : str
        By what the node says that it is in training mode; empty where it does not say so, and in
        inference mode.
    used : tuple of str
        Its outputs beyond the first that somebody reads: statistics, which only training mode has.
    """

    reason: Reason | None
    why: str
    used: tuple[str, ...]

    @property
    def is_training(self) -> bool:
        """Whether the node normalizes with the statistics of the batch."""
        return self.reason is not None

    @property
    def usage(self) -> str:
        """Which statistics are used, in words."""
        which = "output" if len(self.used) == 1 else "outputs"
        verb = "is" if len(self.used) == 1 else "are"
        return f"its {which} {', '.join(self.used)} {verb} used, and only training mode has them"


def mode_of(node: Node) -> Mode:
    """Return the mode of a node that is a BatchNormalization of the default domain."""
    statistics = [output for output in node.outputs[1:] if output is not None]
    used = tuple(output.name for output in statistics if output.is_used)
    if node.opset >= 14 and node.attr("training_mode", 0):
        return Mode(Reason.TRAINING_MODE, "training_mode=1", used)
    if node.opset < 7 and not node.attr("is_test", 0):
        return Mode(Reason.TRAINING_MODE, "is_test=0", used)
    if used:
        return Mode(Reason.USED_STATISTICS, "", used)
    if statistics and 7 <= node.opset < 14:
        why = (
            f"it has {1 + len(statistics)} outputs, which means training mode at opset {node.opset}"
        )
        return Mode(Reason.TRAINING_MODE, why, used)
    return Mode(None, "", used)


def may_drop(node: Node) -> bool:
    """Whether a Dropout is in training mode, or may be told so: then it draws a mask.

    Source: ONNX operator Dropout: an input from opset 12 on, ``is_test=0`` before opset 7.
    """
    if node.opset < 7:
        return not node.attr("is_test", 0)
    mode = node.input(2)
    if mode is None:
        return False
    source = unless_blocked(constant_source, mode)
    return source is None or bool(source.load().any())
