"""A recalibration from beginning to end: load, estimate, install, and save."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from normswap.errors import UsageError
from normswap.graph.build import build_network
from normswap.graph.normalization import site_of
from normswap.graph.reasons import Reason
from normswap.groupnorm.carried import require_finite
from normswap.groupnorm.estimate import PLACES, estimate
from normswap.groupnorm.freeze import (
    find_dropouts,
    find_frozen,
    frozen,
    put_in_inference,
    require_frozen,
)
from normswap.groupnorm.plan import Untouched
from normswap.groupnorm.recalibrate import (
    Edited,
    Recalibrated,
    RecalibrateOptions,
    find_layers,
    install,
    refuse,
)
from normswap.groupnorm.selection import Selection
from normswap.groupnorm.statistics import are_trivial
from normswap.inputs.data import BATCH, open_data
from normswap.inputs.signature import read_signature
from normswap.model import load
from normswap.model.staging import staged_output
from normswap.plain import called
from normswap.progress import Progress, silent
from normswap.workflows.ending import Ending
from normswap.workflows.result import Result, RewriteReport, committed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.groupnorm.statistics import SharedStatistics
    from normswap.inputs.sets import Data
    from normswap.model import Model
    from normswap.model.sources import Source
    from normswap.workflows.result import Output


STAYS = "a Dropout that is, or may be, in training mode; it is not changed"


@dataclass(frozen=True, slots=True)
class RecalibrateReport(RewriteReport):
    """What a recalibration did.

    Attributes
    ----------
    source, output, size_before, size_after
        See :class:`~normswap.workflows.result.RewriteReport`.
    layers : tuple of Recalibrated
    samples : int
        How many samples the statistics come from; 0 without data.
    untouched : tuple of Untouched
        The normalizations that keep their statistics, each with its reason.
    notes : tuple of str
        Which parts of the data were not used.
    """

    layers: tuple[Recalibrated, ...]
    samples: int
    untouched: tuple[Untouched, ...] = field(default=(), metadata=called("kept"))
    notes: tuple[str, ...] = ()

    SCHEMA: ClassVar[str] = "normswap/recalibrate/1"


class RecalibrateResult(Result[RecalibrateReport]):
    """A model with new statistics, and the report on them."""


def recalibrate(
    model: Source,
    data: Data | None = None,
    output: Output = None,
    *,
    momentum: float | None = None,
    freeze: bool = False,
    samples: int | None = None,
    batch: int = BATCH,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    assume_constant: bool = False,
    timeout: float = 600.0,
    overwrite: bool = False,
    copy: bool = True,
    progress: Progress = silent,
) -> RecalibrateResult:
    """Re-estimate the mean and variance of every BatchNormalization of a model on data.

    The new statistics are those of all data as one batch, whatever the batch size and the order of
    the samples; each layer sees its input as computed with the new statistics of the layers before
    it. Nodes that share their statistics continue to share them. The result is a different
    function, so there is nothing to check it against.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        See :func:`normswap.fold`.
    data : path, dict or iterable of dict, optional
        The data to estimate them on. A path names an ``.npz`` with an array for each input, an
        ``.npy`` or ``.pb`` for a model with one input, or a folder of these or of
        ``test_data_set_*``. In memory, it is a dict of arrays by input name, or an iterable of such
        dicts, one for each batch, in the shape and dtype that the model takes. Samples lie along
        the first axis; other arrays, such as labels, are ignored. Without data, `freeze` keeps the
        statistics in the file bit for bit, which is verified by reading the result back.
    output : path or binary stream, optional
        Where to write the new model. Whatever happens, the file is either complete or untouched.
        Without an output nothing is written; the model is in the result.
    momentum : float, optional
        In [0, 1). Update a running estimate, ``momentum * running + (1 - momentum) * batch``, batch
        after batch, starting from the statistics in the model. By default, the statistics are those
        of all data as one batch.
    freeze : bool
        Switch normalizations in training mode to inference mode.
    samples : int, optional
        Use only the first `samples` samples.
    batch : int
        Samples per batch, for data from files and a model with a dynamic batch size.
    include, exclude : sequence of str
        Patterns (``*`` and ``?``) on names of nodes and of their input and output tensors.
    assume_constant : bool
        Treat initializers that are listed as graph inputs as constants.
    timeout : float
        Seconds that one run of the model may take.
    overwrite : bool
        Whether an existing file may be replaced.
    copy : bool
        Whether a model in which there is nothing to freeze is still copied to the output,
        unchanged.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    RecalibrateResult
        ``report`` says how far the statistics moved, and why some did not; ``model`` is the new
        ModelProto, and ``save(path)`` writes it.

    Raises
    ------
    UsageError
        If an option has an invalid value, or the output exists. It is a ValueError.
    ModelError, DataError
        If the model or data can't be read, or no normalization can be recalibrated.
    RunError, RunTimeoutError
        If the runtime can't run the model.

    Examples
    --------
    >>> import normswap
    >>> training, data = "models/digits_resnet_training.onnx", "models/digits_test.npz"
    >>> result = normswap.recalibrate(training, data, freeze=True, samples=64)
    >>> result.report.samples, len(result.report.layers)
    (64, 8)
    >>> all(layer.frozen for layer in result.report.layers)
    True
    """
    options = RecalibrateOptions(
        momentum, freeze, Selection(tuple(include), tuple(exclude)), assume_constant, timeout
    )
    if data is None:
        _require_no_data(freeze=freeze, momentum=momentum, samples=samples)
    ending = Ending.of(model, output, None, None, overwrite=overwrite, copy=copy, progress=progress)
    progress("reading the model")
    loaded = load(model)
    report = RecalibrateReport(loaded.name, None, (), 0, size_before=loaded.size)
    layers: list[SharedStatistics] = []
    if data is None:
        layers, report = _frozen(loaded, options, report)
        if not layers:
            return RecalibrateResult(*ending.as_it_is(report, loaded))
    else:
        report = _recalibrated(loaded, data, options, report, batch, samples, progress)
    progress("writing")
    with staged_output(loaded, ending.target, overwrite=overwrite) as staged:
        if layers:
            require_frozen(staged.path, layers)
        report = committed(report, staged, ending.target)
    return RecalibrateResult(report, ending.target)


def _require_no_data(*, freeze: bool, momentum: float | None, samples: int | None) -> None:
    """Refuse to go without data where something is to be made of it."""
    if not freeze:
        raise UsageError(
            "There is no data to estimate statistics from.",
            tip="Give some inputs of the model. To make a training-mode export an inference "
            "model without any, use --freeze (freeze=True), which keeps the statistics "
            "in the model.",
        )
    for name, given in (("momentum", momentum), ("samples", samples)):
        if given is not None:
            raise UsageError(f"{name} has no effect without data.")


def _about(nodes: Sequence[str], what: str) -> list[str]:
    """Return a note about nodes, if there are any."""
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return [f"{nodes[0]}{more}: {what}"] if nodes else []


def _frozen(
    model: Model, options: RecalibrateOptions, report: RecalibrateReport
) -> tuple[list[SharedStatistics], RecalibrateReport]:
    """Turn nodes in training mode into inference ones, with the statistics that they have."""
    network = build_network(model, assume_constant=True)
    found = find_frozen(model, network, options)
    edited = Edited(model, network)
    for layer in found.layers:
        put_in_inference(layer.nodes, edited.surgeon)
    if found.kept and not found.layers:
        refuse(model, found.kept)
    blank = [layer.nodes[0].title for layer in found.layers if are_trivial(*layer.statistics)]
    notes = _about(
        blank,
        "mean 0 and variance 1, as before training: the statistics were probably never estimated",
    )
    notes += _about(find_dropouts(network), STAYS)
    done = tuple(map(frozen, found.layers))
    kept = tuple(found.kept)
    return found.layers, replace(report, layers=done, untouched=kept, notes=tuple(notes))


def _recalibrated(
    model: Model,
    data: Data,
    options: RecalibrateOptions,
    report: RecalibrateReport,
    batch: int,
    samples: int | None,
    progress: Progress,
) -> RecalibrateReport:
    """Give layers the statistics of data."""
    network = build_network(model, assume_constant=options.assume_constant)
    found = find_layers(model, network, options)
    # Old means and variances are replaced; with a momentum they count.
    replaced = (3, 4) if options.momentum is None else ()
    targets = {node.key for layer in found.layers for node in layer.nodes}
    require_finite(model.name, network, targets, "recalibrated", but=replaced)
    with model.original() as original:
        dataset = open_data(data, read_signature(original), batch=batch, samples=samples)
        statistics, count = estimate(original, found.layers, dataset, options, progress)
    edited = Edited(model, network)
    done, kept = [], list(found.kept)
    for layer, estimated in zip(found.layers, statistics, strict=True):
        if isinstance(estimated, str):
            reason = Reason.NO_SAMPLES if estimated == PLACES else Reason.NO_ESTIMATE
            kept += [Untouched(site_of(node), reason, estimated) for node in layer.nodes]
            continue
        is_frozen = options.freeze and put_in_inference(layer.nodes, edited.surgeon)
        done.append(install(layer, estimated, edited, is_frozen=is_frozen))
    if not done:
        refuse(model, kept)
    notes = [*dataset.notes]
    notes += _about(find_dropouts(network) if options.freeze else [], STAYS)
    return replace(
        report, layers=tuple(done), samples=count, untouched=tuple(kept), notes=tuple(notes)
    )
