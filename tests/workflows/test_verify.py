"""Certificates: written with a proof, made again from the models alone, and never believed."""

import copy
import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder

import normswap
from normswap.check.options import CheckOptions
from normswap.errors import DataError, ExitCode, ModelError, NormswapError, UsageError
from normswap.workflows.certificate import digest_of

C = 4


def network():
    """Return a model of which two normalizations fold and one is kept."""
    b = Builder(17)
    x = b.bn(b.conv(b.input("N", 3, 6, 6), 3, C, pads=[1] * 4, out="c1"), C, out="n1", name="one")
    x = b.node("Relu", x, out="r1")
    x = b.bn(b.conv(x, C, C, out="c2"), C, out="n2", name="two")
    x = b.node("Clip", x, b.const(0.0, "low"), b.const(6.0, "high"), out="clip")
    x = b.bn(b.node("Sigmoid", x), C, name="kept")
    b.output(b.node("Sigmoid", x, out="y"))
    return b.model()


def changed(model, name, edit):
    """Return a copy of a model in which one initializer is edited."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    stored = next(t for t in made.graph.initializer if t.name == name)
    array = numpy_helper.to_array(stored).copy()
    edit(array)
    stored.CopyFrom(numpy_helper.from_array(array, name))
    return made


def saved(path, model):
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model, its fold, and the certificate of that."""
    folder = tmp_path_factory.mktemp("certified")
    saved(folder / "a.onnx", network())
    normswap.fold(folder / "a.onnx", folder / "b.onnx", certificate=folder / "c.json")
    return folder


@pytest.fixture
def verified(home, tmp_path):
    """Verify a certificate of other content, or other models."""

    def verify(data=None, a=None, b=None):
        path = home / "c.json"
        if data is not None:
            path = tmp_path / "other.json"
            path.write_text(json.dumps(data), encoding="utf-8")
        return normswap.verify(path, a or home / "a.onnx", b or home / "b.onnx")

    return verify


@pytest.fixture(scope="module")
def written(home):
    return json.loads((home / "c.json").read_text(encoding="utf-8"))


def claims(report):
    return [finding.claim for finding in report.findings]


def forged(data):
    """Return a certificate with the digest of its content."""
    return {**data, "digest": digest_of(data)}


# --- what holds ------------------------------------------------------------------------


def test_it_tells_how_far_it_is(home):
    told = []
    normswap.verify(home / "c.json", home / "a.onnx", home / "b.onnx", progress=told.append)
    count = len(onnx.load(home / "b.onnx").graph.node)
    proving = [f"proving, node {at} of {count}" for at in range(1, count + 1)]
    assert told == ["reading both models", *proving, "planning"]


def test_writing_one_tells_how_far_it_is(home, tmp_path):
    told = []
    files = home / "a.onnx", home / "b.onnx"
    normswap.check(*files, certificate=tmp_path / "c.json", progress=told.append)
    count = len(onnx.load(files[1]).graph.node)
    certifying = [f"certifying: proving, node {at} of {count}" for at in range(1, count + 1)]
    assert told[told.index("certifying") :] == ["certifying", *certifying]


def test_a_fold_is_certified(home, verified, written):
    report = verified()
    assert (report.holds, report.exit_code, report.verdict) == (True, ExitCode.OK, "proved")
    assert (report.regions, report.identical, report.notes) == (2, 5, ())
    assert report.floors == max(region["floors"] for region in written["regions"])
    first = written["regions"][0]
    assert (first["tensor"], first["original"]) == ("n1", "n1")
    assert first["frontier"] == [{"tensor": "x", "original": "x"}]
    assert first["before"] == ["Conv Conv_c1", "BatchNormalization one"]
    assert first["means"] == "maps"
    assert first["roundoff"] == 2.0**-24
    assert [step["op"] for step in written["folding"]["plan"]["folded"][0]["route"]] == ["Conv"]
    assert len(written["folding"]["plan"]["kept"]) == 1
    assert written["tested"] is None
    assert written["made"]["rewritten"] == "b.onnx"
    assert written["sizes"]["tried"] == [{"x": [n, 3, 6, 6]} for n in (2, 5, 1)]
    assert not [file for file in home.iterdir() if file.name.startswith(".")]


