"""The model as a whole: its operator sets and its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.build import function_path
from normswap.graph.reasons import Reason
from normswap.inputs.signature import ports_of
from normswap.lint.rule import Rule
from normswap.model.importer import default_opset

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


RULES = (OldOpset(), MixedOpsets(), MissingShapes())
