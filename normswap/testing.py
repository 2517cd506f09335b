"""Assertions about ONNX models, for the tests of projects that export or rewrite them.

::

    assert_equivalent               two models are the same function
    assert_no_batch_norm            no BatchNormalization is left
    assert_no_foldable_batch_norm   none is left that a fold would remove
    assert_group_norm               a model uses group normalization only
    assert_same_as_module           a file is the torch module that it was exported from

Each takes a model as :func:`normswap.fold` does and returns the report that it rests on. If it
fails, the AssertionError says which layer or output, how much, and what to do; its ``report`` has
the rest. A model that can't be read or run raises the same NormswapError as elsewhere.
``pytest --normswap-report FILE`` writes the reports of a session to a file; see docs/testing.md.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from normswap.findings import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport, OutputReport
    from normswap.inspection.layers import InspectedLayer
    from normswap.model.sources import Source
    from normswap.report.envelope import Report
    from normswap.workflows.inspect import InspectReport

__all__ = [
    "assert_equivalent",
    "assert_group_norm",
    "assert_no_batch_norm",
    "assert_no_foldable_batch_norm",
    "assert_same_as_module",
]

__tracebackhide__ = True  # pytest shows the line of the test instead

SHOWN = 10
"""Layers, outputs and reasons that a message lists."""

listeners: list[Callable[[str, Report, str], None]] = []
"""Called with each assertion's name, its report, and its message, which is empty where it holds."""


