"""The step ``forms``: the latency of each form of group normalization.

That of a normalization between two depthwise convolutions, less the same network without it. Inputs
and outputs stay on the device. All networks of a row run in turn, round after round; the figure is
the smallest over the rounds, since what disturbs a run only makes it longer.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from benchmarks.cuda.bound import Bound, seconds
from normswap.errors import UsageError
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.surroundings import in_form, small_network

if TYPE_CHECKING:
    from benchmarks.cuda.page import Section

OPSET = 21
EPSILON = 1e-5

# The shape of the input, and the number of groups.
SHAPES: list[tuple[tuple[int, ...], int]] = [
    ((1, 64, 112, 112), 32),
    ((1, 256, 56, 56), 32),
    ((1, 512, 28, 28), 32),
    ((1, 512, 7, 7), 32),
    ((32, 64, 56, 56), 32),
    ((32, 256, 28, 28), 32),
    ((32, 512, 7, 7), 32),
    ((32, 64, 56, 56), 1),
    ((32, 64, 56, 56), 64),
    ((2, 320, 64, 64), 32),
    ((2, 1280, 16, 16), 32),
    ((8, 66, 28, 28), 22),
]
QUICK = [((1, 16, 8, 8), 4)]
ACTIVATIONS = ("", "SiLU")


def run(section: Section, provider: str, rounds: int, *, quick: bool) -> bool:
    """Write a table for every type and activation."""
    names = ["bn", *FORMS]
    wins: Counter[str] = Counter()
    for data_type, title in ((TensorProto.FLOAT, "float32"), (TensorProto.FLOAT16, "float16")):
        for activation in ACTIVATIONS:
            section.text(f"### {title}, {activation or 'no activation'}")
            section.table(["microseconds", *names, "auto is", "fastest precise", "auto / that"])
            for shape, groups in QUICK if quick else SHAPES:
                found, auto = latencies(shape, groups, data_type, activation, provider, rounds)
                forms = {name: found[name] for name in FORMS if name in found}
                precise = [name for name in forms if FORMS[name].is_precise(provider)]
                fastest = min(precise, key=lambda name: forms[name])
                wins[fastest] += 1
                cells = [f"{found[name]:.1f}" if name in found else "" for name in names]
                # Of what is next to nothing no ratio can be told.
                ratio = max(forms[auto], 1.0) / max(forms[fastest], 1.0)
                label = f"{'x'.join(map(str, shape))}, G={groups}"
                section.row([label, *cells, auto, fastest, f"{ratio:.2f}"])
    counted = ", ".join(f"{form} in {count}" for form, count in wins.most_common())
    section.text(
        f"The fastest precise form is {counted} of {sum(wins.values())} rows. Compare within a row "
        "only."
    )
    return True


def latencies(
    shape: tuple[int, ...], groups: int, data_type: int, activation: str, provider: str, rounds: int
) -> tuple[dict[str, float], str]:
    """Return microseconds by form, net of the network around, and what ``auto`` is."""
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    model = network(shape, data_type, activation, normalized=True)
    bare = network(shape, data_type, activation, normalized=False)
    sessions = {
        "": Bound(bare.SerializeToString(), provider, x),
        "bn": Bound(model.SerializeToString(), provider, x),
    }
    auto = ""
    for form in (*FORMS, "auto"):
        try:
            made, auto = in_form(model, groups, form, provider)
        except UsageError:
            continue  # not on this provider
        if form != "auto":
            sessions[form] = Bound(made, provider, x)
    best = {name: float(taken.min()) for name, taken in seconds(sessions, rounds).items()}
    agree(sessions, dtype)
    around = best.pop("")
    return {name: (value - around) * 1e6 for name, value in best.items()}, auto


def network(
    shape: tuple[int, ...], data_type: int, activation: str, *, normalized: bool
) -> ModelProto:
    """Return depthwise convolution, BatchNormalization (or none), activation, convolution."""
    scale, bias = np.random.default_rng(0).normal(size=(2, shape[1]))
    return small_network(
        shape,
        (scale, bias) if normalized else None,
        data_type=data_type,
        opset=OPSET,
        epsilon=EPSILON,
        convolutions=True,
        activation=activation,
    )


def agree(sessions: dict[str, Bound], dtype: np.dtype[Any]) -> None:
    """See to it that all forms that are timed compute the same."""
    results = {n: s.result().astype(np.float64) for n, s in sessions.items() if n in FORMS}
    reference = results["primitive"]
    unit = 2e-2 if dtype == np.float16 else 1e-4
    for name, result in results.items():
        error = np.abs(result - reference).max() / np.abs(reference).max()
        assert error < unit, f"{name} is off by {error:.1e}"
