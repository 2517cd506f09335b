"""Lint a model by one rule, and say where it finds what."""

from __future__ import annotations

from normswap.inspection.subject import Subject
from normswap.lint.options import LintOptions
from normswap.lint.selection import rule_of
from normswap.model import load


def found(model, code, **options):
    """Return what a rule finds: messages by node, of what is about the whole model by ``""``."""
    subject = Subject(load(model.SerializeToString()))
    findings = list(rule_of(code).find(subject, LintOptions(**options)))
    assert {finding.code for finding in findings} <= {code}
    return {finding.place: finding.message for finding in findings}