def test_a_model_in_memory_is_certified(tmp_path):
    model = network()
    result = normswap.fold(model, certificate=tmp_path / "c.json")
    assert normswap.verify(tmp_path / "c.json", model, result.model).holds
    result.save(tmp_path / "b.onnx")
    assert normswap.verify(tmp_path / "c.json", model, tmp_path / "b.onnx").holds


def test_external_data_is_of_the_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    path = tmp_path / "a" / "a.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="w", size_threshold=0)
    target = tmp_path / "b" / "b.onnx"
    normswap.fold(path, target, certificate=tmp_path / "c.json")
    data = json.loads((tmp_path / "c.json").read_text())
    assert list(data["original"]["data"]) == ["w"]
    assert list(data["rewritten"]["data"]) == ["b.onnx.data"]
    assert normswap.verify(tmp_path / "c.json", path, target).holds
    stored = target.with_name("b.onnx.data")
    content = bytearray(stored.read_bytes())
    content[3] ^= 1
    stored.write_bytes(content)
    report = normswap.verify(tmp_path / "c.json", path, target)
    assert "rewritten.data.b.onnx.data" in claims(report)


def test_a_check_is_certified(home, tmp_path):
    path = tmp_path / "c.json"
    report = normswap.check(home / "a.onnx", home / "b.onnx", certificate=str(path))
    assert report.is_proved
    assert normswap.verify(path, home / "a.onnx", home / "b.onnx").holds
    assert json.loads(path.read_text())["folding"] is None


def test_a_difference_has_no_certificate(home, tmp_path):
    def double(array):
        array *= 2

    weight = onnx.load(home / "b.onnx").graph.node[0].input[1]
    wrong = saved(tmp_path / "w.onnx", changed(onnx.load(home / "b.onnx"), weight, double))
    report = normswap.check(home / "a.onnx", wrong, certificate=tmp_path / "c.json")
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert not (tmp_path / "c.json").exists()


def test_sizes_that_were_asked_for_are_among_those_tried(home, tmp_path):
    options = CheckOptions(symbolic_dims={"N": 3})
    path = tmp_path / "c.json"
    normswap.check(home / "a.onnx", home / "b.onnx", options, certificate=path)
    assert normswap.verify(path, home / "a.onnx", home / "b.onnx").holds
    sizes = json.loads(path.read_text())["sizes"]
    assert sizes["symbolic_dims"] == {"N": 3}
    assert sizes["tried"] == [{"x": [n, 3, 6, 6]} for n in (3, 5, 6)]


def test_made_by_other_versions_is_a_note(verified, written):
    data = copy.deepcopy(written)
    data["made"]["onnx"] = "1.0"
    report = verified(forged(data))
    assert report.holds
    assert "onnx 1.0" in report.notes[0]


def test_a_function_that_is_called_twice_without_a_name(tmp_path):
    b = Builder(17)
    x = b.input("N", 3, 6, 6)
    made = []
    for _ in range(2):
        constants = [b.normal(C, 3, 3, 3), *map(b.const, b.statistics(C))]
        made.append(b.node("Folds", x, *constants, domain="own"))
    b.output(b.node("Add", *made, out="y"))
    inner = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
    ]
    names = ["x", "w", "s", "b", "m", "v"]
    opsets = [helper.make_opsetid("", 17)]
    b.functions.append(helper.make_function("own", "Folds", names, ["y"], inner, opsets))
    b.extra_opsets.append(helper.make_opsetid("own", 1))
    model = b.model()
    for node in model.graph.node:
        node.name = ""  # nothing tells the two calls apart but their order
    result = normswap.fold(model, certificate=tmp_path / "c.json")
    data = json.loads((tmp_path / "c.json").read_text())
    assert len({region["tensor"] for region in data["regions"]}) == len(data["regions"]) > 0
    report = normswap.verify(tmp_path / "c.json", model, result.model)
    assert report.holds, report.findings


