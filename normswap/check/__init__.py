"""The check: whether one model is the same function as another.

The verdict is `Verdict.EQUIVALENT`, `Verdict.DIFFERENT` or `Verdict.INCONCLUSIVE`, with the
evidence for it. Models are known by their paths alone: each runs in a child process of its own
(:mod:`normswap.runtime`), so that models over 2 GB, external data and a runtime that dies are all
ordinary cases. :mod:`normswap.workflows.check` puts them together::

    inputs ─> runner ─> runtime (child process) ─> onnxruntime, arbiter
                │
                └─> metrics ─> evidence ─> verdict ─> CheckReport
"""
