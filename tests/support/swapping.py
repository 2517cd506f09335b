"""Swap the normalizations of a test model, and run what comes out."""

from __future__ import annotations

import io

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.forms.layernorm import is_precise_on_cpu
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.policy import GroupPolicy
from normswap.model import load, write_to
from support.folding import skipping_what_old_runtimes_refuse


def swap_options(groups=4, **fields):
    policy = fields.pop("policy", None) or GroupPolicy(groups=groups)
    return SwapOptions(policy=policy, **fields)


def swap_model(model, groups=4, **fields):
    """Swap all normalizations; return the new model and the plan."""
    loaded = load(model.SerializeToString())
    plan = plan_swap(loaded, swap_options(groups, **fields))
    apply_swaps(plan, loaded)
    stream = io.BytesIO()
    write_to(loaded, stream)
    result = onnx.load_from_string(stream.getvalue())
    onnx.checker.check_model(result, full_check=True)
    return result, plan


def run_ort(model, *, optimized=True, **feeds):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with skipping_what_old_runtimes_refuse():
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, feeds)


def skip_if_imprecise(form):
    if form == "layernorm" and not is_precise_on_cpu():
        pytest.skip("this onnxruntime computes a LayerNormalization imprecisely")


def ops(model):
    return [node.op_type for node in model.graph.node]


def distance(one, other):
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max())


def tensor_of(model, name, **feeds):
    """Return any tensor of a model, as onnxruntime computes it without optimizations."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    elem_type = model.graph.input[0].type.tensor_type.elem_type
    del tapped.graph.output[:]
    tapped.graph.output.append(onnx.helper.make_tensor_value_info(name, elem_type, None))
    return run_ort(tapped, optimized=False, **feeds)[0]
