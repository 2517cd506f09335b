"""A model in which a tensor is made by nothing, by two nodes, or by itself, is refused."""

import onnx
import pytest
from onnx import parser

from normswap.errors import ModelError
from normswap.graph.build import build_network
from normswap.inputs.signature import read_signature
from normswap.model import load
from normswap.model.scopes import require_made

IF = """
    y = If (c) < then_branch = a () => (float[2] u) {{ {} }},
                 else_branch = b () => (float[2] v) {{ v = Neg (x) }} >
"""
FUNCTION = '<domain: "d", opset_import: ["" : 17]> f (a) => (b) { b = Add (a, x) }'

INVALID = {
    "made twice": ("y = Relu (x) y = Neg (x)", "both Relu y and Neg y make 'y'"),
    "made by nothing": ("y = Add (x, k)", "Add y reads 'k', which nothing makes"),
    "an output of nothing": ("z = Relu (x)", "nothing makes the output 'y'"),
    "made by itself": ("a = Add (x, b) b = Neg (a) y = Relu (b)", "a cycle around Add a"),
    "made by nothing in a body": (IF.format("u = Add (x, k)"), "Add u reads 'k'"),
    "made in the other body": (IF.format("u = Add (x, v)"), "Add u reads 'v'"),
    "made twice in a body": (IF.format("u = Relu (x) u = Neg (x)"), "both Relu u and Neg u"),
    "of the caller": ("y = d.f (x)", "Add b reads 'x'"),
}
VALID = {
    "in another order": "y = Relu (b) b = Neg (a) a = Abs (x)",
    "a name of its own": IF.format("x = Constant <value = float[2] {1, 2}> () u = Neg (x)"),
    "an input as output": "z = Relu (x)",
}


def parsed(body, *, function=""):
    head = '<ir_version: 8, opset_import: ["" : 17, "d" : 1]>'
    return parser.parse_model(
        f"{head} g (float[2] x, bool c) => (float[2] y) {{ {body} }} {function}"
    )


@pytest.mark.parametrize("name", INVALID)
def test_what_is_not_made_once_is_named(tmp_path, name):
    body, words = INVALID[name]
    model = parsed(body, function=FUNCTION if "d.f" in body else "")
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    for read in (lambda path: build_network(load(path)), read_signature):
        with pytest.raises(ModelError, match=r"m\.onnx is not a valid model: .*") as caught:
            read(path)
        assert words in str(caught.value)


@pytest.mark.parametrize("name", VALID)
def test_what_is_made_once_is_read(name):
    model = parsed(VALID[name])
    if name == "an input as output":
        model.graph.output[0].name = "x"
    require_made(model, "m.onnx")
