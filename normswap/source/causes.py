"""Why a file is another function than its module, as far as that shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.check.report import SourceFinding
from normswap.inputs.signature import dtype_of_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from normswap.check.observations import Observations
    from normswap.inputs.random import Case
    from normswap.inputs.signature import Signature
    from normswap.source.layers import FirstDifference
    from normswap.source.weights import Weight

_NAMED = 5  # weights and layers in a sentence, and findings of a kind
_AGREES = 1e-3  # part of its scale by which an output may be another one's


def of_outputs(signature: Signature, made: Sequence[np.ndarray]) -> Iterator[SourceFinding]:
    """Yield where a file has other outputs than its module: another number, rank or type."""
    ports = signature.outputs
    if len(ports) != len(made):
        names = ", ".join(port.name for port in ports)
        count = f"{len(made)} tensor{'s' * (len(made) != 1)}"
        what = f"the module returns {count}, but the file has {len(ports)} ({names})"
        yield SourceFinding("interface", "", what)
        return
    for number, (port, array) in enumerate(zip(ports, made, strict=True)):
        kind = dtype_of_port(ports, port.name)
        is_float = kind is not None and kind.kind not in "biuc"
        ranks = {array.ndim, array.ndim if port.shape is None else len(port.shape)}
        if port.kind != "tensor" or is_float != (array.dtype.kind == "f") or len(ranks) > 1:
            own = "float" if array.dtype.kind == "f" else array.dtype.name
            what = (
                f"output {port.name!r} of the file is {port}, but output {number} of the "
                f"module is {own}[{','.join(map(str, array.shape))}]"
            )
            yield SourceFinding("interface", port.name, what)


def of_mode(module: Sequence[str], file: Sequence[str], *, same: bool) -> Iterator[SourceFinding]:
    """Yield what is in training mode.

    Parameters
    ----------
    module : sequence of str
        Its submodules that training mode makes another function.
    file : sequence of str
        Nodes of the file.
    same : bool
        Whether the file is the module in inference mode.
    """
    if file and not same:
        what = (
            f"the file is in training mode, in {_listed(file)}: export it in eval mode, "
            "or repair it with `normswap recalibrate --freeze`"
        )
        yield SourceFinding("mode", file[0], what)
    if module:
        so = "the file is equal to the module" if same else "the file was compared with it"
        what = (
            f"the module is in training mode, where {_listed(module)} "
            f"{'depend' if module[1:] else 'depends'} on the other samples of the batch, "
            f"or on chance; {so} in inference mode: call .eval() before the module is "
            "exported and compared"
        )
        yield SourceFinding("mode", module[0].split(" ")[0], what)


def of_weights(weights: Sequence[Weight], *, same: bool) -> Iterator[SourceFinding]:
    """Yield which weights of the file are not those of the module.

    Parameters
    ----------
    same : bool
        Whether the outputs are: then only what no exporter does counts.
    """
    changed = [weight for weight in weights if weight.kind == "changed"]
    others = [weight for weight in weights if weight.kind in {"other", "shape"}]
    many = [*changed, *others]
    if not (same or weights):
        yield SourceFinding("weight", "", "no weight of the module was found in the file")
        return
    if not same and len(many) > _NAMED and len(many) > len(weights) / 2:
        names = [weight.name for weight in many]
        what = (
            f"{len(many)} of the {len(weights)} weights in the file are not the module's: "
            "it was exported with other weights, or from another network "
            f"({_listed(names)})"
        )
        yield SourceFinding("weight", names[0], what)
        return
    told = changed if same else many
    yield from (SourceFinding("weight", each.name, str(each)) for each in told[:_NAMED])
    if len(told) > _NAMED:
        names = [weight.name for weight in told[_NAMED:]]
        what = f"{len(names)} more weights are not the module's: {_listed(names)}"
        yield SourceFinding("weight", names[0], what)


def of_layer(place: FirstDifference, weights: Sequence[Weight]) -> SourceFinding:
    """Return where the file begins to be another function."""
    own = [each for each in weights if each.name.rpartition(".")[0] == place.layer]
    kept = bool(own) and all(each.kind == "same" for each in own)
    why = "; its weights are the module's, so its inputs or its settings differ" * kept
    return SourceFinding("layer", place.layer, f"{place}{why}")


def of_order(
    signature: Signature, seen: Observations, made: Callable[[Case], Sequence[np.ndarray]]
) -> Iterator[SourceFinding]:
    """Yield which outputs of the file are other ones of the module.

    Parameters
    ----------
    made : callable
        Returns what the module gives for some inputs.
    """
    names = [port.name for port in signature.outputs]
    if seen.rewritten is None or not seen.rewritten.values[0] or len(names) < 2:
        return
    own, values = made(seen.cases[0]), seen.rewritten.values[0][0]
    for number, name in enumerate(names):
        value = np.asarray(values[name])
        alike = [other for other, array in enumerate(own) if _agree(array, value)]
        if alike and number not in alike:
            what = (
                f"output {number} of the file, {name!r}, is output {alike[0]} of the "
                "module: the outputs are in another order"
            )
            yield SourceFinding("outputs", name, what)


def _agree(own: np.ndarray, value: np.ndarray) -> bool:
    if own.shape != value.shape or not own.size:
        return False
    a, b = own.astype(np.float64), value.astype(np.float64)
    largest = float(np.abs(a).max())
    return bool(np.abs(a - b).max() <= _AGREES * largest)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
