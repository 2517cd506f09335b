"""The child's side of a session: a model of which any part can be run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from normswap.bodies import reads
from normswap.runtime.failures import WorkerError
from normswap.runtime.opening import open_sizes
from normswap.runtime.randomness import draws, seed_all, seeds
from normswap.runtime.sessions import assignment, choose_provider, open_session, translated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import onnxruntime as ort

    from normswap.runtime.worker import Channel

    _Key = tuple[tuple[str, ...], tuple[str, ...]]


def load(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Load the model that `run` is about.

    The request holds ``model``, ``taps``, ``provider``, ``provider_options``, ``level``, ``alike``,
    ``threads`` and ``remembered``, as of :class:`~normswap.runtime.session.Session`.
    """
    job.stage("loading it")
    model = job.held["model"] = PartialModel(request)
    return {"provider": model.provider.name, "remarks": list(model.provider.remarks)}


def hold(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Keep values that further runs are fed: the request holds these ``feeds``."""
    model: PartialModel = job.held["model"]
    model.held |= request["feeds"]
    return {}


def run(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Run a part of the model.

    The request holds ``feeds``, ``outputs`` and ``part``, as of
    :meth:`~normswap.runtime.session.Session.run`. The answer holds the ``results``, and names the
    nodes that ran ``elsewhere`` than on the provider, in this run or before.
    """
    job.stage("running it")
    model: PartialModel = job.held["model"]
    results = model.run(request["outputs"], request["feeds"], request["part"])
    return {"results": results, "elsewhere": list(model.elsewhere)}


class PartialModel:
    """A model of which any part can be run.

    onnxruntime executes all of a graph, whichever outputs are asked for. So the part that is asked
    for is cut out: the nodes that the outputs depend on, back to the tensors that are fed.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.provider = choose_provider(request["provider"], request["provider_options"])
        path = Path(request["model"])
        self.folder = str(path.parent.resolve())
        try:
            self.model = onnx.load(str(path), load_external_data=False)
        except Exception as error:
            raise WorkerError("run", " ".join(str(error).split())) from error
        open_sizes(self.model)
        self.level = request["level"]
        self.threads = request["threads"]
        self.remembered = request["remembered"]  # a loop over batches asks for the same few again
        self.types: dict[str, int] = dict(request["taps"])
        self.fresh = False
        if request["alike"]:
            found = draws(self.model)
            seed_all(self.model, seeds(found))
            self.fresh = bool(found)  # a session goes on where its last run stopped drawing
        graph = self.model.graph
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self.inputs = {value.name: value for value in graph.input}
        self.outputs = {value.name: value for value in graph.output}
        self.frame = onnx.ModelProto(ir_version=self.model.ir_version, graph={"name": "part"})
        self.frame.opset_import.extend(self.model.opset_import)
        self.frame.functions.extend(self.model.functions)
        self.sessions: dict[_Key, tuple[ort.InferenceSession, list[str]]] = {}
        self.held: dict[str, np.ndarray] = {}
        self.elsewhere: dict[str, None] = {}  # nodes that the provider left to another

    def run(
        self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray], part: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Compute some tensors from others, with or without those of a part that does so too."""
        names = list(outputs) or list(self.outputs)
        feeds = {**self.held, **feeds}
        key = self._key(tuple(dict.fromkeys([*names, *part])), tuple(sorted(feeds)), bool(part))
        if self.fresh or key not in self.sessions:
            while len(self.sessions) >= self.remembered:
                del self.sessions[next(iter(self.sessions))]
            made, needed = self._part(key[0], feeds)
            self.sessions[key] = self._load(made), needed
        session, needed = self.sessions[key]
        try:
            values = session.run(names, {name: feeds[name] for name in needed})
        except Exception as error:
            raise translated(error, self.provider, loading=False) from error
        return dict(zip(names, values, strict=True))

    def _key(self, names: tuple[str, ...], fed: tuple[str, ...], may_be_larger: bool) -> _Key:
        """Return of which tensors, from which others, a session is that will do."""
        if may_be_larger:
            for key in self.sessions:
                if key[1] == fed and set(names) <= set(key[0]):
                    return key
        return names, fed

    def _part(
        self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray]
    ) -> tuple[onnx.ModelProto, list[str]]:
        pending, seen = list(outputs), set(outputs)
        nodes: set[int] = set()
        while pending:
            name = pending.pop()
            node = self.producers.get(name)
            if name in feeds or node is None or id(node) in nodes:
                continue
            nodes.add(id(node))
            for source in reads(node):
                if source not in seen:
                    seen.add(source)
                    pending.append(source)
        part = onnx.ModelProto()
        part.CopyFrom(self.frame)
        graph = part.graph
        graph.node.extend(node for node in self.model.graph.node if id(node) in nodes)
        graph.initializer.extend(t for n, t in self.initializers.items() if n in seen)
        graph.sparse_initializer.extend(t for n, t in self.sparse.items() if n in seen)
        needed = [name for name in feeds if name in seen]
        for name, value in self.inputs.items():
            if name in seen and (name in feeds or name in self.initializers):
                graph.input.append(value)
        graph.input.extend(
            _info(name, onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype))
            for name in needed
            if name not in self.inputs
        )
        graph.output.extend(
            self.outputs.get(name) or _info(name, self.types[name]) for name in outputs
        )
        return part, needed

    def _load(self, model: onnx.ModelProto) -> ort.InferenceSession:
        session = open_session(
            model.SerializeToString(),
            self.provider,
            level=self.level,
            threads=self.threads,
            home=self.folder,
        )
        for name, nodes in (assignment(session) or {}).items():
            if name != self.provider.name:
                self.elsewhere.update(dict.fromkeys(nodes))
        return session


def _info(name: str, data_type: int) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, data_type, None)
