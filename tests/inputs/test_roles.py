"""Inputs that are an axis, a size, an index, a divisor ...: what is drawn must be what runs."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import parser
from support.check_models import save
from support.inprocess import check_here

from normswap.check.driving import DRIVES
from normswap.inputs.dims import RequestedSizes, solve
from normswap.inputs.random import Distribution, Draw, make_case
from normswap.inputs.roles import Allowed, Known, allowed
from normswap.inputs.signature import read_signature


def parsed(inputs, outputs, body, opset=17, functions=""):
    head = (
        f'<ir_version: 8, opset_import: ["" : {opset}, "ai.onnx.ml" : 3, "example" : 1]>'
        f" g ({inputs}) => ({outputs})"
    )
    return parser.parse_model(f"{head} {{ {body} }} {functions}")


X = "float[2,3,4] x"
Y = "float y"

MODELS = {
    # An axis.
    "CumSum": (f"{X}, int64 axis", Y, "y = CumSum (x, axis)"),
    "ReduceSum": (f"{X}, int64[2] axes", Y, "y = ReduceSum (x, axes)"),
    "ReduceMax": (f"{X}, int64[2] axes", Y, "y = ReduceMax (x, axes)", 18),
    "Squeeze": ("float[2,1,3,1] x, int64[2] axes", Y, "y = Squeeze (x, axes)"),
    "Unsqueeze": (f"{X}, int64[2] axes", Y, "y = Unsqueeze (x, axes)"),
    # A size.
    "Expand": ("float[3,1] x, int64[3] size", Y, "y = Expand (x, size)"),
    "Reshape": (f"{X}, int64[3] size", Y, "y = Reshape (x, size)"),
    "Reshape to fewer": (f"{X}, int64[2] size", Y, "y = Reshape (x, size)"),
    "Reshape to more": (f"{X}, int64[5] size", Y, "y = Reshape (x, size)"),
    "Reshape to what is declared": (f"{X}, int64[2] size", "float[8,3] y", "y = Reshape (x, size)"),
    "Tile": (f"{X}, int64[3] n", Y, "y = Tile (x, n)"),
    "ConstantOfShape": ("int64[3] size", Y, "y = ConstantOfShape (size)"),
    "Range": (
        "int64 from, int64 to, int64 by",
        "int64 y",
        "y = Range (from, to, by)",
    ),
    "TopK": (f"{X}, int64[1] k", f"{Y}, int64 i", "y, i = TopK (x, k)"),
    "OneHot": ("int64[4] i, int64 n, float[2] v", Y, "y = OneHot (i, n, v)"),
    "Resize by sizes": ("float[1,2,6,6] x, int64[4] n", Y, 'y = Resize <mode="linear"> (x, , , n)'),
    "Resize by scales": ("float[1,2,6,6] x, float[4] n", Y, 'y = Resize <mode="cubic"> (x, , n)'),
    "Resize at opset 10": (
        "float[1,2,6,6] x, float[4] n",
        Y,
        'y = Resize <mode="linear"> (x, n)',
        10,
    ),
    "Upsample": ("float[1,2,6,6] x, float[4] n", Y, "y = Upsample (x, n)", 9),
    "Split": (f"{X}, int64[2] n", f"{Y}, float z", "y, z = Split <axis=2> (x, n)"),
    "Pad": (f"{X}, int64[6] n", Y, 'y = Pad <mode="reflect"> (x, n)'),
    "CenterCropPad": (f"{X}, int64[3] n", Y, "y = CenterCropPad (x, n)", 18),
    "AffineGrid": ("float[2,2,3] t, int64[4] n", Y, "y = AffineGrid (t, n)", 20),
    "Trilu": (f"{X}, int64 k", Y, "y = Trilu (x, k)"),
    "Col2Im": ("float[1,6,10] x, int64[2] i, int64[2] b", Y, "y = Col2Im (x, i, b)", 18),
    "HannWindow": ("int64 n", Y, "y = HannWindow (n)"),
    "DFT": ("float[2,9,1] x, int64 n", Y, "y = DFT <axis=1> (x, n)"),
    "STFT": ("float[1,64,1] x, int64 n, float[16] w", Y, "y = STFT (x, n, w)"),
    "MelWeightMatrix": (
        "int64 a, int64 b, int64 c, float d, float e",
        Y,
        "y = MelWeightMatrix (a, b, c, d, e)",
    ),
    "MaxUnpool": (
        "float[1,1,2,2] x, int64[1,1,2,2] i, int64[4] n",
        Y,
        "y = MaxUnpool <kernel_shape=[2,2], strides=[2,2]> (x, i, n)",
    ),
    # An index.
    "Gather": (f"{X}, int64[5] i", Y, "y = Gather <axis=1> (x, i)"),
    "GatherElements": (f"{X}, int64[2,2,4] i", Y, "y = GatherElements <axis=1> (x, i)"),
    "GatherND": (f"{X}, int64[5,2] i", Y, "y = GatherND (x, i)"),
    "GatherND of batches": (f"{X}, int64[2,5,1] i", Y, "y = GatherND <batch_dims=1> (x, i)"),
    "ScatterElements": (
        f"{X}, int64[2,2,4] i, float[2,2,4] u",
        Y,
        "y = ScatterElements <axis=1> (x, i, u)",
    ),
    "ScatterND": (f"{X}, int64[5,2] i, float[5,4] u", Y, "y = ScatterND (x, i, u)"),
    "SoftmaxCrossEntropyLoss": (
        "float[6,5] x, int64[6] i",
        Y,
        "y = SoftmaxCrossEntropyLoss (x, i)",
    ),
    "NegativeLogLikelihoodLoss": (
        "float[2,5,3] x, int32[2,3] i",
        Y,
        "y = NegativeLogLikelihoodLoss (x, i)",
    ),
    "ArrayFeatureExtractor": (
        "float[3,5] x, int64[2] i",
        Y,
        "y = ai.onnx.ml.ArrayFeatureExtractor (x, i)",
    ),
    "Slice": (
        f"{X}, int64[2] a, int64[2] b, int64[2] c, int64[2] d",
        Y,
        "y = Slice (x, a, b, c, d)",
    ),
    "SequenceAt": ("seq(float[2]) s, int64 i", Y, "y = SequenceAt (s, i)"),
    "Compress": (f"{X}, bool[3] f", Y, "y = Compress <axis=1> (x, f)"),
    "ReverseSequence": ("float[4,3] x, int64[3] n", Y, "y = ReverseSequence (x, n)"),
    "RNN": (
        "float[5,2,3] x, float[1,4,3] w, float[1,4,4] r, int32[2] n",
        "float z, float y",
        "z, y = RNN <hidden_size=4> (x, w, r, , n)",
    ),
    "RoiAlign": (
        "float[2,3,8,8] x, float[4,4] r, int64[4] i",
        Y,
        "y = RoiAlign <output_height=2, output_width=2> (x, r, i)",
    ),
    "NonMaxSuppression": (
        "float[1,6,4] b, float[1,2,6] s, int64[1] n, float[1] u, float[1] t",
        "int64 y",
        "y = NonMaxSuppression (b, s, n, u, t)",
    ),
    # Arithmetic.
    "Div": ("int64[9] a, int64[9] b", "int64 y", "y = Div (a, b)"),
    "Mod": ("int32[9] a, int32[9] b", "int32 y", "y = Mod (a, b)"),
    "Div of bytes": ("uint8[999] a, uint8[999] b", "uint8 y", "y = Div (a, b)"),
    "BitShift": ("uint8[9] a, uint8[9] b", "uint8 y", 'y = BitShift <direction="LEFT"> (a, b)'),
    "Pow": ("float[9] a, int64[9] b", Y, "y = Pow (a, b)"),
    "QuantizeLinear": (f"{X}, float s", "uint8 y", "y = QuantizeLinear (x, s)"),
    "BatchNormalization": (
        f"{X}, float[3] s, float[3] b, float[3] m, float[3] v",
        Y,
        "y = BatchNormalization (x, s, b, m, v)",
    ),
    "Cast of strings": ("string[3] x", Y, "y = Cast <to=1> (x)"),
    # Control flow.
    "If": (
        f"bool c, {X}",
        Y,
        (
            "y = If (c) <then_branch = a () => (float u) { u = Neg (x) }, "
            "else_branch = b () => (float v) { v = Abs (x) }>"
        ),
    ),
    "Loop": (
        f"int64 n, bool c, {X}",
        Y,
        (
            "y = Loop (n, c, x) <body = b (int64 i, bool g, float p) => (bool h, float q) "
            "{ h = Identity (g) q = Add (p, p) }>"
        ),
    ),
    # On the way there.
    "through a Cast": (f"{X}, int32 axis", Y, "a = Cast <to=7> (axis) y = CumSum (x, a)"),
    "through a Concat": (
        f"{X}, int64[1] i, int64[1] j",
        Y,
        "a = Concat <axis=0> (i, j) y = Gather <axis=1> (x, a)",
    ),
    "into a branch": (
        f"bool c, {X}, int64[2] i",
        Y,
        (
            "y = If (c) <then_branch = a () => (float u) { u = Gather <axis=1> (x, i) }, "
            "else_branch = b () => (float v) { v = Gather <axis=2> (x, i) }>"
        ),
    ),
    "into a Loop": (
        f"{X}, int64 axis",
        Y,
        (
            "n = Constant <value = int64 {2}> () c = Constant <value = bool {1}> () "
            "y, z = Loop (n, c, x, axis) "
            "<body = b (int64 i, bool g, float p, int64 k) => (bool h, float q, int64 m) "
            "{ h = Identity (g) q = CumSum (p, k) m = Identity (k) }>"
        ),
    ),
    "into a function": (
        f"{X}, int64[2] i",
        Y,
        "y = example.f (x, i)",
        17,
        (
            '<domain: "example", opset_import: ["" : 17]> f (a, b) => (c) '
            "{ d = Identity (b) c = Gather <axis=1> (a, d) }"
        ),
    ),
}


def saved(tmp_path, name):
    return save(tmp_path / "m.onnx", parsed(*MODELS[name]))


def drawn(path, seed, draw):
    signature = read_signature(path)
    shapes = solve(signature, RequestedSizes({}, {}), batch=2)
    return make_case(signature, shapes, draw, seed=seed, ranges={})


@pytest.mark.parametrize("name", MODELS)
def test_what_is_drawn_runs(tmp_path, name):
    path = saved(tmp_path, name)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for seed in range(8):
        for draw in (Distribution.NORMAL, Distribution.UNIFORM, *DRIVES[:2]):
            outputs = session.run(None, drawn(path, seed, draw).feeds)
            assert any(np.size(output) for output in outputs)
            assert all(np.isfinite(o).any() for o in outputs if o.dtype.kind == "f" and np.size(o))


VARIED = ["CumSum", "ReduceSum", "Gather", "GatherND", "Div", "BitShift", "If", "Trilu", "TopK"]


@pytest.mark.parametrize("name", VARIED)
def test_more_than_one_value_is_drawn(tmp_path, name):
    path = saved(tmp_path, name)
    kinds = {port.name: port.dtype for port in read_signature(path).inputs}
    (asked,) = [n for n, kind in kinds.items() if not kind.startswith("float")][-1:]
    values = {drawn(path, seed, Distribution.NORMAL).feeds[asked].tobytes() for seed in range(12)}
    assert len(values) > 1


@pytest.mark.parametrize("name", ["ScatterElements", "ScatterND", "MaxUnpool"])
def test_nothing_is_written_twice(tmp_path, name):
    path = saved(tmp_path, name)
    for seed in range(20):
        index = drawn(path, seed, Distribution.NORMAL).feeds["i"]
        if name == "ScatterND":
            assert len({tuple(row) for row in index}) == len(index)
        elif name == "ScatterElements":
            assert all(len(set(line)) == 2 for line in np.moveaxis(index, 1, -1).reshape(-1, 2))
        else:
            assert len(set(index.ravel())) == index.size


def test_a_flag_is_drawn_both_ways(tmp_path):
    path = saved(tmp_path, "If")
    for seed in range(4):
        usual = drawn(path, seed, Distribution.NORMAL).feeds["c"]
        flipped = drawn(path, seed, Draw(Distribution.NORMAL, 8.0, flipped=True)).feeds["c"]
        assert usual != flipped


def test_what_two_operators_ask_holds_at_once(tmp_path):
    made = parsed(
        "float[3,9] x, int64[4] i",
        "float y, float z",
        "y = Gather <axis=0> (x, i) z = Gather <axis=1> (x, i)",
    )
    signature = read_signature(save(tmp_path / "m.onnx", made))
    known = Known.of(signature, {"x": (3, 9), "i": (4,)})
    found = allowed(signature.semantics["i"], (4,), known, np.random.default_rng(0))
    assert (found.low, found.high) == (0, 2)


def test_what_cannot_hold_at_once_keeps_the_first():
    assert Allowed(0, 2).and_also(Allowed(5, 9)) == Allowed(0, 2)


def test_where_the_rank_is_unknown_the_safe_value_is_drawn(tmp_path):
    made = parsed(
        "float[2,3] x, int64[2] s, int64[4] i", "float y", "r = Reshape (x, s) y = Gather (r, i)"
    )
    feeds = drawn(save(tmp_path / "m.onnx", made), 0, Distribution.NORMAL).feeds
    assert feeds["i"].max() < feeds["s"][0]


UNDEFINED = {
    "Acosh": "y = Acosh (x)",
    "Acos": "y = Acos (x)",
    "Asin": "y = Asin (x)",
    "Atanh": "y = Atanh (x)",
    "Log": "y = Log (x)",
    "Sqrt": "y = Sqrt (x)",
    "Sqrt of the negative": "n = Neg (x) y = Sqrt (n)",
    "Log of more than 5": "c = Constant <value = float {5}> () d = Sub (x, c) y = Log (d)",
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", UNDEFINED)
def test_a_function_is_compared_where_it_is_defined(tmp_path, name, seed):
    body = UNDEFINED[name]
    path = save(tmp_path / "m.onnx", parsed("float[2,3] x", Y, body))
    twice = body.replace("y =", "o =") + " w = Constant <value = float {1.001}> () y = Mul (o, w)"
    other = save(tmp_path / "o.onnx", parsed("float[2,3] x", Y, twice))
    report = check_here(path, path, seed=seed)
    assert report.verdict == "equivalent"
    assert report.reasons == ()
    assert check_here(path, other, seed=seed).verdict == "different"


def test_nan_in_other_places_is_a_difference(tmp_path):
    one = save(tmp_path / "a.onnx", parsed("float[2,3] x", Y, "y = Log (x)"))
    body = "c = Constant <value = float {0.3}> () d = Max (x, c) y = Log (d)"
    other = save(tmp_path / "b.onnx", parsed("float[2,3] x", Y, body))
    assert check_here(one, other).verdict == "different"


def test_an_output_that_is_never_a_number_stays_inconclusive(tmp_path):
    body = "a = Abs (x) n = Neg (a) c = Constant <value = float {1}> () d = Sub (n, c) y = Sqrt (d)"
    path = save(tmp_path / "m.onnx", parsed("float[2,3] x", Y, body))
    report = check_here(path, path)
    assert report.verdict == "inconclusive"
    assert "NaN" in report.reasons[0]


@pytest.mark.parametrize(
    "name", ["BitShift", "CumSum", "Expand", "SoftmaxCrossEntropyLoss", "Div of bytes", "Compress"]
)
def test_a_model_is_equivalent_to_itself(tmp_path, name):
    path = saved(tmp_path, name)
    for seed in range(2):
        assert check_here(path, path, seed=seed).verdict == "equivalent"


def test_an_output_that_is_the_same_on_the_usual_inputs_is_looked_for_on_others(tmp_path):
    body = "c = Constant <value = float {50}> () y = Greater (x, c)"
    path = save(tmp_path / "m.onnx", parsed("float[2,3] x", "bool y", body))
    report = check_here(path, path)
    assert report.verdict == "equivalent"
    assert len(report.cases) > 2


@pytest.mark.parametrize("op", ["IsNaN", "IsInf"])
def test_what_is_no_number_is_drawn_for_those_that_ask_for_it_alone(tmp_path, op):
    path = save(tmp_path / "m.onnx", parsed("float[2,5] x", "bool y", f"y = {op} (x)", 20))
    assert not np.isfinite(drawn(path, 0, Distribution.NORMAL).feeds["x"]).all()
    assert check_here(path, path).verdict == "equivalent"
    made = parsed("float[2,5] x", "bool y, float z", f"y = {op} (x) z = Neg (x)", 20)
    path = save(tmp_path / "b.onnx", made)
    assert np.isfinite(drawn(path, 0, Distribution.NORMAL).feeds["x"]).all()


def test_an_output_that_depends_on_sizes_alone_is_compared_all_the_same(tmp_path):
    path = save(tmp_path / "m.onnx", parsed("int64[2] n", "float y", "y = ConstantOfShape (n)"))
    assert check_here(path, path).verdict == "equivalent"


def test_elements_of_a_sequence_are_one_output(tmp_path):
    body = "c = Constant <value = float[3] {1, 1, 1}> () y = SequenceConstruct (c, x)"
    path = save(tmp_path / "m.onnx", parsed("float[3] x", "seq(float[3]) y", body))
    assert check_here(path, path).verdict == "equivalent"


def test_integers_of_no_known_meaning_are_made_small_where_the_model_refuses_them(tmp_path):
    # The sum of two indices: neither is one by itself.
    made = parsed("float[4,3] x, int64[2] i, int64[2] j", Y, "k = Add (i, j) y = Gather (x, k)")
    path = save(tmp_path / "m.onnx", made)
    report = check_here(path, path)
    assert report.verdict == "equivalent"
    assert "integers of" in report.cases[0].name
