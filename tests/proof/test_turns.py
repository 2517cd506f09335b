"""A flat model in float64, its loops turn by turn: the same as onnxruntime makes of the model."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from support.folding import run
from support.proving import proof_of, sides

from normswap.proof.budget import Budget
from normswap.proof.result import Standing
from normswap.proof.simulate import simulate

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x) => ({outs}) '

LOOP = """{
    n = Constant <value = int64 {3}> ()
    c = Constant <value = float {0.5}> ()
    y, z = Loop (n, , x) < body = b (int64 i, bool g, float[2,3] p)
                                    => (bool h, float[2,3] q, float[2,3] s) {
        most = Constant <value = int64 {LAST}> ()
        h = Less (i, most)
        m = Mul (p, c)
        q = Add (m, x)
        s = Relu (q)
    } >
}"""

NESTED = """{
    n = Constant <value = int64 {2}> ()
    y = Loop (n, , x) < body = b (int64 i, bool g, float[2,3] p) => (bool h, float[2,3] q) {
        h = Identity (g)
        f = Cast <to = 1> (i)
        r = Loop (n, g, p) < body = b2 (int64 j, bool k, float[2,3] t) => (bool l, float[2,3] u) {
            l = Identity (k)
            v = Add (t, f)
            u = Mul (v, x)
        } >
        q = Tanh (r)
    } >
}"""

SCAN = """{
    s = Constant <value = float[2] {1.0, -1.0}> ()
    y, z = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
                 scan_output_axes = [1], scan_output_directions = [1],
                 body = b (float[2] a, float[2] e) => (float[2] o, float[2] w) {
        o = Add (a, e)
        w = Mul (o, e)
    }> (s, x)
}"""

BOTH, ONE = "float[2,3] y, float[n,2,3] z", "float[2,3] y"
MODELS = {
    "loop": (BOTH, LOOP.replace("LAST", "9")),
    "loop that ends itself": (BOTH, LOOP.replace("LAST", "1")),
    "nested": (ONE, NESTED),
    "scan": ("float[2] y, float[2,n] z", SCAN),
}


def parsed(kind):
    outs, text = MODELS[kind]
    return onnx.parser.parse_model(HEAD.replace("{outs}", outs) + text)


@pytest.mark.parametrize("kind", MODELS)
def test_bodies_run_as_in_the_runtime(tmp_path, kind):
    model = parsed(kind)
    side, _, feeds = sides(model, model, tmp_path)
    made = simulate(side, feeds, budget=Budget(60))
    wanted = run(model, feeds)
    assert list(made.outputs) == [port.name for port in model.graph.output]
    for value, truth in zip(made.outputs.values(), wanted, strict=True):
        np.testing.assert_allclose(value, truth, rtol=1e-5, atol=1e-6)
    floats = {n for node in side.flat.nodes for n in node.outputs if side.flat.types[n] == 1}
    assert floats <= made.signatures.keys()


def test_what_never_ends_is_left(tmp_path):
    model = onnx.parser.parse_model(
        HEAD.replace("{outs}", ONE + ", float[2,3] w")
        + """{
        on = Constant <value = bool {1}> ()
        y = Loop (, on, x) < body = b (int64 i, bool g, float[2,3] p) => (bool h, float[2,3] q) {
            h = Identity (g)
            q = Tanh (p)
        } >
        w = Relu (x)
    }"""
    )
    side, _, feeds = sides(model, model, tmp_path)
    assert list(simulate(side, feeds, budget=Budget(60)).outputs) == ["w"]


def test_a_fault_in_a_body_shows(tmp_path):
    model = parsed("nested")
    text = HEAD.replace("{outs}", ONE) + NESTED.replace("Mul (v, x)", "Mul (x, w)").replace(
        "v = Add (t, f)", "v = Add (t, f) k2 = Constant <value = float {1.0001}> () w = Mul (v, k2)"
    )
    wrong = onnx.parser.parse_model(text)
    proof = proof_of(model, wrong, tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.APART]
    assert proof.witness.output == "y"
    assert proof.witness.is_plain
