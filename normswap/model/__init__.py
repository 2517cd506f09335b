"""Load and save ONNX models, with everything in them that nobody edits left as it was.

An editor works on :attr:`Model.graph`, an onnx-graphsurgeon graph::

    model = load("resnet.onnx")                    # reads the structure, not the weights
    ...                                            # edit model.graph in place
    with stage(model, "resnet.folded.onnx") as staged:
        ...                                        # check the model at staged.path
        staged.commit()                            # without this, nothing has happened

What happens on the way, a module each:

``wire``
    Cuts the weights out of the file's bytes; what is left is a small ``ModelProto``, the
    *stripped* model. Puts weights back into it.
``lookalikes``
    What else a file is that is no model.
``sources``
    What a model may be given as, and its bytes.
``bounds``
    How deep and how large what it says may be.
``storage``, ``external``
    Where bytes lie: in the model file, in a data file beside it, in memory.
``tensors``, ``stored``, ``constants``
    :class:`TensorSource`: a constant that is read, or computed, when it is needed.
``importer``, ``attributes``, ``imported``
    From the stripped model to graphsurgeon's objects, each remembering the message it came from.
``exporter``, ``patching``
    From graphsurgeon's objects back to a stripped model: those messages, with the edits patched in.
``assembly``, ``staging``, ``claims``
    Lays the bytes out and writes them, beside the target and then, in one step, in its place;
    and what becomes of the files, whichever way that ends.

So a model of any size is rewritten in the memory of its largest layer, and what graphsurgeon does
not know (doc strings, metadata, annotations, fields of a future ONNX) survives.
"""

from normswap.model.constants import make_constant, source_of
from normswap.model.loading import Model, load
from normswap.model.staging import Staged, stage, write_to
from normswap.model.tensors import ArrayTensor, TensorSource

__all__ = [
    "ArrayTensor",
    "Model",
    "Staged",
    "TensorSource",
    "load",
    "make_constant",
    "source_of",
    "stage",
    "write_to",
]