def test_a_model_that_is_folded_in_place(tmp_path):
    path = saved(tmp_path / "a.onnx", network())
    shutil.copy(path, tmp_path / "old.onnx")
    normswap.fold(path, path, overwrite=True, certificate=tmp_path / "c.json")
    assert normswap.verify(tmp_path / "c.json", tmp_path / "old.onnx", path).holds
    assert not normswap.verify(tmp_path / "c.json", path, path).holds


def test_a_model_with_nothing_to_fold(tmp_path):
    path, target = saved(tmp_path / "a.onnx", network()), tmp_path / "b.onnx"
    normswap.fold(path, path, overwrite=True)
    report = normswap.fold(path, target, certificate=tmp_path / "c.json").report
    assert not report.plan.folded
    report = normswap.verify(tmp_path / "c.json", path, target)
    assert (report.holds, report.regions, report.identical) == (True, 0, report.values)
    (tmp_path / "c.json").unlink()
    normswap.fold(path, tmp_path / "d.onnx", copy=False, certificate=tmp_path / "c.json")
    assert not (tmp_path / "d.onnx").exists()
    assert not (tmp_path / "c.json").exists()


def test_branches_that_are_of_one_name_within(tmp_path):
    b = Builder(17)
    x = b.input("N", 3, 6, 6)
    branches = []
    for name in ("then", "else"):
        inner = Builder(17, seed=len(branches))
        kept = b.nodes, b.initializers
        b.nodes, b.initializers = [], []
        b.rng = inner.rng
        made = b.bn(b.conv(x, 3, C, out=f"c_{name}"), C, out="z")
        ports = [helper.make_tensor_value_info(made, TensorProto.FLOAT, None)]
        branches.append(helper.make_graph(b.nodes, name, [], ports, b.initializers))
        b.nodes, b.initializers = kept
    flag = b.node("Greater", b.node("ReduceMax", x, keepdims=0), b.const(0.5))
    then, other = branches
    b.output(b.node("If", flag, then_branch=then, else_branch=other, out="y", name="gate"))
    model = b.model()
    result = normswap.fold(model, certificate=tmp_path / "c.json")
    assert len(result.report.plan.folded) == 2
    data = json.loads((tmp_path / "c.json").read_text())
    tensors = [region["tensor"] for region in data["regions"]]
    assert tensors == ["z in then_branch of If gate", "z in else_branch of If gate"]
    assert normswap.verify(tmp_path / "c.json", model, result.model).holds
    swapped = result.model
    gate = next(node for node in swapped.graph.node if node.op_type == "If")
    first, second = gate.attribute
    first.name, second.name = second.name, first.name
    report = normswap.verify(tmp_path / "c.json", model, swapped)
    assert {"regions[0]", "regions[1]", "outputs[0].standing"} <= set(claims(report))


# --- what is tested only ---------------------------------------------------------------


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """A folder with two models that are proved to be the same in one of two outputs."""
    folder = tmp_path_factory.mktemp("tested")
    for name, op, value in (("a", "Max", -1e9), ("b", "Mul", 1.0)):
        b = Builder(17)
        x = b.input("N", 4)
        b.output(b.node("Relu", x, out="same"))
        b.output(b.node(op, x, b.const(value, "k"), out="y"))
        saved(folder / f"{name}.onnx", b.model())
    options = CheckOptions(seed=5)
    normswap.check(folder / "a.onnx", folder / "b.onnx", options, certificate=folder / "c.json")
    return folder


def test_what_is_tested_is_tested_again(tested):
    data = json.loads((tested / "c.json").read_text())
    assert data["verdict"] == "tested"
    (output,) = data["tested"]["outputs"]
    assert (data["tested"]["seed"], output["name"]) == (5, "y")
    assert "came from its input" in output["reason"]
    report = normswap.verify(tested / "c.json", tested / "a.onnx", tested / "b.onnx")
    assert (report.holds, report.verdict, report.tested) == (True, "tested", ("y",))


