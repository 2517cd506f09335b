"""Pages that are written from the code: commands, functions, reasons, rules, schemas."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click
from mkdocs.structure.files import File

import normswap
from normswap.cli import COMMANDS, cli
from normswap.graph.reasons import Reason
from normswap.lint.rules import rules
from normswap.report.next import TIPS
from normswap.report.schema import schemas
from normswap.unfolding.places import EXPLANATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

EVERY_COMMAND = "reference/commands/*"
"""What stands in the navigation for a page of each command."""

GROUPS = {
    "Rewrites": ("fold", "plan", "bn_to_gn", "bn_to_ln", "bn_to_in", "recalibrate", "unfold"),
    "Questions": ("check", "verify", "inspect", "lint", "diff"),
}
"""The functions, in the order of their page; all that is not here comes behind them."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the commands into the navigation."""

    def filled(item: Any) -> Any:
        if isinstance(item, list):
            return [filled(each) for each in item]
        if isinstance(item, dict):
            return {name: filled(each) for name, each in item.items()}
        return [_command_page(name) for name in COMMANDS] if item == EVERY_COMMAND else item

    config.nav = filled(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    pages = {_command_page(name): command_page(name) for name in COMMANDS}
    pages["reference/python.md"] = python_page()
    pages["reference/reasons.md"] = reasons_page()
    pages["reference/rules.md"] = rules_page()
    pages["reference/schemas.md"] = schemas_page()
    pages["reference/tips.md"] = tips_page()
    for name, lines in pages.items():
        files.append(File.generated(config, name, content="\n".join(lines) + "\n"))
    for name, schema in schemas().items():
        raw = json.dumps(schema, indent=1)
        files.append(File.generated(config, f"reference/schemas/{name}.json", content=raw))
    return files


def _command_page(name: str) -> str:
    return f"reference/commands/{name}.md"


def command_page(name: str) -> Iterator[str]:
    """Yield the page of a command: how it is called, what it does, its options and examples."""
    parent = click.Context(cli, info_name="normswap")
    command = cli.get_command(parent, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    yield from (f"---\ntitle: {name}\n---", f"# normswap {name}", "")
    yield from ("```text", " ".join((context.command_path, *command.collect_usage_pieces(context))))
    yield from ("```", "", *_paragraphs(command.help or ""), "", "## Options", "")
    yield from ("| option | meaning |", "|---|---|")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield f"| `{record[0]}` | {_words(record[1])} |"  # in code a bar is one
    yield from _epilog(command.epilog or "")


def _paragraphs(text: str) -> list[str]:
    return [_words(each) + "\n" for each in re.split(r"\n\s*\n", text.replace("\b", ""))]


def _epilog(text: str) -> Iterator[str]:
    """Yield what is said behind the options: examples as code, anything else as it is."""
    lead, _, examples = text.replace("\b", "").strip().partition("Examples:\n")
    if lead:
        yield from ("", _words(lead))
    if examples:
        lines = [line.removeprefix("  ") for line in examples.splitlines()]
        yield from ("", "## Examples", "", "```sh", *lines, "```")


def python_page() -> Iterator[str]:
    """Yield the page of everything that ``import normswap`` gives."""
    yield from ("# Python", "", "What `import normswap` gives; [a tour](../api.md) comes first.")
    listed = {name for names in GROUPS.values() for name in names}
    rest = [name for name in normswap.__all__ if name not in listed]
    errors = [name for name in rest if name.endswith("Error")]
    others = [name for name in rest if name not in errors]
    for title, names in (*GROUPS.items(), ("Options and reports", others), ("Errors", errors)):
        yield from ("", f"## {title}")
        for name in names:
            yield from ("", f"::: {getattr(normswap, name).__module__}.{name}")


def reasons_page() -> Iterator[str]:
    """Yield the page of why a normalization stays, and why unfold puts none back."""
    yield from ("# Why a normalization is kept", "")
    yield (
        "Each normalization that a fold or a swap leaves has one of these, which JSON, JUnit and "
        "SARIF have too, and a sentence on what it is here. "
        "[How to go on from there](../how-to/why-it-stays.md)."
    )
    yield from _table(
        ("reason", "meaning"), ((f"`{each.value}`", each.explanation) for each in Reason)
    )
    yield from ("", "## Where unfold puts none back", "")
    yield "[`unfold`](../unfold.md#where-one-belongs) says of each layer without one:"
    yield from _table(
        ("reason", "meaning"),
        ((f"`{each.value}`", words) for each, words in EXPLANATIONS.items()),
    )


def rules_page() -> Iterator[str]:
    """Yield the page of the rules of lint, each with why it matters and what to do."""
    yield from ("# Rules of lint", "", "[`normswap lint`](../lint.md) asks these.")
    for code, rule in rules().items():
        yield from ("", f"## {code} {rule.name} {{ #{code.lower()} }}", "", f"*{rule.level}*")
        for title, words in (("What", rule.what), ("Why", rule.why), ("What to do", rule.how)):
            yield from ("", f"**{title}.** {_words(words)}")
        if rule.fix:
            yield from ("", f"`--fix` mends it: `normswap {rule.fix}`, checked as ever.")


def tips_page() -> Iterator[str]:
    """Yield the page of what reports say to do next."""
    yield from ("# Tips", "")
    yield (
        "A report ends with what to do next, where there is something: at most two sentences, "
        "behind `tip:` in text, and in `tips` of [JSON](../json.md). Each is one of these, and "
        "tested by being followed."
    )
    kinds: dict[str, list[str]] = {}
    for kind, found in TIPS.items():
        for tip in found:
            kinds.setdefault((tip.__doc__ or "").partition("\n")[0], []).append(f"`{kind}`")
    yield from _table(
        ("what it does", "in reports of"),
        ((_words(told), ", ".join(of)) for told, of in kinds.items()),
    )


def schemas_page() -> Iterator[str]:
    """Yield the page of the schemas, each with its keys, and the files themselves."""
    yield from ("# Schemas", "", "What every report has is on [its own page](../json.md).")
    for name, schema in schemas().items():
        parts = {**schema.get("$defs", {})}
        top = parts.pop(schema["$ref"].rpartition("/")[2]) if "$ref" in schema else schema
        yield from ("", f"## {schema['$id']}", "")
        yield f"{_words(top.get('description', ''))} [{name}.json](schemas/{name}.json)"
        yield from _table(
            ("key", "type"),
            ((f"`{key}`", _type(what)) for key, what in top["properties"].items()),
        )
        for part, what in sorted(parts.items()):
            if "properties" not in what:
                continue
            yield from ("", f'??? note "{part}: {_plain(what.get("description", ""))}"')
            rows = ((f"`{key}`", _type(each)) for key, each in what["properties"].items())
            yield from (f"    {line}" for line in _table(("key", "type"), rows))


def _type(schema: dict[str, Any]) -> str:
    """Say what a value is, in a few words."""
    if "$ref" in schema:
        return f"{schema['$ref'].rpartition('/')[2]}"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_type(items)}" if items else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "anything"))


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield from ("", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}")
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    """Escape bars; not those in code, which are none of the table's."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts[::2]]
    return "`".join(parts)


def _plain(text: str) -> str:
    """Return a docstring's sentence without its marks."""
    return re.sub(r":\w+:|`+", "", text).replace('"', "'")


def _words(text: str) -> str:
    """Return text of a help or docstring as Markdown: options as code, roles as names."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", " ".join(text.split())).replace("``", "`")
    told = []
    for at, part in enumerate(text.split("`")):  # every second one is code
        if at % 2:
            told.append(f"`{part}`")
        else:
            escaped = re.sub(r"([*<\[\]_])", r"\\\1", part)
            told.append(re.sub(r"(?<![\w-])(--[a-z][a-z-]*)(?![\w-])", r"`\1`", escaped))
    return _cell("".join(told))
