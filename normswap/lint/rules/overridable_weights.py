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
    """Weights are listed as graph inputs, as IR version 3 wanted them."""

    code = "NS104"
    name = "overridable-weights"
    what = "Weights are listed as graph inputs, as IR version 3 wanted them."
    why = (
        "From IR version 4 on a caller may replace them, so neither runtimes nor folds take "
        "them for constants."
    )
    how = (
        "Remove them from the inputs (in torch, keep_initializers_as_inputs=False); normswap "
        "fold --assume-constant folds them."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield them."""
        del options
        names = sorted(subject.model.overridable) if subject.model.ir_version >= 4 else []
        if names:
            count = f"{len(names)} weight{'s are' if names[1:] else ' is'} "
            yield self.finding(f"{count}a graph input too: {listed(names)}")


RULE = OverridableWeights()
