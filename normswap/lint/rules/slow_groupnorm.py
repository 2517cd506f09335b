"""A GroupNormalization runs as its definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class SlowGroupnorm(Rule):
    code = "NS302"
    name = "slow-groupnorm"
    level = "note"
    what = "A GroupNormalization is one node, for which onnxruntime has no kernel on CPU."
    why = (
        "onnxruntime expands it into a dozen nodes, and the variance that they compute is "
        "inaccurate where the mean is large."
    )
    how = (
        "Other forms of the same normalization are several times as fast there: see "
        "docs/bn-to-gn.md."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        for node in subject.network.nodes():
            if node.op == "GroupNormalization" and not node.domain and node.opset >= 21:
                yield self.finding("onnxruntime expands it", node.title, node.graph.path)


RULE = SlowGroupnorm()