class ReportedAssertionError(AssertionError):
    """An assertion that does not hold, with the report that says so.

    Parameters
    ----------
    message : str
    report : Report
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def assert_equivalent(
    original: Source,
    rewritten: Source,
    options: Literal["quick", "full", "proof"] | CheckOptions = "quick",
    *,
    require: Literal["", "proved"] = "",
) -> CheckReport:
    """Fail unless two models are the same function.

    Parameters
    ----------
    original, rewritten : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
    options : {"quick", "full", "proof"} or CheckOptions
        As for :func:`normswap.check`.
    require : {"", "proved"}
        With ``"proved"``, also fail if they are equivalent but not all of that is proved.

    Returns
    -------
    CheckReport

    Raises
    ------
    AssertionError
        They are different, or it can't be decided.
    NormswapError
        A model is unreadable, or can't be run.

    Examples
    --------
    >>> from normswap.testing import assert_equivalent
    >>> report = assert_equivalent("models/mlp.onnx", "models/mlp.onnx", require="proved")
    >>> report.is_proved
    True
    """
    from dataclasses import replace

    from normswap.errors import require_choice
    from normswap.workflows.check import check

    require_choice("require", require, ["", "proved"])
    report = replace(check(original, rewritten, options), required=require)
    _conclude("assert_equivalent", report, _not_the_same(report, _ADVICE_EQUIVALENT))
    return report


def assert_no_batch_norm(model: Source, *, but: Collection[str] = ()) -> InspectReport:
    """Fail if a model has a BatchNormalization, including in subgraphs and functions.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
    but : collection of str
        Shell-style patterns for nodes that may stay: ``"/head/*"``.

    Returns
    -------
    InspectReport

    Raises
    ------
    AssertionError
        The message lists them, and what a fold would do with each.
    """
    report = _inspected(model)
    found = _unless(but, (each for each in report.layers if _is_batch_norm(each)))
    return _none(
        "assert_no_batch_norm",
        report,
        found,
        f"{_name(report.source)} has {_count(found, 'BatchNormalization')}, and should have none",
        "What to do: `normswap fold` removes those that are foldable"
        + (f" ({report.foldable} of them)" if report.foldable else " (none of them)")
        + "; `normswap bn-to-gn` replaces the others; but=[...] names those that may stay.",
    )


def assert_no_foldable_batch_norm(model: Source, *, but: Collection[str] = ()) -> InspectReport:
    """Fail if a fold would remove a normalization of a model.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
    but : collection of str
        Shell-style patterns for nodes that may stay: ``"/head/*"``.

    Returns
    -------
    InspectReport

    Raises
    ------
    AssertionError
        The message lists them, and the operator that would absorb each.
    """
    report = _inspected(model)
    found = _unless(but, (layer for layer in report.layers if layer.fold == "foldable"))
    return _none(
        "assert_no_foldable_batch_norm",
        report,
        found,
        f"{_name(report.source)} has {_count(found, 'normalization')} that a fold can remove",
        "What to do: `normswap fold MODEL --in-place`; or export in eval mode, and let "
        "the exporter fold.",
    )


def assert_group_norm(
    model: Source, groups: int | None = None, *, layers: int | None = None
) -> InspectReport:
    """Fail unless a model uses group normalization, and no batch normalization.

    A GroupNormalization counts (also onnxruntime's GroupNorm), and so does an InstanceNormalization
    of channels that were reshaped to groups, as it is written in opsets before 18.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
    groups : int, optional
        How many groups each of them has; any number by default.
    layers : int, optional
        How many of them there are; one or more by default.

    Returns
    -------
    InspectReport

    Raises
    ------
    AssertionError
        The message lists the normalizations of another kind or with another number of groups.
    """
    report = _inspected(model)
    found = [layer for layer in report.layers if layer.groups is not None]
    wrong = [each for each in report.layers if _is_batch_norm(each)]
    wrong += [each for each in found if groups is not None and each.groups != groups]
    wanted = f"group normalization{f' with {groups} groups' if groups is not None else ''}"
    name = _name(report.source)
    message = ""
    if wrong:
        headline = (
            f"{_count(wrong, 'normalization')} of {name} should be {wanted}, but "
            f"{'is' if len(wrong) == 1 else 'are'} not"
        )
    elif not found if layers is None else len(found) != layers:
        should = "one or more" if layers is None else str(layers)
        headline = f"{name} has {_count(found, 'group normalization')}, but should have {should}"
    else:
        headline = ""
    if headline:
        others = wrong or report.layers
        how = f"--groups {groups or 'N'}"
        message = _listing(
            headline, map(_layer, others), f"What to do: `normswap bn-to-gn {how} MODEL`."
        )
    _conclude("assert_group_norm", report, message)
    return report


def assert_same_as_module(
    module: Any,
    model: Source,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    options: Literal["quick", "full"] | CheckOptions = "quick",
) -> CheckReport:
    """Fail unless a file is the torch module that it was exported from.

    The module in float64 is the truth; there is no tolerance to choose.

    Parameters
    ----------
    module : torch.nn.Module or torch.export.ExportedProgram
        In eval mode, if it has one.
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
    args, kwargs : optional
        Arguments of the module, as for ``torch.onnx.export``.
    options : {"quick", "full"} or CheckOptions
        As for :func:`normswap.check_module`.

    Returns
    -------
    CheckReport

    Raises
    ------
    AssertionError
        It is not, or it can't be decided. The message names the mode, the weight or the first layer
        that differs, if it can be found.
    NormswapError
        The file is unreadable or can't be run, or torch is not installed.
    """
    from normswap.workflows.check_module import check_module

    report = check_module(module, model, args, kwargs, options)
    _conclude("assert_same_as_module", report, _not_the_same(report, _ADVICE_SOURCE))
    return report


_ADVICE_SOURCE = (
    "What to do: export the module again in eval mode; if the difference is wanted, "
    "build the module with it. To keep the inputs, call "
    "error.report.save_failing_inputs(FILE)."
)

_ADVICE_EQUIVALENT = (
    "What to do: `normswap diff A B` shows the nodes that changed; if the difference is "
    "wanted, remove this assertion. To keep the inputs, call "
    "error.report.save_failing_inputs(FILE)."
)


def _none(
    assertion: str,
    report: InspectReport,
    found: Sequence[InspectedLayer],
    headline: str,
    advice: str,
) -> InspectReport:
    """Conclude an assertion that there are no layers of a kind."""
    _conclude(assertion, report, _listing(headline, map(_layer, found), advice) if found else "")
    return report


def _conclude(assertion: str, report: Report, message: str) -> None:
    for listener in listeners:
        listener(assertion, report, message)
    if message:
        raise ReportedAssertionError(f"{assertion}: {message}", report)


def _inspected(model: Source) -> InspectReport:
    from normswap.workflows.inspect import inspect

    return inspect(model)


def _is_batch_norm(layer: InspectedLayer) -> bool:
    return layer.op == "BatchNormalization"


def _unless(but: Collection[str], layers: Iterable[InspectedLayer]) -> list[InspectedLayer]:
    """Return the layers that no pattern fits."""
    from normswap.groupnorm.selection import fits

    return [layer for layer in layers if not fits((layer.node, layer.output), but)]


def _layer(layer: InspectedLayer) -> str:
    sizes = [f"{layer.channels} channels"] if layer.channels is not None else []
    sizes += [f"{layer.groups} groups"] if layer.groups is not None else []
    sizes += ["in training mode"] if layer.mode == "training" else []
    sized = f" ({', '.join(sizes)})" if sizes else ""
    fate = ""
    if layer.fold == "foldable":
        fate = f": foldable, into {layer.because}"
    elif layer.fold == "kept" and layer.reason is not None:
        fate = f": kept by a fold, {layer.reason.value}: {layer.because}"
    return f"{layer.op} {place_of(layer)}{sized}{fate}"


def _not_the_same(report: CheckReport, advice: str) -> str:
    """Return what a message says of models that are not the same; empty where they are."""
    if not report.exit_code:
        return ""
    from normswap.report.standing import names_of

    first, second = names_of(report.original, report.rewritten)
    if report.shortfall:
        return _listing(f"{second} is equivalent to {first}, but {report.shortfall}", (), "")
    is_different = report.verdict.value == "different"
    headline = (
        f"{second} is not the same function as {first}"
        if is_different
        else f"it can't be decided whether {second} is the same function as {first}"
    )
    lines = [*report.reasons[:SHOWN]]
    if len(report.reasons) > SHOWN:
        lines.append(f"and {len(report.reasons) - SHOWN} more")
    outputs = len({output.name for output in report.outputs})
    wrong = list(dict.fromkeys(o.name for o in report.outputs if o.judgement.verdict.exit_code))
    if outputs:
        lines.append(f"Outputs that differ: {len(wrong)} of {outputs} ({', '.join(wrong[:SHOWN])})")
    worst = report.worst
    lines += [] if worst is None else _figures(worst)
    lines += [f"Note: {note}" for note in report.notes[:SHOWN]]
    return _listing(headline, lines, advice if is_different else "")


def _figures(output: OutputReport) -> list[str]:
    """Return how far an output is off, as numpy.testing says it."""
    metrics = output.evidence.verdict_level
    if metrics is None:
        return []
    share = 100 * metrics.mismatches / max(metrics.elements, 1)
    found = [
        f"Output {output.name!r} on {output.case}:",
        f"Mismatched elements: {metrics.mismatches} / {metrics.elements} ({share:.3g} %)",
        f"Max absolute difference: {metrics.max_abs:.6g}",
        f"Max relative difference: {metrics.max_rel:.6g}",
    ]
    if output.judgement.allowed is not None:
        found.append(f"Allowed for rounding: {output.judgement.allowed:.3g}")
    if metrics.worst is not None:
        at = ", ".join(map(str, metrics.worst["index"]))
        found += [
            f" ORIGINAL[{at}]:  {metrics.worst['original']!r}",
            f" REWRITTEN[{at}]: {metrics.worst['rewritten']!r}",
        ]
    return found


def _listing(headline: str, lines: Iterable[str], advice: str) -> str:
    listed = list(lines)
    shown = [f"  {line}" for line in listed[: 3 * SHOWN]]
    more = [f"  and {len(listed) - len(shown)} more"] if len(shown) < len(listed) else []
    return "\n".join(
        [headline, *([""] if shown else []), *shown, *more, *(["", advice] if advice else [])]
    )


def _name(source: str) -> str:
    return Path(source).name or source


def _count(found: Sequence[Any], what: str) -> str:
    return f"{len(found)} {what}{'s' * (len(found) != 1)}"


def told(report: Report, form: str) -> str:
    """Return a report in one of the formats that :func:`normswap.report.tell` has."""
    from normswap.report import tell

    stream = io.StringIO()
    tell(report, form, stream)
    return stream.getvalue()
