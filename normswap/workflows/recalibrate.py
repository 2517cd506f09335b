"""A recalibration from beginning to end: load, estimate, install, and save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from normswap.graph.build import build_network, gs_nodes
from normswap.graph.names import Names
from normswap.groupnorm.carried import require_finite
from normswap.groupnorm.recalibrate import (
    Recalibrated,
    RecalibrateOptions,
    batchnorms,
    estimate,
    install,
)
from normswap.inputs.data import BATCH, open_data
from normswap.inputs.signature import read_signature
from normswap.model import load
from normswap.model.staging import staged_output
from normswap.progress import Progress, silent
from normswap.workflows.result import Result, RewriteReport, committed, place

if TYPE_CHECKING:
    from normswap.inputs.data import Data
    from normswap.model.sources import Source
    from normswap.workflows.result import Output


@dataclass(frozen=True, slots=True)
class RecalibrateReport(RewriteReport):
    """What was done.

    Attributes
    ----------
    source, output, size_before, size_after
        See :class:`~normswap.workflows.result.RewriteReport`.
    layers : tuple of Recalibrated
    samples : int
        How many samples the statistics are of.
    notes : tuple of str
        What of the data was not used.
    """

    layers: tuple[Recalibrated, ...]
    samples: int
    notes: tuple[str, ...] = ()

    SCHEMA: ClassVar[str] = "normswap/recalibrate/1"


class RecalibrateResult(Result[RecalibrateReport]):
    """A model with new statistics, and the report on them."""


def recalibrate(
    model: Source,
    data: Data,
    output: Output = None,
    *,
    momentum: float | None = None,
    freeze: bool = False,
    samples: int | None = None,
    batch: int = BATCH,
    timeout: float = 600.0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> RecalibrateResult:
    """Give the BatchNormalizations of a model the means and variances of data.

    This makes another function of the model, so there is nothing to check.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        See :func:`normswap.fold`.
    data : path, dict or iterable of dict
        What the statistics are of. A path is that of an ``.npz`` with an array for each input, of
        an ``.npy`` or ``.pb`` with the only one, or of a folder of these or of
        ``test_data_set_*``. In memory it is a dict of arrays by input name, or an iterable of one
        for each batch, in the shape and dtype that the model takes. Samples lie along the first
        axis; other arrays, such as labels, are ignored.
    output : path or binary stream, optional
        Where the new model goes. It is complete there or untouched, whatever happens. Without it
        nothing is written, and the model is the result's.
    momentum : float, optional
        In [0, 1): ``momentum * running + (1 - momentum) * batch``, batch after batch, from the
        statistics that the model has. Without it, the statistics of all data as one batch.
    freeze : bool
        Turn normalizations in training mode into inference ones.
    samples : int, optional
        Use only the first so many.
    batch : int
        Samples in a batch, for data from files and a model that leaves it open.
    timeout : float
        Seconds that one run of the model may take.
    overwrite : bool
        Whether an existing file may be replaced.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    RecalibrateResult
        ``report`` says how far the statistics moved, ``model`` is the new ModelProto, and
        ``save(path)`` writes it.

    Raises
    ------
    UsageError
        If an option has a value that it can't have, or the output exists. It is a ValueError.
    ModelError, DataError
        If the model or data can't be read, or a normalization can't be recalibrated.
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
    options = RecalibrateOptions(momentum, freeze, timeout)
    target = place(output)
    progress("reading the model")
    loaded = load(model)
    nodes = batchnorms(loaded, freeze=freeze)
    # Old means and variances are replaced; with a momentum they count.
    replaced = (3, 4) if momentum is None else ()
    targets = {node.key for node in nodes}
    require_finite(loaded.name, build_network(loaded), targets, "recalibrated", but=replaced)
    with loaded.original() as original:
        dataset = open_data(data, read_signature(original), batch=batch, samples=samples)
        found, count = estimate(original, dataset, options, progress)
    surgeon = dict(enumerate(gs_nodes(loaded)))
    names = Names(loaded)
    done = []
    for node in nodes:
        statistics, old = found[node.out.name]
        done.append(install(node, surgeon[node.key], statistics, old, options, names))
    progress("writing")
    notes = tuple(dataset.notes)
    report = RecalibrateReport(
        loaded.name, None, tuple(done), count, notes, size_before=loaded.size
    )
    with staged_output(loaded, target, overwrite=overwrite) as staged:
        report = committed(report, staged, target)
    return RecalibrateResult(report, target)
