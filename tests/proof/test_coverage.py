"""Limits, branches and operands that no usual input reaches: driven, or named."""

import numpy as np
import onnx
import pytest
from onnx import parser
from support.check_models import save
from support.inprocess import check_here

from normswap.check.driving import DRIVES, note, plan
from normswap.check.options import CheckOptions
from normswap.inputs.random import make_case
from normswap.inputs.signature import read_signature
from normswap.proof.arbiter.evaluator import SETTINGS, Float64Evaluator, Settings
from normswap.proof.coverage import Coverage, Unseen, has_kinks, varying


def parsed(body, *, inputs="float[2,3] x", outputs="float[2,3] y", opset=17, functions=""):
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "example" : 1]>'
    return parser.parse_model(f"{head} g ({inputs}) => ({outputs}) {{ {body} }} {functions}")


IF = """
    s = ReduceSum <keepdims = 0> (x)
    t = Constant <value = float {%s}> ()
    c = Greater (s, t)
    y = If (c) <
        then_branch = a () => (float[2,3] u) {
            w = Constant <value = float {%g}> () u = Mul (x, w)
        },
        else_branch = b () => (float[2,3] v) {
            w2 = Constant <value = float {2}> () v = Mul (x, w2)
        }
    >
"""

FUNCTION = """
    <domain: "example", opset_import: ["" : 17]>
    f (x) => (y) { lo = Constant <value = float {0}> () hi = Constant <value = float {%g}> ()
                   y = Clip (x, lo, hi) }
"""

LOOP = """
    n = Constant <value = int64 {2}> ()
    go = Constant <value = bool {1}> ()
    y = Loop (n, go, x) < body = b (int64 i, bool g, float[2,3] p) => (bool h, float[2,3] q) {
        h = Identity (g)
        hi = Constant <value = float {%g}> ()
        q = Min (p, hi)
    } >
"""


def integers(body):
    constant = "k = Constant <value = int32 {1000003}> ()"
    return parsed(f"{constant} {body}", inputs="int32[2,3] x", outputs="int32[2,3] y")


def clip(low, high):
    return parsed(
        f"lo = Constant <value = float {{{low}}}> () hi = Constant <value = float {{{high}}}> () "
        "y = Clip (x, lo, hi)"
    )


HIDDEN = {
    "a limit": (clip(0, 6), parsed("y = Relu (x)")),
    "a limit below": (clip(-5, 6), clip(-7, 6)),
    "a limit before opset 11": (
        parsed("y = Clip <min = 0.0, max = 6.0> (x)", opset=10),
        parsed("y = Clip <min = 0.0, max = 7.0> (x)", opset=10),
    ),
    "a limit that is Min": (
        parsed("h = Constant <value = float {6}> () y = Min (x, h)"),
        parsed("y = Identity (x)"),
    ),
    "HardSwish": (
        parsed("y = HardSwish (x)"),
        parsed(
            "a = Constant <value = float {0.16666667}> () b = Constant <value = float {0.5}> () "
            "m = Mul (x, a) n = Add (m, b) z = Constant <value = float {0}> () p = Max (n, z) "
            "y = Mul (x, p)"
        ),
    ),
    "a quantization's end": (
        parsed(
            "s = Constant <value = float {0.05}> () z = Constant <value = uint8 {0}> () "
            "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)"
        ),
        parsed(
            "s = Constant <value = float {0.05}> () z = Constant <value = uint8 {0}> () "
            "h = Constant <value = float {11}> () r = Min (x, h) "
            "q = QuantizeLinear (r, s, z) y = DequantizeLinear (q, s, z)"
        ),
    ),
    "a branch": (parsed(IF % (30, 1)), parsed(IF % (30, 1.5))),
    "a branch below": (
        parsed((IF % (-30, 1)).replace("Greater", "Less")),
        parsed((IF % (-30, 1.5)).replace("Greater", "Less")),
    ),
    "an arm of Min": tuple(
        parsed(
            f"w = Constant <value = float[3] {{-1, -1, {w}}}> () m = Mul (x, w) "
            "c = Constant <value = float {6}> () p = Add (m, c) y = Min (x, p)"
        )
        for w in (-1, -1.1)
    ),
    "an arm of Where": tuple(
        parsed(
            f"t = Constant <value = float {{5}}> () c = Greater (x, t) "
            f"w = Constant <value = float {{{w}}}> () m = Mul (x, w) y = Where (c, m, x)"
        )
        for w in (2, 3)
    ),
    "in a function": tuple(
        parsed("y = example.f (x)", functions=FUNCTION % limit) for limit in (6, 8)
    ),
    "in a Loop": (parsed(LOOP % 6), parsed(LOOP % 9)),
    "a slope far out": tuple(
        parsed(
            "c = Constant <value = float {20}> () a = Sub (x, c) "
            f"w = Constant <value = float {{0.1}}> () y = {last}"
        )
        for last in ("LeakyRelu <alpha = 0.1> (a)", "Mul (a, w)")
    ),
    "a flag": tuple(
        parsed(
            "y = If (flag) < then_branch = a () => (float[2,3] u) { u = Neg (x) }, "
            f"else_branch = b () => (float[2,3] v) {{ v = {other} (x) }} >",
            inputs="float[2,3] x, bool flag",
        )
        for other in ("Relu", "Abs")
    ),
    "another flag": tuple(
        parsed(
            f"y = If (flag) < then_branch = a () => (float[2,3] u) {{ u = {other} (x) }}, "
            "else_branch = b () => (float[2,3] v) { v = Neg (x) } >",
            inputs="float[2,3] x, bool flag",
        )
        for other in ("Relu", "Abs")
    ),
}

