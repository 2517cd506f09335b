"""An operator draws random numbers at inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule
from normswap.semantics.families import RANDOM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class RandomOperator(Rule):
    code = "NS103"
    name = "random-operator"
    what = "An operator draws random numbers, such as a Dropout in training mode."
    why = (
        "The same input gives different outputs each time; usually the model was "
        "exported in training mode."
    )
    how = (
        "Export the model in inference mode; where it draws random numbers by design, ignore "
        "this rule."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        for node in subject.training:
            if node.op == "Dropout":
                yield self.finding(
                    "Dropout in training mode drops values at random", node.title, node.graph.path
                )
        for node in subject.network.nodes():
            if node.op in RANDOM and not node.domain:
                yield self.finding(f"{node.op} draws random numbers", node.title, node.graph.path)


RULE = RandomOperator()
