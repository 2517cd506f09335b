"""What a module and its file do on the same inputs, put as what an original and a rewrite do.

The module in float64 is the original: what it gives is the truth, and, rounded to the file's types,
what the original gives in the runtime. The file's own weight-rounding floor, around that truth, is
what it may be off by; where float64 can't be had of it, what moving the module's weights does.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.check.arbitration import IMPRECISE, PRECISE, patience
from normswap.check.departure import type_of_rounding
from normswap.check.observations import Observations, Truths, tensors_of
from normswap.check.observe import observe_original
from normswap.check.report import RunReport
from normswap.check.runner import Results, Runner
from normswap.errors import RunError
from normswap.inputs.signature import dtype_of_port
from normswap.source.binding import NotTakenError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.check.observations import Tensors
    from normswap.check.options import CheckOptions
    from normswap.inputs.random import Case
    from normswap.inputs.signature import Signature
    from normswap.source.binding import Binding
    from normswap.source.module import Module

ROLE = "exported"
"""What the file is called while it runs."""

CALLED = {"original": ROLE}
"""What a runner is to call what it is given as an original."""

_SAMPLES = 2


class ModuleAndFile:
    """A module and the file that was exported from it.

    Parameters
    ----------
    signature : Signature
        Of the file.
    """

    def __init__(
        self, module: Module, signature: Signature, binding: Binding, options: CheckOptions
    ) -> None:
        self.module = module
        self.signature = signature
        self.binding = binding
        self._options = options
        self._made: dict[int, tuple[Case, list[np.ndarray]]] = {}

    def made(self, case: Case) -> list[np.ndarray]:
        """Return what the module gives, in its order.

        Raises
        ------
        NotTakenError
            It does not take these inputs.
        """
        if id(case) not in self._made:  # which is of this case as long as it is kept
            self._made[id(case)] = case, self.module.outputs(self.binding.arrays(case.feeds))
        return self._made[id(case)][1]

    def truth(self, case: Case) -> Tensors:
        """Return the same by the names of the file's outputs."""
        return self._named(self.made(case))

    def observe(self, runner: Runner, cases: Sequence[Case]) -> Observations:
        """Run the file in the runtime and in float64, and the module on the same inputs.

        Raises
        ------
        RunError, RunTimeoutError, ModelError
            As :func:`normswap.check.observe.observe_original`.
        """
        file = observe_original(runner, self.signature, self._options, cases)
        kept = [index for index, case in enumerate(file.cases) if self.takes(case)]
        seen = Observations(
            cases=[file.cases[index] for index in kept],
            arbitration=file.arbitration,
            runs=list(file.runs),
            notes=list(file.notes),
            path=file.path,
        )
        if file.original is not None:
            ran = [index for index in kept if index < len(file.original.values[0])]
            rows = tuple(tuple(row[i] for i in ran) for row in file.original.values)
            # Its levels are its noise: they come again as further executions.
            seen.rewritten = replace(file.original, values=(*rows, *rows[1:]))
            seen.original = self._in_its_place([file.cases[index] for index in ran], seen)
        for index, truths in self._truths(file).items():
            if index in kept:
                seen.truths[kept.index(index)] = truths
        return seen

    def measure_rounding(self, runner: Runner, seen: Observations) -> None:
        """Have the file evaluated with weights and results perturbed, around the module's truth."""
        part = seen.arbitration
        if part is None:
            return
        try:
            found = runner.evaluate(
                self.signature,
                ROLE,
                part.feeds,
                samples=_SAMPLES,
                rounding=type_of_rounding((self.signature,), seen.runs),
                timeout=patience(self._options),
            )
        except RunError as error:
            seen.notes.append(f"the effect of rounding could not be measured: {error}")
            return
        for position, feeds in enumerate(part.feeds):
            plain, *moved = (tensors_of(row[position]) for row in found.values)
            for index, truths in seen.truths.items():
                if seen.cases[index].feeds is feeds:
                    pairs = ((truths.original, _around(truths.original, plain, m)) for m in moved)
                    seen.truths[index] = replace(truths, rounded=tuple(pairs))

    def takes(self, case: Case) -> bool:
        """Whether the module takes some inputs."""
        try:
            self.made(case)
        except NotTakenError:
            return False
        return True

    def _named(self, made: Sequence[np.ndarray]) -> Tensors:
        return {port.name: a for port, a in zip(self.signature.outputs, made, strict=False)}

    def _in_its_place(self, cases: Sequence[Case], seen: Observations) -> Results:
        """Return what the module gives in the file's types, for each level of the runtime."""
        began = time.perf_counter()
        rows = [tuple(self._rounded(self.made(case)) for case in cases)] * 2
        if seen.arbitration is None:
            rows += [
                tuple(
                    self._rounded(
                        self.module.outputs(self.binding.arrays(case.feeds), moved=sample)
                    )
                    for case in cases
                )
                for sample in range(1, _SAMPLES + 1)
            ]
        seconds = time.perf_counter() - began
        report = RunReport(
            model="module",
            engine="torch",
            provider="",
            providers=(),
            fallback=None,
            imprecise=(),
            load_seconds=0.0,
            run_seconds=seconds,
            wall_seconds=seconds,
            peak_memory=None,
            version=self.module.version,
        )
        seen.runs.append(report)
        return Results(tuple(rows), report)

    def _rounded(self, made: Sequence[np.ndarray]) -> Tensors:
        kinds = {name: dtype_of_port(self.signature.outputs, name) for name in self._named(made)}
        with np.errstate(over="ignore"):
            return {
                name: array if (kind := kinds[name]) is None else array.astype(kind)
                for name, array in self._named(made).items()
            }

    def _truths(self, file: Observations) -> Mapping[int, Truths]:
        """Return what the arbiter says of the file, around what the module gives."""
        part = file.arbitration
        if part is None:
            return {}
        imprecise = bool(part.results.report.imprecise)
        found = {}
        for position, index in enumerate(part.indices):
            case = file.cases[index]
            if not self.takes(case):
                continue
            plain, *moved = (tensors_of(row[position]) for row in part.results.values)
            own = self.truth(case)
            samples = tuple(_around(own, plain, sample) for sample in moved)
            found[index] = Truths(own, samples, plain, IMPRECISE if imprecise else PRECISE)
        return found


def _around(own: Tensors, plain: Tensors, moved: Tensors) -> Tensors:
    """Return the truth, moved as the file moves where its weights are rounded otherwise."""
    found = {}
    for name, truth in own.items():
        before, after = plain.get(name), moved.get(name)
        if before is None or after is None or {before.shape, after.shape} != {truth.shape}:
            continue
        if truth.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                found[name] = truth + (after - before)
        else:
            found[name] = np.where(before == after, truth, after)
    return found
