"""The whole story of a recalibration: load, estimate, install, and save."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from normswap.errors import ExitCode
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
from normswap.inputs.data import open_data
from normswap.model import load
from normswap.model.staging import output_name, staged_output
from normswap.progress import Progress, silent

if TYPE_CHECKING:
    from pathlib import Path

    from normswap.inputs.data import Data


@dataclass(frozen=True, slots=True)
class RecalibrateReport:
    """What was done.

    Attributes
    ----------
    source, output : str
    layers : tuple of Recalibrated
    samples : int
        How many samples the statistics are of.
    size_before, size_after : int
        Bytes.
    notes : tuple of str
        What of the data was not used.
    """

    source: str
    output: str
    layers: tuple[Recalibrated, ...]
    samples: int
    size_before: int = 0
    size_after: int = 0
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        return ExitCode.OK

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "command": "recalibrate",
            "source": self.source,
            "output": self.output or None,
            "samples": self.samples,
            "size_before": self.size_before,
            "size_after": self.size_after or None,
            "layers": [asdict(layer) for layer in self.layers],
            "notes": list(self.notes),
            "exit_code": int(self.exit_code),
        }


def recalibrate(
    source: str | Path | bytes | BinaryIO,
    data: Data,
    output: str | Path | BinaryIO,
    options: RecalibrateOptions,
    *,
    overwrite: bool = False,
    samples: int | None = None,
    batch: int = 32,
    progress: Progress = silent,
) -> RecalibrateReport:
    """Give the BatchNormalizations of a model the statistics of data.

    Parameters
    ----------
    source : path, bytes or binary stream
    data : path, feeds or iterable of feeds
        See :func:`normswap.inputs.data.open_data`.
    output : path or binary stream
    options : RecalibrateOptions
    overwrite : bool
    samples, batch : int
        How many samples of the data, and how many at once.
    progress : callable

    Returns
    -------
    RecalibrateReport

    Raises
    ------
    ModelError, DataError
        The model or data can't be read, or a normalization can't be recalibrated.
    RunError
        The runtime can't run the model.
    """
    from normswap.inputs.signature import read_signature

    progress("reading the model")
    model = load(source)
    nodes = batchnorms(model, freeze=options.freeze)
    # Old means and variances are replaced; with a momentum they count.
    replaced = (3, 4) if options.momentum is None else ()
    targets = {node.key for node in nodes}
    require_finite(model.name, build_network(model), targets, "recalibrated", but=replaced)
    with model.original() as original:
        dataset = open_data(data, read_signature(original), batch=batch, samples=samples)
        found, count = estimate(original, dataset, options, progress)
    surgeon = dict(enumerate(gs_nodes(model)))
    names = Names(model)
    done = []
    for node in nodes:
        statistics, old = found[node.out.name]
        done.append(install(node, surgeon[node.key], statistics, old, options, names))
    progress("writing")
    notes = tuple(dataset.notes)
    report = RecalibrateReport(model.name, "", tuple(done), count, model.size, notes=notes)
    with staged_output(model, output, overwrite=overwrite) as staged:
        staged.commit()
        return replace(report, output=output_name(output), size_after=staged.size)
