"""Every operator that is evaluated, at every opset at which it changed, against the runtime.

The registry is what is accepted, and each of its entries is drawn here; `DRAWN` is a modest number
for every run of the tests, ``python -m benchmarks.reference_errors`` draws as many as it is told.
"""

import zlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.draws.case import RefusedError, apart, drawn, load, truth
from support.draws.evaluators import arbiter, constant, reference
from support.draws.simple import reals
from support.reference_errors import VERSION
from support.reference_table import WRONG

from normswap.graph.evaluate import EVALUABLE
from normswap.proof.arbiter.evaluator import SETTINGS, Float64Evaluator, Settings
from normswap.proof.arbiter.nodes import NotKnownError
from normswap.semantics.registry import meaning_of, meanings, since_version

DRAWN = 4
ENTRIES = [
    (domain, name, since)
    for (domain, name), meaning in sorted(meanings().items())
    for since in sorted(meaning.since)
]


def name_of(entry):
    domain, name, since = entry
    return f"{domain}{'.' if domain else ''}{name}-{since}"


def agrees(evaluator, case, right):
    try:
        return apart(evaluator(case), right, case) is None
    except Exception:  # noqa: BLE001 - whatever the reference raises
        return False


@pytest.mark.parametrize("entry", ENTRIES, ids=name_of)
def test_an_entry_is_what_the_runtime_makes_of_it(entry):
    compared = 0
    for number in range(8 * DRAWN):
        case = drawn(*entry, number)
        try:
            right = truth(case)
        except RefusedError:
            continue
        assert apart(arbiter(case), right, case) is None, (number, case.attributes)
        eighth = case.attributes.get("to") == TensorProto.FLOAT8E4M3FN  # no type of constants
        if case.op in EVALUABLE and not case.domain and not eighth:
            found = constant(case)
            assert apart(found, right, case) is None, (number, case.attributes)
            if not callable(case.modern):
                assert [v.dtype for v in found] == [np.asarray(v).dtype for v in right], number
        if onnx.__version__ == VERSION and not entry[0] and not agrees(reference, case, right):
            known = WRONG.get(entry[1])
            assert known is not None, (number, case.attributes)
            assert entry[2] in known.opsets, (number, case.attributes)
        compared += 1
        if compared == DRAWN:
            break
    assert compared == DRAWN


def test_what_is_accepted_and_what_is_drawn_are_the_same():
    assert set(load()) == set(meanings())


def test_every_entry_is_a_version_at_which_the_operator_changed():
    for domain, name, since in ENTRIES:
        assert since_version(name, domain, since) == since, (domain, name)


# What an implementation need not read: memory of old, types that float64 stands for, sizes that
# the inputs have too, and shares and ranges of what is not evaluated.
PASSED_OVER = {
    *("consumed_inputs", "kernel_shape", "hidden_size", "output_sequence", "stash_type"),
    *("softmax_precision", "precision", "round_mode"),
}
PASSED_OVER_BY = {
    "DequantizeLinear": {"output_dtype"},
    "Dropout": {"ratio"},
    "Gemm": {"broadcast"},
    "QuantizeLinear": {"saturate"},  # of float8, which it refuses
    "SequenceEmpty": {"dtype"},
}


def test_no_attribute_is_passed_over():
    """A new opset may add one to an operator; then it has another meaning."""
    unread = {
        (name, since, attribute)
        for domain, name, since in ENTRIES
        if meanings()[domain, name].function is not None and onnx.defs.has(name, domain)
        for attribute in onnx.defs.get_schema(name, since, domain).attributes
        if attribute not in meanings()[domain, name].attributes | PASSED_OVER
        and attribute not in PASSED_OVER_BY.get(name, ())
    }
    assert unread == set()


def test_the_folding_evaluates_nothing_that_is_not_accepted():
    for name in EVALUABLE:
        assert meanings()["", name].function is not None, name


@pytest.mark.parametrize("seed", range(3))
def test_a_meaning_holds_until_the_next_one(seed):
    """An opset between two changes is the earlier one's, to both evaluators and the runtime."""
    rng = np.random.default_rng(seed)
    domain, name, since = ENTRIES[int(rng.integers(len(ENTRIES)))]
    later = [s for s in range(since, 29) if since_version(name, domain, s) == since]
    assert all(meaning_of(name, domain, s) is meanings()[domain, name] for s in later)


def of_one_node(node, opset, *, domains=()):
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets)


@pytest.mark.parametrize(
    ("op", "domain", "opset"),
    [
        ("Upsample", "", 10),
        ("StringNormalizer", "", 17),
        ("Adam", "ai.onnx.preview.training", 17),
        ("Fancy", "mine", 17),
        ("Scatter", "", 11),
    ],
)
def test_what_is_not_validated_is_not_evaluated(op, domain, opset):
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    SETTINGS.set(Settings())
    with pytest.raises(NotKnownError, match=op):
        Float64Evaluator(of_one_node(node, opset, domains=[domain] if domain else []))
    assert meaning_of(op, domain, opset) is None


def test_a_function_of_the_model_is_known_by_what_it_is_made_of():
    inside = helper.make_node("StringNormalizer", ["a"], ["b"])
    function = helper.make_function(
        "mine", "Fancy", ["a"], ["b"], [inside], [helper.make_opsetid("", 17)]
    )
    made = of_one_node(helper.make_node("Fancy", ["x"], ["y"], domain="mine"), 17, domains=["mine"])
    made.functions.append(function)
    SETTINGS.set(Settings())
    with pytest.raises(NotKnownError, match="StringNormalizer"):
        Float64Evaluator(made)
    function.node[0].op_type = "Neg"
    del made.functions[:]
    made.functions.append(function)
    x = np.array([1.0, -2.0])
    assert Float64Evaluator(made).run(None, {"x": x})[0].tolist() == (-x).tolist()


def test_constants_are_rounded_once_to_their_own_type():
    import ml_dtypes

    rng = np.random.default_rng(zlib.crc32(b"once"))
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        a, b = (np.abs(reals(rng, 500, "float64")).astype(dtype) for _ in range(2))
        from normswap.semantics import constants

        for op, exact in (("Add", np.add), ("Mul", np.multiply), ("Div", np.divide)):
            (found,) = constants.evaluate(op, "", 17, [a, b], {}, 1)
            right = exact(a.astype(np.longdouble), b.astype(np.longdouble)).astype(np.float64)
            assert found.dtype == dtype
            step = np.abs(found.astype(np.float64) - right)
            assert (step <= 0.5001 * np.spacing(np.abs(found)).astype(np.float64)).all(), op


def test_integers_stay_integers():
    from normswap.semantics import constants

    large = np.array([2**62 + 1, -7, 7], np.int64)
    (quotient,) = constants.evaluate("Div", "", 17, [large, np.array([1, 2, -2])], {}, 1)
    assert quotient.tolist() == [2**62 + 1, -3, -3]
    (moved,) = constants.evaluate("Unsqueeze", "", 12, [large], {"axes": [-1, 0]}, 1)
    assert moved.shape == (1, 3, 1)
    assert moved.dtype == np.int64


def test_an_unknown_constant_is_none():
    from normswap.semantics import constants

    assert constants.evaluate("Fancy", "mine", 1, [np.ones(2)], {}, 1) is None
    assert constants.evaluate("Reshape", "", 17, [np.ones(2), np.array([3])], {}, 1) is None
    assert constants.evaluate("Loop", "", 17, [np.ones(2)], {}, 1) is None
    assert onnx.defs.get_schema("Scatter", 11).deprecated
