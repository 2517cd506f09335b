"""What a fold or an export leaves in a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.mode import mode_of
from normswap.lint.rule import Rule, listed
from normswap.semantics.families import RANDOM

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


class OverridableWeights(Rule):
    code = "NS104"
    name = "overridable-weights"
    what = "Weights are also listed as graph inputs, as IR version 3 required."
    why = (
        "Since IR version 4 a caller may replace them, so neither runtimes nor folds can "
        "treat them as constants."
    )
    how = (
        "Remove them from the graph inputs (in torch, "
        "keep_initializers_as_inputs=False), or fold with `normswap fold "
        "--assume-constant`."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        names = sorted(subject.model.overridable) if subject.model.ir_version >= 4 else []
        if names:
            count = f"{len(names)} weight{'s are' if names[1:] else ' is'} "
            yield self.finding(f"{count}a graph input too: {listed(names)}")


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


RULES = (
    FoldableBatchnorm(),
    TrainingMode(),
    RandomOperator(),
    OverridableWeights(),
    BatchnormInBody(),
)
