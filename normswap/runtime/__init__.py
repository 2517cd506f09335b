"""onnxruntime, in a child process that may die without harm.

``providers``, ``diagnosis``, ``survey``
    The execution providers by name, why one can't be used, and which can be here.
``sessions``, ``binding``, ``ort``, ``stopwatch``
    In the child: a session on a provider, values on a device, runs, and how long they take.
``randomness``, ``opening``
    Copies of models that draw the same numbers, and that take every size where a file says none.
``lifetime``
    Children that end with their parent, however that ends.
``arrays``, ``messages``, ``failures``
    What parent and child tell each other: values, whatever holds values, and what went wrong.
``child``, ``worker``
    The parent's side of a child process, which does one task or many, and the child's.
``session``, ``partial``
    The same two sides of a model that is loaded once and run many times, in any part.
"""
