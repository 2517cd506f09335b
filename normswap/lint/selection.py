"""Which rules are meant: by codes, names and beginnings of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.errors import UsageError
from normswap.lint.options import ALL
from normswap.lint.rules import rules
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from normswap.lint.options import LintOptions
    from normswap.lint.rule import Rule


def asked(options: LintOptions) -> tuple[Rule, ...]:
    """Return the rules that options ask for, in the order of their codes.

    Raises
    ------
    UsageError
        A word of theirs names no rule.
    """
    for word in (*options.select, *options.ignore):
        require_code(word)
    return tuple(rule for rule in rules().values() if _is_asked(rule, options))


def _is_asked(rule: Rule, options: LintOptions) -> bool:
    selected = max((_exactness(word, rule) for word in options.select), default=0)
    ignored = max((_exactness(word, rule) for word in options.ignore), default=0)
    return selected > ignored


def require_code(word: str) -> None:
    """Refuse a word that selects no rule.

    Raises
    ------
    UsageError
        It has what is close.
    """
    if any(_exactness(word, rule) for rule in rules().values()):
        return
    known = [name for rule in rules().values() for name in (rule.code, rule.name)]
    raise UsageError(
        f"There is no rule {word!r}.",
        tip=did_you_mean(word, known) or "`normswap lint --list-rules` lists all rules.",
    )


def rule_of(word: str) -> Rule:
    """Return the rule of a code or name.

    Raises
    ------
    UsageError
        There is none.
    """
    for rule in rules().values():
        if word in {rule.code, rule.name}:
            return rule
    require_code(word)
    raise UsageError(
        f"{word!r} matches several rules.", tip="`normswap lint --list-rules` lists all rules."
    )


def _exactness(word: str, rule: Rule) -> int:
    """Return how exactly a word names a rule; 0 if it does not."""
    if word == rule.name:
        return len(rule.code)
    return len(word) if word.startswith(ALL) and rule.code.startswith(word) else 0
