"""Group normalizations: how they are written, and how many groups they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.graph.network import Node
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


def _nodes(subject: Subject) -> Iterator[Node]:
    for node in subject.network.nodes():
        if node.op == "GroupNormalization" and not node.domain:
            yield node


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
        for node in _nodes(subject):
            if node.opset < 21:
                yield self.finding(f"it is of opset {node.opset}", node.title, node.graph.path)


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
        for node in _nodes(subject):
            if node.opset >= 21:
                yield self.finding("onnxruntime expands it", node.title, node.graph.path)


class GroupPolicyRule(Rule):
    code = "NS303"
    name = "group-policy"
    what = "A group normalization has other groups than the project's configuration asks for."
    why = (
        "Groups that differ from the trained ones make another network; one rule keeps "
        "models comparable."
    )
    how = (
        "Set groups or group-size in the configuration to what was trained, or make the "
        "model again."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        policy = options.policy
        for layer in subject.layers if policy is not None else ():
            if layer.groups is None or layer.channels is None or policy is None:
                continue
            if layer.groups != policy.num_groups(layer.channels):
                has = f"{layer.groups} groups of {layer.channels} channels"
                told = f"it has {has}, but the configuration asks for {policy}"
                yield self.finding(told, layer.node, layer.graph)


RULES = (DeprecatedGroupnorm(), SlowGroupnorm(), GroupPolicyRule())