def test_what_is_tested_again_is_not_believed(tested, tmp_path):
    data = json.loads((tested / "c.json").read_text())

    def other(array):
        array += 0.01

    wrong = saved(tmp_path / "b.onnx", changed(onnx.load(tested / "b.onnx"), "k", other))
    (tmp_path / "c.json").write_text(json.dumps(with_hashes_of(data, wrong)))
    report = normswap.verify(tmp_path / "c.json", tested / "a.onnx", wrong)
    assert claims(report) == ["tested"]
    assert "different" in report.findings[0].reason


@pytest.mark.parametrize("name", ["verdict", "tested"])
def test_what_is_tested_is_not_proved_by_saying_so(tested, tmp_path, name):
    data = json.loads((tested / "c.json").read_text())
    data[name] = {"verdict": "proved", "tested": None}[name]
    (tmp_path / "c.json").write_text(json.dumps(forged(data)))
    report = normswap.verify(tmp_path / "c.json", tested / "a.onnx", tested / "b.onnx")
    assert claims(report) == [name]


# --- an altered certificate ------------------------------------------------------------


def places(value, path=()):
    """Yield the path of everything in a tree."""
    if path:
        yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from places(inner, (*path, key))


def alterations(value):
    """Yield other values of the same kind, and of another one."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, float):
        yield value * 1.5 + 1.0
    elif isinstance(value, str):
        yield value + "x"
        yield ""
    elif isinstance(value, list):
        if len(value) > 1:
            yield value[::-1]
        yield value[:-1] if value else [1]
        yield value + value[-1:]
    elif isinstance(value, dict):
        yield {**value, "another": 1}
        yield dict(list(value.items())[:-1])
    else:
        yield {}


def altered(data, path, value):
    made = copy.deepcopy(data)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def every_alteration(data):
    for path in places(data):
        inner = data
        for key in path:
            inner = inner[key]
        for value in alterations(inner):
            if value != inner:
                yield path, altered(data, path, value)


def holds(verified, data):
    try:
        return verified(data).holds
    except DataError:
        return False


def test_a_certificate_altered_in_any_field_is_found(verified, written):
    assert verified(written).holds
    count = 0
    for path, data in every_alteration(written):
        count += 1
        assert not holds(verified, data), path
    assert count > 150


FREE = {"made", "digest"}
"""What is no claim."""

LESS = {"folding", "tested"}
"""What a certificate may go without."""

OPTIONS = {("folding", name) for name in ("assume_constant", "merge_branches", "leftover")}
"""With others the plan of this model is the same, so what is said is true."""


def test_a_claim_that_is_altered_is_found_whatever_the_digest_says(verified, written):
    """Whoever alters a certificate and makes its digest anew can say nothing that is not true."""
    seen = set()
    for path, data in every_alteration(written):
        if path[0] not in FREE and path[-1] not in LESS and path not in OPTIONS:
            seen.add(path[0])
            assert not holds(verified, forged(data)), path
    assert seen == written.keys() - FREE - {"tested"}


def test_to_claim_that_nothing_was_folded_is_found_by_the_digest(verified, written):
    assert claims(verified({**written, "folding": None})) == ["digest"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"schema": "normswap/certificate/2"}',
        '{"schema": "normswap/certificate/1"}',
        '{"schema": ["normswap/certificate/1"]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_certificate_is_refused(home, tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match="is not a certificate") as caught:
        normswap.verify(tmp_path / "c.json", home / "a.onnx", home / "b.onnx")
    assert caught.value.exit_code is ExitCode.MODEL


def test_what_is_not_there_is_refused(home, tmp_path):
    with pytest.raises(DataError, match=r"absent\.json can't be read: No such file"):
        normswap.verify(tmp_path / "absent.json", home / "a.onnx", home / "b.onnx")
    with pytest.raises(DataError, match="is not a certificate: it is not JSON") as caught:
        normswap.verify(home / "a.onnx", home / "a.onnx", home / "b.onnx")
    assert "before the two models" in str(caught.value.tip)
    with pytest.raises(ModelError):
        normswap.verify(home / "c.json", home / "a.onnx", tmp_path / "absent.onnx")


# --- an altered model ------------------------------------------------------------------


def test_the_models_in_the_other_order_are_not_these(home, verified):
    report = verified(a=home / "b.onnx", b=home / "a.onnx")
    assert {"original.model", "rewritten.model"} <= set(claims(report))


def with_hashes_of(data, path):
    """Return a certificate that names another rewritten model."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return forged({**data, "rewritten": {"model": digest, "data": {}}})


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("factor", [1 + 1e-5, 0.5, -1.0])
def test_a_weight_that_is_altered_is_found_by_its_region(
    home, verified, written, tmp_path, number, factor
):
    model = onnx.load(home / "b.onnx")
    convs = [node for node in model.graph.node if node.op_type == "Conv"]

    def scale(array):
        array[1, 2, 1, 0] *= factor

    wrong = saved(tmp_path / "w.onnx", changed(model, convs[number].input[1], scale))
    report = verified(b=wrong)
    assert claims(report)[0] == "rewritten.model"
    report = verified(with_hashes_of(written, wrong), b=wrong)
    assert f"regions[{number}]" in claims(report)
    assert "outputs[0].standing" in claims(report)


