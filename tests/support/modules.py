"""A torch module without torch: a small network in NumPy that says what `Module` says."""

from __future__ import annotations

import numpy as np

from normswap.proof.simulate import signature_of
from normswap.source.binding import Argument, NotTakenError
from normswap.source.layers import ELEMENTS, ModuleLayer
from support.build import Builder

IN, HIDDEN, OUT = 6, 24, 4


def _sign(array):
    return signature_of(array, ELEMENTS)


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "fc1.weight": rng.standard_normal((HIDDEN, IN)).astype(np.float32),
        "fc1.bias": rng.standard_normal(HIDDEN).astype(np.float32),
        "fc2.weight": rng.standard_normal((OUT, HIDDEN)).astype(np.float32),
        "fc2.bias": rng.standard_normal(OUT).astype(np.float32),
        "aux.weight": rng.standard_normal((OUT, HIDDEN)).astype(np.float32),
    }


class FakeModule:
    """fc1, relu, and of that fc2 and aux: what `normswap.source.module.Module` is to a check."""

    title, version = "Fake", "0"

    def __init__(self, *, example=None, training=(), named="x", refuses=lambda x: False):
        self.state = weights()
        self.arguments = (Argument(named, example),)
        self._training = training
        self._refuses = refuses

    def weights(self):
        yield from self.state.items()

    def training(self, arrays):
        return self._training

    def outputs(self, arrays, *, moved=0, watch=None):
        (x,) = (np.asarray(array, np.float64) for array in arrays)
        if x.ndim != 2 or x.shape[1] != IN or self._refuses(x):
            raise NotTakenError("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
        w = {name: value.astype(np.float64) for name, value in self.state.items()}
        if moved:
            rng = np.random.default_rng(moved)
            w = {n: v * (1 + 2.0**-24 * rng.uniform(-1, 1, v.shape)) for n, v in w.items()}
        a = self._done(watch, "fc1", x, x @ w["fc1.weight"].T + w["fc1.bias"])
        b = self._done(watch, "act", a, np.maximum(a, 0))
        y = self._done(watch, "fc2", b, b @ w["fc2.weight"].T + w["fc2.bias"])
        return [y, self._done(watch, "aux", b, b @ w["aux.weight"].T)]

    @staticmethod
    def _done(watch, name, x, y):
        if watch is not None:
            key = _sign(y).tobytes()
            read = (_sign(x).tobytes(),)
            watch(ModuleLayer(name, "Linear", read, ((key, y.shape, _sign(y)),)))
        return y


def exported(state=None, *, batch="n", opset=17, drop=False, order=("y", "z"), width=IN):
    """Return the file that an exporter would write of it."""
    state = weights() if state is None else state
    b = Builder(opset)
    x = b.input(batch, width)
    x = b.node("Gemm", x, *constants(b, state, "fc1"), transB=1, name="/fc1/Gemm")
    x = b.node("Relu", x)
    if drop:
        ratio, mode = b.const(np.float32(0.5)), b.const(np.array(True), dtype=bool)
        x = b.node("Dropout", x, ratio, mode, name="/drop/Dropout")
    b.node("Gemm", x, *constants(b, state, "fc2"), transB=1, out="y", name="/fc2/Gemm")
    b.node("Gemm", x, *constants(b, state, "aux"), transB=1, out="z", name="/aux/Gemm")
    for name in order:
        b.output(name, (batch, OUT))
    return b.model()


def constants(b, state, layer):
    names = [name for name in (f"{layer}.weight", f"{layer}.bias") if name in state]
    return [b.const(state[name], name) for name in names]
