"""Weights are graph inputs too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class OverridableWeights(Rule):
    code = "NS104"
    name = "overridable-weights"
    what = "Weights are also listed as graph inputs, as IR version 3 required."
    why = (
        "Since IR version 4 a caller may replace them, so neither runtimes nor folds can "
        "treat them as constants."
    )
    how = (
        "Remove them from the graph inputs (in torch, "
        "keep_initializers_as_inputs=False), or fold with `normswap fold "
        "--assume-constant`."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        names = sorted(subject.model.overridable) if subject.model.ir_version >= 4 else []
        if names:
            count = f"{len(names)} weight{'s are' if names[1:] else ' is'} "
            yield self.finding(f"{count}a graph input too: {listed(names)}")


RULE = OverridableWeights()
