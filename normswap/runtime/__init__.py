"""onnxruntime, in a child process that may die without harm.

``providers``, ``diagnosis``, ``survey``
    The execution providers by name, why one can't be used, and which can be here.
``sessions``, ``binding``, ``ort``, ``stopwatch``
    In the child: a session on a provider, values on a device, runs, and how long they take.
``lifetime``
    Children that end with their parent, however that ends.
``protocol``, ``arrays``, ``worker``, ``runner``
    What parent and child agree on; the child's side of one task, and the parent's.
``frames``, ``network``, ``server``, ``session``
    The same for a model that is loaded once and run many times.
"""