HIDDEN["a product that wraps around"] = (
    integers("p = Mul (x, k) y = Div (p, k)"),
    integers("y = Identity (x)"),
)
HIDDEN["a quotient that is rounded towards 0"] = (
    integers("y = Div (x, k)"),
    integers(
        "a = Cast <to = 11> (x) b = Cast <to = 11> (k) q = Div (a, b) f = Floor (q) "
        "y = Cast <to = 6> (f)"
    ),
)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", HIDDEN)
def test_what_shows_beyond_the_usual_inputs_only_is_found(tmp_path, name, seed):
    paths = [save(tmp_path / f"{i}.onnx", made) for i, made in enumerate(HIDDEN[name])]
    assert check_here(*paths[:: 1 - 2 * seed], seed=seed).verdict == "different"


@pytest.mark.parametrize("name", HIDDEN)
def test_a_model_is_equivalent_to_itself_on_all_that_it_is_driven_with(tmp_path, name):
    path = save(tmp_path / "m.onnx", HIDDEN[name][0])
    assert check_here(path, path).verdict == "equivalent"


NARROW = """
    lo = Constant <value = float {{500}}> () hi = Constant <value = float {{500.001}}> ()
    s = ReduceSum <keepdims = 0> (x)
    above = Greater (s, lo) below = Less (s, hi) c = And (above, below)
    y = If (c) <
        then_branch = a () => (float[2,3] u) {{ u = {} (x) }},
        else_branch = b () => (float[2,3] v) {{ v = Neg (x) }}
    >
"""


def test_what_nothing_reaches_is_named(tmp_path):
    one, other = (
        save(tmp_path / f"{op}.onnx", parsed(NARROW.format(op))) for op in ("Relu", "Abs")
    )
    report = check_here(one, other)
    assert report.verdict == "equivalent"
    assert report.notes == ("not tested: no input took the then-branch of If y",)
    full = check_here(one, other, depth="full")
    assert "no input took the then-branch of If y" in " ".join(full.notes)


def test_what_is_in_the_second_model_only_is_driven_and_named_too(tmp_path):
    one = save(tmp_path / "a.onnx", parsed("y = Identity (x)"))
    far = save(tmp_path / "b.onnx", clip(-1e9, 1e9))
    report = check_here(one, far)
    assert report.verdict == "equivalent"
    (note,) = report.notes
    assert "no input reached the limit 1e+09 of Clip y" in note
    assert "no input reached the limit -1e+09 of Clip y" in note
    assert check_here(one, save(tmp_path / "c.onnx", clip(-1e9, 40))).verdict == "different"


def test_a_person_s_data_is_not_added_to_but_what_it_misses_is_named(tmp_path):
    one = save(tmp_path / "a.onnx", clip(0, 6))
    np.savez(tmp_path / "d.npz", x=np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3))
    report = check_here(one, one, data=tmp_path / "d.npz")
    assert len(report.cases) == 1
    assert report.notes[0].startswith("not tested: no input reached the limit 6 of Clip y")


def test_a_person_s_range_is_kept(tmp_path):
    one = save(tmp_path / "a.onnx", clip(0, 6))
    report = check_here(one, one, value_ranges={"x": (0.0, 1.0)})
    for case in report.inputs:
        assert 0 <= case.feeds["x"].min() <= case.feeds["x"].max() <= 1
    assert "no input reached the limit 6 of Clip y" in report.notes[0]


def test_a_model_whose_sides_are_all_reached_gets_no_further_input(tmp_path):
    made = parsed("y = Relu (x)", inputs="float[N,3] x", outputs="float[N,3] y")
    path = save(tmp_path / "m.onnx", made)
    report = check_here(path, path)
    assert len(report.cases) == 3
    assert report.notes == ()


def test_the_inputs_are_the_same_for_the_same_seed(tmp_path):
    path = save(tmp_path / "m.onnx", clip(0, 6))
    one, again, other = (check_here(path, path, seed=seed) for seed in (3, 3, 4))
    assert [c.name for c in one.inputs] == [c.name for c in again.inputs]
    for a, b in zip(one.inputs, again.inputs, strict=True):
        np.testing.assert_array_equal(a.feeds["x"], b.feeds["x"])
    assert not np.array_equal(one.inputs[0].feeds["x"], other.inputs[0].feeds["x"])


