"""Everything that only a GPU can show.

    python -m benchmarks.cuda [STEP ...] [--folder FOLDER] [--networks FOLDER]

========= ========================================================================================
tests     the outcome of every test in ``tests/cuda``
checks    what a check makes of models on the device and across providers: with TF32 and without,
          twice over, in float16; of folds and of swaps
errors    how far each form of group normalization is from float64, on inputs made to be hard
forms     the latency of each form, from which ``--form auto`` is chosen
folds     the latency of networks before and after a fold, onnxruntime's own optimizations on
========= ========================================================================================

Each step writes ``FOLDER/STEP.md`` as it goes, so that a run that is cut off keeps what it had, and
steps can be run apart. ``python -m benchmarks.cuda report`` makes one page of what is there:
``benchmarks/RESULTS-CUDA.md``. The steps named in the order above are the default. The exit code is
4 where the device can't be used, and 1 where a step failed.

``--provider cpu`` runs the same on the CPU, which tests this program and says nothing about CUDA.
``--networks`` names a folder of models besides those of ``models/``; ``python -m benchmarks.zoo``
makes such a folder.
"""
