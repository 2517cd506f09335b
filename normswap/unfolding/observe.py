"""The statistics of what linear layers make, on data.

Nothing downstream changes when an identity is put behind a layer, so all are estimated in one pass.
It is that of a recalibration (:mod:`normswap.groupnorm.estimate`): behind every layer stands a
BatchNormalization that nobody reads, and what comes to it is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.dtypes import NUMPY_DTYPES
from normswap.files.scratch import scratch_folder
from normswap.graph.adding import added
from normswap.graph.build import all_graphs, build_network, gs_nodes
from normswap.graph.names import Names
from normswap.groupnorm.estimate import estimate
from normswap.groupnorm.layer import HALF_PRECISION
from normswap.groupnorm.recalibrate import RecalibrateOptions
from normswap.groupnorm.statistics import SharedStatistics
from normswap.model import ArrayTensor, load, make_constant, stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx_graphsurgeon as gs

    from normswap.inputs.data import Dataset
    from normswap.model import Model
    from normswap.progress import Progress
    from normswap.unfolding.plan import UnfoldPlace, Vectors


def observe(
    original: Path,
    places: Sequence[UnfoldPlace],
    data: Dataset,
    *,
    timeout: float,
    progress: Progress,
) -> tuple[list[Vectors | str], int]:
    """Estimate mean and variance of every place.

    Parameters
    ----------
    original : Path
        The model that the places are in.
    places : sequence of UnfoldPlace
    data : Dataset
    timeout : float
        Seconds for one run.
    progress : callable

    Returns
    -------
    list of (mean, var) or str
        ``(C,)`` each, in float64; or why the data gives none.
    int
        How many samples they are of.

    Raises
    ------
    DataError
        There is no data, or statistics are not finite.
    RunError, RunTimeoutError
        The runtime can't run the network.
    """
    model = load(original)
    outputs = _probe(model, places)
    with scratch_folder() as folder:
        path = folder / "probed.onnx"
        with stage(model, path) as staged:
            staged.commit()
        network = build_network(load(path), assume_constant=True)
        probes = {node.out.name: node for node in network.nodes() if node.outputs}
        nodes = [probes[name] for name in outputs]
        layers = [SharedStatistics([node], (node.operand(3), node.operand(4))) for node in nodes]
        options = RecalibrateOptions(timeout=timeout)
        return estimate(path, layers, data, options, progress, summed=True)


def _probe(model: Model, places: Sequence[UnfoldPlace]) -> list[str]:
    """Put a BatchNormalization that nobody reads behind every place; return what these make."""
    names = Names(model)
    nodes = dict(enumerate(gs_nodes(model)))
    homes = {id(node): graph for graph in all_graphs(model) for node in graph.nodes}
    made = []
    for place in places:
        maker = nodes[place.maker]
        home = homes[id(maker)]
        x: gs.Tensor = next(tensor for tensor in maker.outputs if tensor.name == place.output)
        data_type = place.data_type
        if data_type in HALF_PRECISION:  # in which sums would overflow, and variances too
            data_type = TensorProto.FLOAT
            x = added(home, names, "probe/Cast", [x], to=data_type)
        if place.is_channels_last:
            rank = place.rank or 0
            x = added(home, names, "probe/Transpose", [x], perm=[0, rank - 1, *range(1, rank - 1)])
        dtype = NUMPY_DTYPES[data_type]
        inputs = [
            make_constant(
                names.fresh(f"{place.output}/{what}"),
                ArrayTensor(np.full(place.channels, value, dtype)),
            )
            for what, value in (("scale", 1), ("B", 0), ("mean", 0), ("var", 1))
        ]
        made.append(added(home, names, "probe/BatchNormalization", [x, *inputs]).name)
    return made
