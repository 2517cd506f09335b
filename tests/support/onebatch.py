"""All data as one batch, in float64 and in no other way: what a recalibration is held to."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from normswap.proof.arbiter.evaluator import SETTINGS, Settings
from normswap.proof.arbiter.task import evaluator_of


def statistics_of_one_batch(model, feeds, nodes=None):
    """Return mean and variance of the batch, by the name of the node, of a model of opset 14 on.

    Every normalization of the main graph (or those that are named) is put in training mode, with
    momentum 0, so that its running statistics are those of the batch.
    """
    training = onnx.ModelProto()
    training.CopyFrom(model)
    found = {}
    for node in training.graph.node:
        if node.op_type != "BatchNormalization" or (nodes and node.name not in nodes):
            continue
        kept = [a for a in node.attribute if a.name not in ("training_mode", "momentum")]
        del node.attribute[:], node.output[1:]
        node.attribute.extend(kept)
        node.attribute.append(helper.make_attribute("training_mode", 1))
        node.attribute.append(helper.make_attribute("momentum", 0.0))
        node.output.extend([f"{node.name}/one_mean", f"{node.name}/one_var"])
        found[node.name] = list(node.output[1:])
    names = [name for pair in found.values() for name in pair]
    training.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in names
    )
    SETTINGS.set(Settings())
    wide = {
        name: value.astype(np.float64) if value.dtype.kind == "f" else value
        for name, value in feeds.items()
    }
    values = dict(zip(names, evaluator_of(training).run(names, wide), strict=True))
    return {node: tuple(values[name] for name in pair) for node, pair in found.items()}


def stored_statistics(model):
    """Return mean and variance, by the name of the node, as a model has them in its main graph."""
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        node.name: tuple(values[name].astype(np.float64) for name in node.input[3:5])
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
    }


def distance_to(model, truth):
    """Return how far statistics are off: means in deviations, variances relatively."""
    found = stored_statistics(model)
    assert found.keys() == truth.keys()
    far = 0.0
    for name, (mean, var) in truth.items():
        spread = np.sqrt(var + 1e-12)
        far = max(far, float(np.abs((found[name][0] - mean) / spread).max()))
        far = max(far, float(np.abs(found[name][1] / (var + 1e-12) - 1).max()))
    return far
