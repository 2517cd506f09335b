"""One operator means two things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.build import function_path
from normswap.lint.rule import Rule
from normswap.model.importer import default_opset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class MixedOpsets(Rule):
    code = "NS402"
    name = "mixed-opsets"
    what = "A function has another opset than the model, or a domain is imported twice."
    why = (
        "One operator then has two meanings in the model: inlining changes it, and tools refuse it."
    )
    how = "Convert the model as a whole, or export it again."

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        proto = subject.model.proto
        for function, body in zip(proto.functions, subject.model.graph.functions, strict=True):
            own = default_opset(function.opset_import)
            if own is not None and subject.model.opset and own != subject.model.opset:
                told = f"function {function_path(body)} is of opset {own}"
                yield self.finding(f"{told}, but the model is of opset {subject.model.opset}")
        versions: dict[str, set[int]] = {}
        for item in proto.opset_import:
            domain = "" if item.domain == "ai.onnx" else item.domain
            versions.setdefault(domain, set()).add(int(item.version))
        for domain, found in versions.items():
            if len(found) > 1:
                told = " and ".join(map(str, sorted(found)))
                yield self.finding(f"{domain or 'ai.onnx'} is imported as {told}")


RULE = MixedOpsets()