def covered(made, *values):
    SETTINGS.set(Settings(coverage=Coverage.of(made)))
    evaluator = Float64Evaluator(made)
    for value in values:
        evaluator.run(None, {"x": np.asarray(value, np.float64)})
    return [str(item) for item in SETTINGS.get().coverage.unseen()]


def test_sides_are_counted_by_channel():
    made = parsed("y = Relu (x)")
    assert covered(made, [[1, 2, -3], [-1, 2, -3]]) == [
        "no input gave Relu y a value below 0 in 1 of 3 channels",
        "no input gave Relu y a value above 0 in 1 of 3 channels",
    ]
    assert covered(made, [[1, 2, -3], [-1, 2, -3]], [[0, -1, 1]] * 2) == []


def test_a_tie_is_no_side():
    made = parsed("x2 = Neg (x) y = Max (x, x2)")
    assert len(covered(made, np.zeros((2, 3)))) == 2
    assert covered(made, [[1, 1, 1], [-1, -1, -1]]) == []


def test_what_depends_on_shapes_alone_is_not_counted():
    made = parsed(
        "s = Shape (x) z = Constant <value = int64 {0}> () c = Equal (s, z) "
        "o = Constant <value = int64[2] {2, 3}> () t = Where (c, o, s) y = Reshape (x, t)"
    )
    assert covered(made, np.ones((2, 3))) == []
    assert "t" not in varying(made)
    assert "t" in varying(made, shapes=True)


def test_names_say_where_a_node_is():
    inside = covered(parsed(LOOP % 6), np.ones((2, 3)))
    assert inside == ["no value of Min q in Loop y came from its input hi"]
    (only,) = covered(parsed("y = example.f (x)", functions=FUNCTION % 6), [[-1, 1, 2]] * 2)[:1]
    assert only == "no input reached the limit 6 of Clip y in f y"


def test_an_initializer_of_a_branch_hides_what_has_its_name_outside():
    made = parsed(IF % (30, 1))
    then = next(a.g for a in made.graph.node[3].attribute if a.name == "then_branch")
    del then.node[0]
    then.initializer.append(onnx.numpy_helper.from_array(np.float32(5), "t"))
    then.node[0].input[1] = "t"
    SETTINGS.set(Settings())
    (y,) = Float64Evaluator(made).run(None, {"x": np.full((2, 3), 10.0)})
    np.testing.assert_array_equal(y, 50.0)


def test_a_note_is_bounded():
    many = [Unseen(f"side {i}") for i in range(20)]
    partly = [Unseen(f"part {i}", 1, 4) for i in range(9)]
    (text,) = note([*partly, *many])
    assert text.count("side") == 8
    assert "part" not in text
    assert text.endswith("and 12 more")
    assert note([*partly, many[0], many[0]]) == ["not tested: side 0"]
    assert note([]) == note(partly) == []


def test_the_work_of_driving_is_bounded(tmp_path):
    def of(side):
        weight = f"w = Constant <value = float[4,3,1,1] {{{', '.join(['1'] * 12)}}}> ()"
        made = parsed(
            f"{weight} y = Conv (x, w)", inputs=f"float[1,3,{side},{side}] x", outputs="float y"
        )
        signature = read_signature(save(tmp_path / f"{side}.onnx", made))
        case = make_case(signature, {"x": (1, 3, side, side)}, DRIVES[0], seed=0, ranges={})
        return plan(signature, CheckOptions(), case)

    small, large = of(8), of(4096)
    assert len(small.cases) == len(DRIVES)
    assert small.channels
    assert not large.channels
    assert large.cases[0].shapes()["x"][-1] < 4096


def test_what_has_kinks():
    assert has_kinks(parsed(LOOP % 1).graph)
    assert not has_kinks(parsed("e = Exp (x) y = Add (e, e)").graph)


@pytest.mark.parametrize("limit", [1e37, 3.4028235e38])
def test_a_limit_is_none_where_the_type_ends(limit):
    made = clip(-limit, limit)
    coverage = Coverage.of(made)
    x = np.zeros((2, 3))
    coverage.see(made.graph.node[-1], [x, np.array(-limit), np.array(limit)], [x])
    assert len(coverage.unseen()) == (2 if limit < 1e38 else 0)


def test_integers_are_large_only_where_nothing_has_their_size(tmp_path):
    def drawn(body):
        made = parsed(body, inputs="int64[1] n", outputs="int64[m] y")
        signature = read_signature(save(tmp_path / "n.onnx", made))
        case = make_case(signature, {"n": (1,)}, DRIVES[0], seed=0, ranges={})
        return [
            np.abs(case.feeds["n"]).max() for case in plan(signature, CheckOptions(), case).cases
        ]

    assert max(drawn("y = Add (n, n)")) > 2**40
    grown = "s = Add (n, n) o = Constant <value = int64[1] {1}> () y = Expand (o, s)"
    assert max(drawn(grown)) < 2**20
