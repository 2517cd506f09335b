import numpy as np
import pytest
from onnx import helper, numpy_helper

from normswap.model.sparse import dense


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_values_stand_where_their_indices_say(indices):
    values = numpy_helper.from_array(np.array([2.0, -3.0], np.float32), "w")
    places = numpy_helper.from_array(np.array(indices, np.int64), "w_indices")
    array = dense(helper.make_sparse_tensor(values, places, [2, 3]))
    assert array.dtype == np.float32
    assert array.tolist() == [[0, 2, 0], [0, 0, -3]]
