"""Which inputs drive what others did not reach."""

import onnx
import onnx.parser
import pytest

from normswap.check import driving
from normswap.inputs.signature import read_signature


@pytest.mark.parametrize("call", ["Expand (x, n)", "d.f (x, n)"])
def test_sizes_that_hang_on_integers_are_known_in_functions_too(tmp_path, call):
    head = '<ir_version: 8, opset_import: ["" : 17, "d" : 1]>'
    body = '<domain: "d", opset_import: ["" : 17]> f (a, s) => (b) { b = Expand (a, s) }'
    text = f"{head} g (float[1] x, int64[2] n) => (float[a, b] y) {{ y = {call} }} {body}"
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    assert not driving._is_bounded(read_signature(path))
