"""The step ``errors``: how far each form is from float64, on inputs made to be hard."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from benchmarks.cuda.bound import Bound
from benchmarks.cuda.forms import EPSILON, OPSET
from benchmarks.gn_inputs import ACTIVATIONS, affine_of
from normswap.errors import UsageError
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.reference import group_normalization
from normswap.groupnorm.surroundings import in_form, small_network

if TYPE_CHECKING:
    from benchmarks.cuda.page import Section

SHAPE = (2, 64, 32, 32)
GROUPS = 8


def run(section: Section, provider: str) -> bool:
    """Write a table for float32 and one for float16; what they show is for a person to judge."""
    section.text(
        f"The largest error beside float64, of {'x'.join(map(str, SHAPE))} in {GROUPS} groups; "
        "outputs are up to about 10. Inputs are rounded to the type first, and those that it "
        "can't hold are left out."
    )
    for data_type, title in ((TensorProto.FLOAT, "float32"), (TensorProto.FLOAT16, "float16")):
        dtype = helper.tensor_dtype_to_np_dtype(data_type)
        models = _models(provider, data_type)
        section.table([title, *models])
        for name, make in ACTIVATIONS.items():
            with np.errstate(over="ignore"):
                x = make(np.random.default_rng(2), SHAPE).astype(dtype)
            if np.isfinite(x).all():
                section.row([name, *(_error(model, provider, x) for model in models.values())])
    return True


def _models(provider: str, data_type: int) -> dict[str, bytes]:
    network = small_network(
        SHAPE,
        affine_of(SHAPE[1]),
        data_type=data_type,
        opset=OPSET,
        epsilon=EPSILON,
        convolutions=False,
    )
    # The Abs after the node would hide the sign of its result.
    graph = network.graph
    del graph.node[-1]
    graph.node[0].op_type = "Identity"
    graph.node[-1].output[0] = "output"
    found = {}
    for form in FORMS:
        with contextlib.suppress(UsageError):  # not on this provider
            found[form], _ = in_form(network, GROUPS, form, provider)
    return found


def _error(model: bytes, provider: str, x: np.ndarray) -> str:
    session = Bound(model, provider, x)
    session.run()
    scale, bias = (values.astype(x.dtype).astype(np.float64) for values in affine_of(x.shape[1]))
    epsilon = float(np.float32(EPSILON))
    truth = group_normalization(x, scale, bias, num_groups=GROUPS, epsilon=epsilon)
    return f"{np.abs(session.result().astype(np.float64) - truth).max():.1e}"
