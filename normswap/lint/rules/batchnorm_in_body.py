"""A BatchNormalization is in a subgraph or function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class BatchnormInBody(Rule):
    code = "NS105"
    name = "batchnorm-in-body"
    level = "note"
    what = "A BatchNormalization is in a subgraph or a function."
    why = (
        "Optimizers of runtimes and other tools mostly don't look there, so they neither "
        "fold nor report it."
    )
    how = (
        "Run `normswap fold`, which also folds in subgraphs and functions; or inline "
        "functions before deployment (onnx.inliner)."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        for layer in subject.layers:
            if layer.op == "BatchNormalization" and layer.graph:
                yield self.finding(f"it is in {layer.graph}", layer.node, layer.graph)


RULE = BatchnormInBody()
