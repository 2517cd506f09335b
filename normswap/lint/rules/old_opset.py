"""The operator set is old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class OldOpset(Rule):
    code = "NS401"
    name = "old-opset"
    what = "The model's opset is older than the project allows (13 unless it says otherwise)."
    why = "Tools drop old opsets: per-channel quantization needs 13, GroupNormalization 18 or 21."
    how = (
        "Export the model with a newer opset, or convert it with onnx.version_converter. "
        "The limit is min-opset in the configuration."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        opset = subject.model.opset
        if 0 < opset < options.min_opset:
            yield self.finding(f"opset {opset} is older than the limit, {options.min_opset}")


RULE = OldOpset()