@pytest.mark.parametrize("name", ["low", "high"])
def test_a_limit_that_is_altered_is_found(home, verified, written, tmp_path, name):
    def more(array):
        array += 1e-3

    wrong = saved(tmp_path / "w.onnx", changed(onnx.load(home / "b.onnx"), name, more))
    report = verified(with_hashes_of(written, wrong), b=wrong)
    assert "outputs[0].standing" in claims(report)


@pytest.mark.parametrize(
    ("op", "name", "value"),
    [
        ("Conv", "pads", [1, 1, 1, 0]),
        ("Conv", "dilations", [1, 2]),
        ("BatchNormalization", "epsilon", 0.01),
        ("BatchNormalization", "training_mode", 1),
    ],
)
def test_an_attribute_that_is_altered_is_found(home, verified, written, tmp_path, op, name, value):
    model = onnx.load(home / "b.onnx")
    node = next(node for node in model.graph.node if node.op_type == op)
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    wrong = saved(tmp_path / "w.onnx", model)
    report = verified(with_hashes_of(written, wrong), b=wrong)
    assert "outputs[0].standing" in claims(report)


def test_any_byte_that_is_flipped_is_found(home, verified, tmp_path):
    """Forty bytes of either model: of weights, attributes, names, and what frames them."""
    for name in ("a", "b"):
        content = (home / f"{name}.onnx").read_bytes()
        for at in range(0, len(content), max(len(content) // 40, 1)):
            flipped = bytearray(content)
            flipped[at] ^= 0x10
            path = tmp_path / f"{name}.onnx"
            path.write_bytes(flipped)
            try:
                report = verified(**{name: path})
            except NormswapError as error:
                assert error.exit_code is ExitCode.MODEL, at  # noqa: PT017 - either is right
            else:
                role = {"a": "original", "b": "rewritten"}[name]
                assert f"{role}.model" in claims(report), at


def test_another_output_is_found(home, verified, tmp_path):
    model = onnx.load(home / "b.onnx")
    model.graph.output.append(helper.make_tensor_value_info("n1", TensorProto.FLOAT, None))
    report = verified(b=saved(tmp_path / "w.onnx", model))
    assert any("'n1' is new" in finding.reason for finding in report.findings)


# --- cut points that are none ----------------------------------------------------------


def test_a_wrong_pair_proves_nothing(verified, written):
    data = copy.deepcopy(written)
    data["regions"][0]["original"] = "n2"
    report = verified(forged(data))
    assert "regions[0]" in claims(report)
    assert "outputs[0].standing" in claims(report)


def test_a_frontier_that_is_none_proves_nothing(verified, written):
    data = copy.deepcopy(written)
    data["regions"][1]["frontier"] = [{"tensor": "x", "original": "x"}]
    report = verified(forged(data))
    assert claims(report)[0] != "digest"
    assert "not known to be equal" in next(
        finding.reason for finding in report.findings if finding.claim == "regions[1]"
    )


def test_a_fault_does_not_hide_in_a_region_that_is_claimed_to_be_large(tmp_path):
    """One weight of a Conv is off by little, and much behind it dilutes that."""
    b = Builder(17)
    x = b.conv(b.input("N", 8, 6, 6), 8, 8, out="c")
    x = b.node("Softmax", x, axis=1, out="s")
    b.output(b.node("GlobalAveragePool", x, out="y"))
    model = b.model()
    weight = model.graph.node[0].input[1]

    def little(array):
        array[0, 0, 0, 0] *= 1 + 2e-6

    a = saved(tmp_path / "a.onnx", model)
    wrong = saved(tmp_path / "b.onnx", changed(model, weight, little))
    assert not normswap.check(a, wrong).is_proved
    normswap.check(a, a, certificate=tmp_path / "c.json")
    data = json.loads((tmp_path / "c.json").read_text())
    data["regions"] = [
        {
            "tensor": "y",
            "original": "y",
            "frontier": [{"tensor": "x", "original": "x"}],
            "before": [],
            "after": [],
            "means": "driven",
            "floors": 1.0,
            "roundoff": 2.0**-24,
        }
    ]
    (tmp_path / "c.json").write_text(json.dumps(with_hashes_of(data, wrong)))
    report = normswap.verify(tmp_path / "c.json", a, wrong)
    assert "regions[0]" in claims(report)
    assert "outputs[0].standing" in claims(report)


# --- what can't be certified -----------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"tolerances": {"": normswap.Tolerance(rtol=1.0)}},
        {"value_ranges": {"x": (0.0, 1.0)}},
        {"data": [{"x": np.zeros((1, 3, 6, 6), np.float32)}]},
        {"iterations": 3},
        {"proof": False},
        {"arbiter": False},
    ],
)
def test_what_the_models_alone_do_not_show_is_not_certified(home, tmp_path, options):
    with pytest.raises(UsageError, match="models alone"):
        normswap.check(
            home / "a.onnx",
            home / "b.onnx",
            CheckOptions(**options),
            certificate=tmp_path / "c.json",
        )


