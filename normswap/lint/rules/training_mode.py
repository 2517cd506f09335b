"""A BatchNormalization normalizes with the statistics of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.mode import mode_of
from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class TrainingMode(Rule):
    code = "NS102"
    name = "training-mode"
    level = "error"
    what = "A BatchNormalization is in training mode."
    why = (
        "The output for a sample then depends on the other samples in the batch, and the "
        "trained statistics are not used."
    )
    how = (
        "Export the model in inference mode (module.eval() in torch); or make the "
        "existing export an inference model with `normswap recalibrate --freeze`."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        for node in subject.training:
            if node.op == "BatchNormalization":
                mode = mode_of(node)
                yield self.finding(mode.why or mode.usage, node.title, node.graph.path)


RULE = TrainingMode()
