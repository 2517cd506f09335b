"""Groups are not what a project has agreed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


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
            wanted = policy.num_groups(layer.channels)
            if layer.groups != wanted:
                has = f"{layer.groups} groups of {layer.channels} channels"
                yield self.finding(
                    f"it has {has}, but the configuration asks for {policy}",
                    layer.node,
                    layer.graph,
                )


RULE = GroupPolicyRule()