def test_without_a_check_there_is_no_certificate(home, tmp_path):
    with pytest.raises(UsageError, match="A certificate needs a check"):
        normswap.fold(home / "a.onnx", check=None, certificate=tmp_path / "c.json")


@pytest.mark.parametrize("name", [".", "absent/c.json"])
def test_a_certificate_needs_a_place(home, tmp_path, name):
    target = tmp_path / "b.onnx"
    with pytest.raises(UsageError, match="can't be a certificate"):
        normswap.fold(home / "a.onnx", target, certificate=tmp_path / name)
    assert not target.exists()


@pytest.mark.parametrize("name", ["a.onnx", "b.onnx"])
def test_a_certificate_takes_no_model_away(tmp_path, name):
    source = saved(tmp_path / "a.onnx", network())
    content = source.read_bytes()
    target = tmp_path / "b.onnx"
    with pytest.raises(UsageError, match="is one of the models"):
        normswap.fold(source, str(target), certificate=tmp_path / name)
    with pytest.raises(UsageError, match="is one of the models"):
        normswap.check(source, source, certificate=source)
    assert (source.read_bytes(), target.exists()) == (content, False)


def test_what_can_not_be_saved_leaves_no_certificate(home, tmp_path, monkeypatch):
    from normswap.model import staging

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.Staged, "commit", refuse)
    (tmp_path / "c.json").write_text("old")
    with pytest.raises(OSError, match="space"):
        normswap.fold(home / "a.onnx", tmp_path / "b.onnx", certificate=tmp_path / "c.json")
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]
    assert (tmp_path / "c.json").read_text() == "old"
