"""Inputs that reach what the usual ones don't: limits, branches, and where a model is defined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from normswap.check.cost import multiply_adds, smaller
from normswap.check.evidence import is_bare
from normswap.inputs.dims import RequestedSizes, solve, spatial_sizes
from normswap.inputs.random import Case, Distribution, Draw, make_case
from normswap.proof.coverage import has_kinks, varying
from normswap.semantics.families import BODIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from normswap.check.options import CheckOptions
    from normswap.inputs.signature import Signature
    from normswap.proof.coverage import Unseen

# In the order in which they are tried: those that reach most come first. A sum over an image
# passes a threshold with values of one sign only; numbers are equal where there are few of them.
# Zeros throughout are not among them: they are ties, which rounding breaks either way.
DRIVES = (
    Draw(Distribution.NORMAL, 8.0, flipped=True),
    Draw(Distribution.UNIFORM, 64.0),
    Draw(Distribution.UNIFORM, -64.0, flipped=True),
    Draw(Distribution.NORMAL, 64.0),
    Draw(Distribution.NORMAL, 0.05),
    Draw(Distribution.NORMAL, 1000.0, flipped=True),
    Draw(Distribution.UNIFORM, 1000.0, flipped=True),
    Draw(Distribution.UNIFORM, -1000.0),
    Draw(Distribution.NORMAL, 2.0, step=0.5),
    Draw(Distribution.NORMAL, integers=(0, 1), flipped=True),
    Draw(Distribution.NORMAL, integers=(-(2**62), 2**62)),
)

# Where a function like Acosh, Log, Acos or Atanh is defined, and where its opposite is.
DOMAINS = (
    Draw(Distribution.UNIFORM, 9.0, 1.0),
    Draw(Distribution.UNIFORM, 0.98, 0.01),
    Draw(Distribution.UNIFORM, 1.96, -0.98),
    Draw(Distribution.UNIFORM, -9.0, -1.0, flipped=True),
    Draw(Distribution.UNIFORM, 90.0, 10.0),
    Draw(Distribution.UNIFORM, 0.01, flipped=True),
)

# What integers of no known meaning are where others end in an error: nearly everything that is an
# index, a size or a number of something may be 1, or 0.
INTEGERS = ((0, 1), (1, 1), (0, 0))

# What may take all the memory there is if an integer that it reads is large.
_GROWING = BODIES | {
    "BlackmanWindow", "ConstantOfShape", "Expand", "HammingWindow", "HannWindow",
    "MelWeightMatrix", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample",
}  # fmt: skip

_SIZES = 3  # sizes of inputs that integers are tried to be

# Multiply-adds that driving may take in all, and those of one input at which channels count too.
_BUDGET = 250_000_000
_LITTLE = 5_000_000
_UNKNOWN = 3  # inputs that are tried where it isn't known how much work one is

_MOST = 1 << 20  # of an integer, beyond which it is drawn only where nothing has its size
_NAMED = 8  # sides that were not seen, in a note


@dataclass(frozen=True, slots=True)
class Drive:
    """Inputs that may reach what others don't, and how far to go.

    Attributes
    ----------
    cases : tuple of Case
    channels : bool
        Whether each channel of a node should be driven, not only the node.
    """

    cases: tuple[Case, ...] = ()
    channels: bool = False


def attempts(
    signature: Signature, options: CheckOptions
) -> Iterator[tuple[int, tuple[int, int] | None]]:
    """Yield what to try until the original takes it: a spatial size, and a range of integers.

    A person's own data is taken or it is not.
    """
    if options.data is not None:
        yield 0, None
        return
    requested = RequestedSizes(options.input_shapes, options.symbolic_dims)
    sizes = list(spatial_sizes(signature, requested))
    yield from ((size, None) for size in sizes)
    if any("int" in port.dtype for port in signature.inputs):
        shapes = solve(signature, requested, batch=1, spatial=sizes[0])
        known = dict.fromkeys(size for shape in shapes.values() for size in shape)
        # What is a size must often be that of something else.
        equal = [(size, size) for size in known if size > 1][:_SIZES]
        yield from ((sizes[0], bounds) for bounds in (*INTEGERS, *equal))


def plan(signature: Signature, options: CheckOptions, case: Case) -> Drive:
    """Return inputs that may reach what the usual ones don't, for a bounded amount of work.

    Parameters
    ----------
    signature : Signature
    options : CheckOptions
    case : Case
        One of the usual inputs; a person's own are all there are.
    """
    if case.distribution is Distribution.USER or not signature.inputs:
        return Drive()
    shapes = case.shapes()
    # Sides are reached as well on a small image as on a large one.
    shapes = next(iter(smaller(signature, shapes, _BUDGET // len(DRIVES))), shapes)
    work = multiply_adds(signature.structure, shapes)
    most = _UNKNOWN if work is None else max(_BUDGET // max(work, 1), 1)
    draws = [draw for draw in DRIVES[:most] if not _is_large(draw) or _is_bounded(signature)]
    cases = drawn(signature, options, shapes, draws)
    return Drive(tuple(cases), work is not None and work <= _LITTLE)


def _is_large(draw: Draw) -> bool:
    return draw.integers is not None and draw.integers[1] > _MOST


def _is_bounded(signature: Signature) -> bool:
    """Whether no size of a model hangs on the values of its inputs."""
    model = onnx.load_from_string(signature.structure)
    reached = varying(model)
    growing = _GROWING | {
        function.name
        for function in model.functions
        if any(node.op_type in _GROWING or node.domain for node in function.node)
    }
    return not any(
        node.op_type in growing and not reached.isdisjoint(node.input) for node in model.graph.node
    )


def drawn(
    signature: Signature,
    options: CheckOptions,
    shapes: Mapping[str, tuple[int, ...]],
    these: Iterable[Draw],
) -> list[Case]:
    """Return inputs drawn in each of several ways."""
    return [
        make_case(signature, shapes, draw, seed=options.seed, ranges=options.value_ranges)
        for draw in these
    ]


def bare_outputs(
    signature: Signature, observed: Sequence[Mapping[str, np.ndarray]]
) -> frozenset[str]:
    """Return the outputs that gave nothing to compare, of those that depend on the inputs.

    Parameters
    ----------
    signature : Signature
    observed : sequence of dict of str to numpy.ndarray
        The tensors among the outputs, by name, for each set of inputs.
    """
    arrays: dict[str, list[np.ndarray]] = {}
    for tensors in observed:
        for leaf, array in tensors.items():
            output = signature.varying_output(leaf)
            if output is not None:
                arrays.setdefault(output, []).append(array)
    return frozenset(output for output, values in arrays.items() if is_bare(values))


def blind(signature: Signature) -> list[str]:
    """Return a sentence on a model of which nobody saw what its inputs reach, or none."""
    if not signature.inputs or not has_kinks(onnx.load_from_string(signature.structure).graph):
        return []
    return [
        "without a float64 evaluation it is not known which limits and branches the inputs reached"
    ]


def note(unseen: Sequence[Unseen]) -> list[str]:
    """Return a sentence on what no input reached, or none.

    Sides that some channels were on are not told of: every trained network has dead channels.

    Parameters
    ----------
    unseen : sequence of Unseen
        Of both models; what both have in common is said once.
    """
    told = list(dict.fromkeys(str(item) for item in unseen if item.whole and item.what))
    if not told:
        return []
    more = len(told) - _NAMED
    rest = f"; and {more} more" if more > 0 else ""
    return [f"not tested: {'; '.join(told[:_NAMED])}{rest}"]
