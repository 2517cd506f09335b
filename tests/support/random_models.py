"""Random ONNX models in which every field is set that the installed onnx defines.

Messages are built by walking protobuf's descriptors, so a field that a new onnx adds is set here
without a change, and a kind of field that this module can't set is an error. The models make no
sense to a runtime; they are what a lossless reader and writer must bring through.
"""

import random
import struct

import onnx
from google.protobuf.descriptor import FieldDescriptor as F

from normswap.model.wire import is_repeated

MAX_DEPTH = 9
LARGE = 100  # elements of a payload that is large, for a test that lowers the threshold

# Few names, so that the nodes, values and annotations of a graph have names in common.
NAMES = ["", "x", "y", "w", "b", "bn.scale", "名前", "a/b:0"]


class RandomModels:
    """Builds random messages, and records which fields it has set."""

    def __init__(self, seed):
        self.random = random.Random(seed)  # noqa: S311 - nothing secret
        self.seen = set()

    def model(self):
        model = self.message(onnx.ModelProto.DESCRIPTOR, 0)
        if not model.HasField("graph"):
            model.graph.name = "g"
        model.ir_version = self.random.randint(1, onnx.IR_VERSION)
        newest = onnx.defs.onnx_opset_version()
        for holder in (model, *model.functions):
            for item in holder.opset_import:
                item.version = self.random.randint(1, newest)
        for function in model.functions:
            function.name += "!"  # no node calls it, so that none is in a circle
        if all(item.domain not in {"", "ai.onnx"} for item in model.opset_import):
            model.opset_import.add(version=self.random.randint(1, newest))
        return model

    def message(self, descriptor, depth):
        message = make(descriptor)
        chosen = {oneof.name: self.random.choice(oneof.fields) for oneof in descriptor.oneofs}
        for field in descriptor.fields:
            oneof = field.containing_oneof
            if oneof is not None and chosen[oneof.name] is not field:
                continue
            if self.random.random() < 0.25:
                continue
            self.set(message, field, depth)
        if self.random.random() < 0.1:  # a field from the future
            number = self.random.randint(1000, 2000)
            value = self.random.randbytes(self.random.randint(0, 9))
            message.MergeFromString(varint(number << 3 | 2) + varint(len(value)) + value)
        return message

    def set(self, message, field, depth):
        count = 1
        if is_repeated(field):
            is_payload = field.full_name.startswith("onnx.TensorProto.") and "_data" in field.name
            count = self.random.choice([0, 1, 2])
            if is_payload and self.random.random() < 0.2:
                count = LARGE
        if field.type == F.TYPE_MESSAGE:
            if depth >= MAX_DEPTH or self.random.random() < depth / MAX_DEPTH - 0.3:
                return
            values = [self.message(field.message_type, depth + 1) for _ in range(count)]
        else:
            values = [self.scalar(field) for _ in range(count)]
        if count:
            self.seen.add(field.full_name)
        if is_repeated(field):
            getattr(message, field.name).extend(values)
        elif field.type == F.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(values[0])
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, values[0])

    def scalar(self, field):
        choice = self.random.choice
        if field.name == "data_location":
            return onnx.TensorProto.DEFAULT  # external data has a test of its own
        if field.name == "ref_attr_name":
            return choice(["", "", "", "alpha"])
        if field.type == F.TYPE_ENUM:
            return choice([value.number for value in field.enum_type.values])
        if field.type == F.TYPE_STRING:
            return choice(NAMES)
        if field.type == F.TYPE_BYTES:
            nbytes = LARGE if self.random.random() < 0.2 else self.random.randint(0, 9)
            return self.random.randbytes(nbytes)
        if field.type in {F.TYPE_FLOAT, F.TYPE_DOUBLE}:
            value = choice([0.0, -0.0, 1e-5, -2.5, float("inf"), self.random.gauss(0, 1e6)])
            return struct.unpack("<f", struct.pack("<f", value))[0]
        if field.type in {F.TYPE_INT32, F.TYPE_INT64}:
            return choice([0, 1, -1, 3, 2**31 - 1, self.random.randint(0, 28)])
        if field.type == F.TYPE_UINT64:
            return choice([0, 1, 2**64 - 1])
        raise NotImplementedError(f"a field of a kind that ONNX had not used before: {field}")


def make(descriptor):
    """Return an empty message of this type, nested types included."""
    holder = onnx
    for part in descriptor.full_name.split(".")[1:]:
        holder = getattr(holder, part)
    return holder()


def every_field():
    """Return the full names of all fields that a model can have."""
    names, todo, done = set(), [onnx.ModelProto.DESCRIPTOR], set()
    while todo:
        descriptor = todo.pop()
        if descriptor.full_name in done:
            continue
        done.add(descriptor.full_name)
        names |= {field.full_name for field in descriptor.fields}
        todo += [field.message_type for field in descriptor.fields if field.message_type]
    return names


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
