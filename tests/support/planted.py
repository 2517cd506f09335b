"""Faults in the arbiter and in the runtime, for a check that runs in this very process."""

from __future__ import annotations

import numpy as np
from onnx.reference.op_run import OpRun

from normswap.check import runner
from normswap.proof.arbiter import evaluator
from normswap.runtime import ort
from support.inprocess import backend_suite


def stay_here(monkeypatch):
    """Do the work of child processes in this one, so that what is patched here counts there."""
    monkeypatch.setattr(runner, "run_task", backend_suite.here)


def plant_operator(monkeypatch, name, function):
    """Have the arbiter evaluate an operator by `function` of its inputs."""

    def run(self, *inputs, **attributes):
        del self, attributes
        return (function(*inputs),)

    wrong = type(name, (OpRun,), {"op_domain": "", "_run": run})
    right = evaluator.operators

    def operators():
        return [*(each for each in right() if each.__name__ != name), wrong]

    monkeypatch.setattr(evaluator, "operators", operators)


def plant_in_runtime(
    monkeypatch, output, off, *, levels=("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"), graph=None
):
    """Have the runtime be off at a tensor where it is the only output.

    At some of its levels, and in graphs of that name only, if one is given.
    """
    right = ort.outputs_of

    def wrong(session, *args, **how):
        made = right(session, *args, **how)
        level = session.get_session_options().graph_optimization_level.name
        fitting = graph in {None, session.get_modelmeta().graph_name}
        if list(made) == [output] and level in levels and fitting:
            made[output] = made[output] + np.asarray(off, made[output].dtype)
        return made

    monkeypatch.setattr(ort, "outputs_of", wrong)
