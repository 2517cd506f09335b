"""A shape is missing that tools need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.reasons import Reason
from normswap.inputs.signature import ports_of
from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class MissingShapes(Rule):
    code = "NS403"
    name = "missing-shapes"
    what = "An input has no rank, or a shape that decides whether a layer can be folded is unknown."
    why = "Shapes can't be inferred from there on, so optimizers leave what they can't analyze."
    how = "Export the model with shapes (axes may stay symbolic), or run onnx.shape_inference."

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        for port in ports_of(subject.model.proto.graph)[0]:
            if port.shape is None and port.kind == "tensor":
                yield self.finding(f"input {port.name} has no rank")
        for entry in subject.plan.kept:
            if entry.reason is Reason.SHAPE_UNKNOWN:
                yield self.finding(entry.detail, entry.site.node, entry.site.graph)


RULE = MissingShapes()
