"""Fold a model in memory, and assert that the result is the same function."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from normswap.folding.apply import apply_plan
from normswap.folding.planner import make_plan
from normswap.folding.residual import residuals
from normswap.model import load, write_to

if TYPE_CHECKING:
    from normswap.folding.plan import Plan
    from normswap.graph.reasons import Reason

_ORT = ort.capi.onnxruntime_pybind11_state

TOLERANCE = {
    TensorProto.FLOAT: 3e-6,
    TensorProto.FLOAT16: 6e-3,
    TensorProto.BFLOAT16: 5e-2,
    TensorProto.DOUBLE: 1e-12,
}
"""Largest difference, relative to the largest output."""


def fold_model(model: onnx.ModelProto, **options) -> tuple[onnx.ModelProto, Plan]:
    """Fold a model that is in memory; every constant that is written is as its formula says."""
    loaded = load(model.SerializeToString())
    plan = make_plan(loaded, **options)
    apply_plan(plan, loaded)
    stream = io.BytesIO()
    write_to(loaded, stream)
    written = load(stream.getvalue())
    assert [residual for residual in residuals(loaded, written) if not residual.is_rounding] == []
    return onnx.ModelProto.FromString(stream.getvalue()), plan


def every_node(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from every_node(attribute.g)


def count(model: onnx.ModelProto, op: str = "BatchNormalization") -> int:
    nodes = list(every_node(model.graph))
    for function in model.functions:
        nodes += list(every_node(function))
    return sum(node.op_type == op for node in nodes)


def feeds_for(model: onnx.ModelProto, seed: int = 0, sizes=None):
    """Return random inputs; symbolic dimensions get a size each."""
    rng = np.random.default_rng(seed)
    constant = {tensor.name for tensor in model.graph.initializer}
    sizes = dict(sizes or {})
    feeds = {}
    for info in model.graph.input:
        if info.name in constant:
            continue
        tensor = info.type.tensor_type
        shape = [
            dim.dim_value if dim.HasField("dim_value") else sizes.setdefault(dim.dim_param, 3)
            for dim in tensor.shape.dim
        ]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype == np.bool_:
            feeds[info.name] = rng.integers(0, 2, shape).astype(bool)
        elif dtype.kind in "iu":
            feeds[info.name] = rng.integers(0, 3, shape).astype(dtype)
        else:
            feeds[info.name] = (rng.normal(size=shape) * 2 + 0.5).astype(dtype)
    return feeds


REFUSED = {
    "is under development and support for this is limited": "this onnxruntime is too old for it",
    "Size of X.shape[axis:] must be larger than 1": "this onnxruntime normalizes no single element",
}
"""What older versions of onnxruntime say, and what it means."""


@contextlib.contextmanager
def skipping_what_old_runtimes_refuse():
    try:
        yield
    except (_ORT.Fail, _ORT.InvalidArgument) as error:
        for words, meaning in REFUSED.items():
            if words in str(error):
                pytest.skip(meaning)
        raise


def run(model: onnx.ModelProto, feeds, *, level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL):
    """Run a model in onnxruntime, or in the reference evaluator where that has no kernel."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if any(value.dtype.name == "bfloat16" for value in feeds.values()):
        return ReferenceEvaluator(model).run(None, feeds)  # numpy has no such type for it
    try:
        with skipping_what_old_runtimes_refuse():
            session = ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return session.run(None, feeds)
    except _ORT.NotImplemented:
        return ReferenceEvaluator(model).run(None, feeds)


def assert_same_function(original, folded, *, tolerance=None, sizes=None, seeds=(0, 1)):
    for seed in seeds:
        feeds = feeds_for(original, seed, sizes)
        for want, got, info in zip(
            run(original, feeds), run(folded, feeds), original.graph.output, strict=True
        ):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            bound = tolerance or TOLERANCE.get(info.type.tensor_type.elem_type, 0)
            assert np.isfinite(want).all(), "the test itself must be meaningful"
            error = np.abs(want.astype(np.float64) - got.astype(np.float64)).max(initial=0)
            worst = error / max(np.abs(want.astype(np.float64)).max(initial=0), 1e-30)
            assert worst <= bound, f"{info.name} differs by {worst:.2e} of its largest value"


def assert_same_signature(original, folded):
    constant = {tensor.name for tensor in original.graph.initializer}
    if original.ir_version >= 4:
        constant = set()
    present = {tensor.name for tensor in folded.graph.initializer} if constant else set()
    want = [info for info in original.graph.input if info.name not in constant]
    got = [info for info in folded.graph.input if info.name not in present]
    assert got == want
    assert list(folded.graph.output) == list(original.graph.output)
    assert folded.metadata_props == original.metadata_props
    assert folded.opset_import == original.opset_import


def check_folds(model, *, left=0, op="BatchNormalization", tolerance=None, sizes=None, **options):
    """Assert that a model folds, exactly, and return the folded model and its plan."""
    folded, plan = fold_model(model, **options)
    onnx.checker.check_model(folded, full_check=True)
    assert count(folded, op) == left, [(k.site.node, k.reason, k.detail) for k in plan.kept]
    kept = [entry for entry in plan.kept if entry.site.op == "BatchNormalization"]
    assert len(kept) == count(folded)
    assert_same_signature(model, folded)
    assert_same_function(model, folded, tolerance=tolerance, sizes=sizes)
    again, second = fold_model(folded, **options)
    assert not second.folded
    assert again == folded
    return folded, plan


def check_kept(model, reason: Reason, *, tensor=None, kept=1, **options):
    """Assert that nothing is folded, for one reason, and that the model is left as it was."""
    folded, plan = fold_model(model, **options)
    assert not plan.folded
    assert len(plan.kept) == kept
    for entry in plan.kept:
        reasons = {entry.reason, *(attempt.reason for attempt in entry.attempts)}
        assert reason in reasons, (entry.reason, entry.detail, entry.attempts)
        assert entry.detail
    if tensor is not None:
        assert tensor in {plan.kept[0].tensor, *(a.tensor for a in plan.kept[0].attempts)}
    assert folded == model
    return plan
