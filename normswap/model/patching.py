"""What is patched in protobuf messages when an edit has changed what they are about."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from normswap.model.constants import source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normswap.order import Mentions


def drop_stale(before: Mentions, now: Mentions) -> None:
    """Drop what is said about tensors that are no longer there."""
    target, gone = now.graph, before.names() - now.names()
    if not gone:
        return
    retain(target.value_info, lambda item: item.name not in gone)
    if isinstance(target, onnx.GraphProto):
        retain(target.quantization_annotation, lambda item: item.tensor_name not in gone)


def patch_sharding(target: Any, source: Any) -> None:
    """Let the device annotations of a node follow the tensors that took the place of others."""
    if not target.device_configurations:
        return
    before, now = [*source.input, *source.output], [*target.input, *target.output]
    if len(before) == len(now):
        renamed = {a: b for a, b in zip(before, now, strict=True) if a not in now}
    else:
        renamed = {}
    for configuration in target.device_configurations:
        for spec in configuration.sharding_spec:
            if spec.tensor_name in renamed:
                spec.tensor_name = renamed[spec.tensor_name]
        retain(
            configuration.sharding_spec,
            lambda spec: spec.tensor_name in now or spec.tensor_name not in before,
        )


def outputs_of(nodes: Iterable[Any]) -> Iterator[str]:
    """Yield the names of what nodes make."""
    return (name for node in nodes for name in node.output if name)


def check_names(*, before: list[str], now: list[str]) -> None:
    """Refuse a name that an edit has given to a second tensor."""
    counts = Counter(now)
    added = counts - Counter(before)
    if duplicates := [name for name in added if name and counts[name] > 1]:
        raise ValueError(f"two tensors are named {min(duplicates)!r}")


def value_info_of(tensor: gs.Tensor) -> Any:
    """Return the ``ValueInfoProto`` of a tensor that graphsurgeon describes."""
    if isinstance(tensor, gs.Constant):
        source = source_of(tensor)
        return onnx.helper.make_tensor_value_info(tensor.name, source.data_type, source.shape)
    if tensor.dtype is None:
        return onnx.helper.make_empty_tensor_value_info(tensor.name)
    data_type = (
        tensor.dtype
        if isinstance(tensor.dtype, int)
        else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    )
    return onnx.helper.make_tensor_value_info(tensor.name, data_type, tensor.shape)


def replace(repeated: Any, items: Iterable[Any]) -> None:
    """Put other items into a repeated field."""
    items = list(items)
    del repeated[:]
    repeated.extend(items)


def retain(repeated: Any, keep: Any) -> None:
    """Let only some items stay in a repeated field."""
    items = [item for item in repeated if keep(item)]
    if len(items) < len(repeated):
        replace(repeated, items)
