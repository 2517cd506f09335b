"""The law of the model package: what nobody edits comes out as it went in, field by field."""

import io

import onnx
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from support.random_models import RandomModels, every_field

from normswap.errors import ModelError
from normswap.model import load, stage, wire, write_to
from normswap.order import in_topological_order

seeds = st.integers(min_value=0, max_value=2**63)
# Both with nearly all payloads cut out of the file and with nearly none.
thresholds = st.sampled_from([1, 64, wire.PAYLOAD_THRESHOLD])


def rewrite(data):
    stream = io.BytesIO()
    write_to(load(data), stream)
    return stream.getvalue()


@settings(max_examples=300, deadline=None)
@given(seed=seeds, threshold=thresholds)
def test_a_model_that_nobody_edits_survives_in_every_field(seed, threshold):
    model = RandomModels(seed).model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "PAYLOAD_THRESHOLD", threshold)
        written = onnx.ModelProto.FromString(rewrite(model.SerializeToString()))
    assert written == model


def test_the_random_models_set_every_field_that_onnx_defines():
    seen = set()
    for seed in range(60):
        models = RandomModels(seed)
        models.model()
        seen |= models.seen
    assert every_field() - seen == set()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(seed=seeds, threshold=thresholds, which=st.integers(0, 3))
def test_an_edited_node_is_all_that_changes(seed, threshold, which):
    model = RandomModels(seed).model()
    nodes = list(model.graph.node)
    assume(which < len(nodes))
    try:
        assume(in_topological_order(nodes) is nodes)
    except ValueError:
        reject()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "PAYLOAD_THRESHOLD", threshold)
        loaded = load(model.SerializeToString())
        loaded.graph.nodes[which].name = "edited"
        stream = io.BytesIO()
        write_to(loaded, stream)
    nodes[which].name = "edited"
    assert onnx.ModelProto.FromString(stream.getvalue()) == model


@settings(max_examples=60, deadline=None)
@given(seed=seeds, threshold=thresholds)
def test_writing_twice_gives_the_same_bytes(seed, threshold):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "PAYLOAD_THRESHOLD", threshold)
        once = rewrite(RandomModels(seed).model().SerializeToString())
        assert rewrite(once) == once


@settings(max_examples=250, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_a_model_or_a_clear_error(data):
    read_or_refuse(data)


@settings(max_examples=250, deadline=None)
@given(seed=st.integers(0, 40), threshold=thresholds, damage=st.data())
def test_a_damaged_model_is_a_model_or_a_clear_error(seed, threshold, damage):
    data = bytearray(RandomModels(seed).model().SerializeToString())
    for _ in range(damage.draw(st.integers(0, 4))):
        data[damage.draw(st.integers(0, len(data) - 1))] ^= 1 << damage.draw(st.integers(0, 7))
    if damage.draw(st.booleans()):
        data = data[: damage.draw(st.integers(0, len(data)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "PAYLOAD_THRESHOLD", threshold)
        read_or_refuse(bytes(data))


def read_or_refuse(data):
    """Load, read all tensors and write: nothing but a ModelError may come of it."""
    model = attempt(lambda: load(data))
    if model is None:
        return
    for values in model.graph.stored.values():
        array = attempt(values.load)
        assert array is None or array.shape == values.shape
    write_to(model, io.BytesIO())


def attempt(call):
    """Return what a call returns, or None if it raises a ModelError of one line."""
    try:
        return call()
    except ModelError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    return None


def with_external_data(model, folder, random):
    """Move some tensors of the graph to data files; return the model's path."""
    for i, tensor in enumerate([*model.graph.initializer, *constants(model.graph)]):
        if random.random() < 0.5:
            continue
        nbytes = random.randint(0, 3000)
        tensor.ClearField("raw_data")
        tensor.data_type = onnx.TensorProto.UINT8
        del tensor.dims[:]
        tensor.dims.append(nbytes)
        name = random.choice(["a.data", "b.data"])
        with (folder / name).open("ab") as file:
            file.write(bytes(random.randint(0, 5)))
            offset = file.tell()
            file.write(random.randbytes(nbytes))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        entries = [("location", name), ("offset", str(offset)), ("length", str(nbytes))]
        if i % 2:
            entries.reverse()
        for key, value in entries:
            tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def constants(graph):
    return [item.t for node in graph.node for item in node.attribute if item.HasField("t")]


def resolved(path):
    """Return the model at a path with its external data inline."""
    model = onnx.load(path, load_external_data=False)
    for tensor in [*model.graph.initializer, *constants(model.graph)]:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entries = {item.key: item.value for item in tensor.external_data}
            with (path.parent / entries["location"]).open("rb") as file:
                file.seek(int(entries["offset"]))
                raw = file.read(int(entries["length"]))
            tensor.ClearField("data_location")
            del tensor.external_data[:]
            tensor.raw_data = raw
    return model


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_external_data_survives(seed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("external")
    models = RandomModels(seed)
    path = with_external_data(models.model(), folder, models.random)
    target = folder / "out" / "written.onnx"
    target.parent.mkdir()
    with stage(load(path), target) as staged:
        staged.commit()
    assert resolved(target) == resolved(path)
    stream = io.BytesIO()
    write_to(load(path), stream)
    assert onnx.ModelProto.FromString(stream.getvalue()) == resolved(path)
