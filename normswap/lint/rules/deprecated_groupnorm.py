"""A GroupNormalization has the meaning that ONNX withdrew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class DeprecatedGroupnorm(Rule):
    code = "NS301"
    name = "deprecated-groupnorm"
    what = "A GroupNormalization is of opset 18 to 20."
    why = (
        "It has one scale per group, unlike in any framework; ONNX has withdrawn this "
        "form, and runtimes drop it."
    )
    how = "Convert the model to opset 21, or export it again."

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        for node in subject.network.nodes():
            if node.op == "GroupNormalization" and not node.domain and node.opset < 21:
                yield self.finding(f"it is of opset {node.opset}", node.title, node.graph.path)


RULE = DeprecatedGroupnorm()
