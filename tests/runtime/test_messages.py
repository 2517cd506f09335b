"""What goes between a process and its child comes to it as it was."""

import io

import ml_dtypes
import numpy as np
import pytest

from normswap.runtime.messages import receive, send

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.array(5, np.int64),
        np.arange(6, dtype=np.float64).reshape(2, 3).T,
        np.ones(3, ml_dtypes.bfloat16),
        np.array([True, False]),
    ],
)
def test_messages_keep_arrays(array):
    stream = io.BytesIO()
    send(stream, {"a": 1, "array": array})
    stream.seek(0)
    message = receive(stream)
    back = message.pop("array")
    assert message == {"a": 1}
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert (back == array).all()
    assert back.flags.writeable
    with pytest.raises(EOFError):
        receive(stream)


@pytest.mark.parametrize(
    "item",
    [
        X,
        np.float32(3.0),
        X.astype(ml_dtypes.bfloat16),
        np.array([], np.int64),
        np.array(["a", "b"], object),
        [X, X[0]],
        None,
        {"cat": np.float32(0.5), "dog": np.float32(0.25)},
        {1: np.float64(1.0)},
    ],
)
def test_every_value_travels(item):
    stream = io.BytesIO()
    send(stream, {"it": item})
    stream.seek(0)
    back = receive(stream)["it"]
    if isinstance(item, dict):
        assert back.keys() == item.keys()
        assert [float(v) for v in back.values()] == [float(v) for v in item.values()]
    elif isinstance(item, list):
        assert all(np.array_equal(a, b) for a, b in zip(back, item, strict=True))
    elif item is None:
        assert back is None
    else:
        assert back.dtype == np.asarray(item).dtype
        np.testing.assert_array_equal(back, item)


@pytest.mark.parametrize("name", ["$array", "$map", "$strings", "plain"])
def test_a_name_that_looks_like_a_mark_is_a_name(name):
    stream = io.BytesIO()
    send(stream, {"feeds": {name: [1, "a", None]}, "options": ({}, {name: 0.5})})
    stream.seek(0)
    assert receive(stream) == {"feeds": {name: [1, "a", None]}, "options": [{}, {name: 0.5}]}


def test_a_message_that_ends_too_early_is_none():
    stream = io.BytesIO()
    send(stream, {"array": X})
    for size in (0, 3, 20, len(stream.getvalue()) - 1):
        with pytest.raises(EOFError):
            receive(io.BytesIO(stream.getvalue()[:size]))
