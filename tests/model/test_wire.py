import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from normswap.model import wire


def model_of(*initializers, **fields):
    graph = helper.make_graph([], "g", [], [], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], **fields)


def tensor(name, nbytes, value=0):
    return numpy_helper.from_array(np.full(nbytes, value, np.uint8), name)


def put_back(stripped, spans, data):
    def write(serialized):
        fields, number = wire.split_token(serialized)
        span = spans[number]
        payload = data[span.offset : span.offset + span.nbytes]
        pieces = wire.Pieces()
        pieces.add(fields + wire.length_delimited(span.field, span.nbytes) + payload)
        return pieces

    return onnx.ModelProto.FromString(b"".join(wire.map_tensors(stripped, write).parts))


def test_large_payloads_leave_and_small_ones_stay():
    data = model_of(tensor("small", 100), tensor("large", 50_000)).SerializeToString()
    stripped, spans = wire.detach(data)
    assert len(stripped) < 300
    assert [(span.field, span.nbytes) for span in spans] == [(wire.RAW_DATA, 50_000)]
    small, large = onnx.ModelProto.FromString(stripped).graph.initializer
    assert len(small.raw_data) == 100
    assert large.dims == [50_000]
    assert not large.HasField("raw_data")
    assert put_back(stripped, spans, data) == onnx.ModelProto.FromString(data)


@pytest.mark.parametrize(
    "field", ["raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"]
)
def test_every_kind_of_payload_is_detached(field):
    values = bytes(9000) if field == "raw_data" else [3] * 9000
    data = model_of(TensorProto(name="w", dims=[9000], **{field: values})).SerializeToString()
    stripped, spans = wire.detach(data)
    assert len(spans) == 1
    assert len(stripped) < 200
    assert put_back(stripped, spans, data) == onnx.ModelProto.FromString(data)


def test_payloads_are_found_wherever_a_tensor_can_be():
    large = tensor("w", 9000)
    sparse = onnx.SparseTensorProto(values=large, indices=large, dims=[9000])
    inner = helper.make_graph([], "inner", [], [], [large])
    node = onnx.NodeProto(
        op_type="If",
        attribute=[
            helper.make_attribute("t", large),
            helper.make_attribute("g", inner),
            helper.make_attribute("ts", [large, large]),
            helper.make_attribute("gs", [inner]),
            helper.make_attribute("s", sparse),
            helper.make_attribute("ss", [sparse]),
        ],
    )
    model = model_of(large)
    model.graph.sparse_initializer.append(sparse)
    model.graph.node.append(node)
    model.functions.add(name="f", node=[node], attribute_proto=[helper.make_attribute("d", large)])
    model.training_info.add(initialization=inner, algorithm=inner)
    data = model.SerializeToString()
    stripped, spans = wire.detach(data)
    assert len(stripped) < 3000
    assert len(spans) == 1 + 2 + 9 + 10 + 2
    assert put_back(stripped, spans, data) == onnx.ModelProto.FromString(data)


def test_a_payload_in_several_parts_is_left_to_protobuf():
    part = TensorProto(name="w", dims=[6000], float_data=[1.0] * 3000).SerializeToString()
    for twice in (part + part, part + TensorProto(raw_data=bytes(9000)).SerializeToString()):
        graph = wire.length_delimited(5, len(twice)) + twice
        split = wire.length_delimited(7, len(graph)) + graph
        stripped, spans = wire.detach(split)
        assert spans == []
        assert stripped == split


def test_messages_that_protobuf_would_merge_are_left_to_protobuf():
    graph = model_of(tensor("w", 9000)).graph.SerializeToString()
    field = wire.length_delimited(7, len(graph)) + graph
    assert wire.detach(field)[1] != []
    stripped, spans = wire.detach(field + field)
    assert spans == []
    assert stripped == field + field


def test_a_group_is_left_to_protobuf():
    data = b"\x9b\x3e\x9c\x3e" + model_of(tensor("w", 9000)).SerializeToString()
    stripped, spans = wire.detach(data)
    assert spans == []
    assert onnx.ModelProto.FromString(stripped) == onnx.ModelProto.FromString(data)


@pytest.mark.parametrize("nbytes", [1, 9, 100, 8_990, 17_000])
def test_a_truncated_model_is_malformed(nbytes):
    data = model_of(tensor("a", 9000), tensor("b", 9000)).SerializeToString()
    with pytest.raises(wire.Malformed, match="stops in the middle"):
        wire.detach(data[:-nbytes])


def test_an_endless_number_is_malformed():
    with pytest.raises(wire.Malformed, match="without an end"):
        wire.detach(b"\x08" + b"\xff" * 20)


def test_messages_nested_too_deeply_are_malformed():
    graph = b""
    for _ in range(120):
        attribute = wire.length_delimited(6, len(graph)) + graph
        node = wire.length_delimited(5, len(attribute)) + attribute
        graph = wire.length_delimited(1, len(node)) + node + bytes([0x12, 0x00])
        graph += wire.length_delimited(10, 9000) + bytes(9000)
    with pytest.raises(wire.Malformed, match="nested"):
        wire.detach(wire.length_delimited(7, len(graph)) + graph)


def test_a_stripped_model_is_refused():
    stripped, _ = wire.detach(model_of(tensor("w", 9000)).SerializeToString())
    with pytest.raises(wire.Malformed, match="private marker"):
        wire.detach(stripped)


def test_a_token_survives_parsing_and_copying():
    stripped, _ = wire.detach(model_of(tensor("w", 9000)).SerializeToString())
    copy = TensorProto()
    copy.CopyFrom(onnx.ModelProto.FromString(stripped).graph.initializer[0])
    copy.name = "renamed"
    fields, number = wire.split_token(copy.SerializeToString())
    assert number == 0
    assert TensorProto.FromString(fields) == TensorProto(name="renamed", dims=[9000], data_type=2)


def test_a_tensor_without_token_is_split_into_itself():
    data = tensor("w", 4).SerializeToString()
    assert wire.split_token(data) == (data, None)


def test_fields_that_merely_look_like_external_data_are_handed_to_the_writer():
    seen = []
    model = model_of(tensor("w", 4))
    model.graph.initializer[0].external_data.add(key="location", value="w.bin")

    def write(serialized):
        seen.append(serialized)
        pieces = wire.Pieces()
        pieces.add(serialized)
        return pieces

    data = model.SerializeToString()
    assert b"".join(wire.map_tensors(data, write).parts) == data
    assert seen == [model.graph.initializer[0].SerializeToString()]


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")]
)
def test_varints(value, encoded):
    assert wire.encode_varint(value) == encoded
