"""A fold would remove a normalization, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class FoldableBatchnorm(Rule):
    code = "NS101"
    name = "foldable-batchnorm"
    what = "A normalization can be folded exactly into its neighbours."
    why = (
        "It costs a pass over the activations at every inference, and hides the weights "
        "that quantization and pruning should see."
    )
    how = "Run `normswap fold MODEL` or `normswap lint --fix`; or let the exporter fold."
    fix = "fold"

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        for entry in subject.plan.folded:
            into = listed(f"{step.op} {step.node}" for step in entry.absorbers)
            told = f"{entry.site.op} can be folded exactly" + (f" into {into}" if into else "")
            yield self.finding(told, entry.site.node, entry.site.graph)


RULE = FoldableBatchnorm()
