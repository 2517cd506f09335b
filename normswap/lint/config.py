"""What a project says of its models: ``[tool.normswap]`` of pyproject.toml, or normswap.toml.

For each model the nearest of these files decides, in its folder or above it; of two in one folder
normswap.toml, and a pyproject.toml without the table counts for nothing. ::

    [tool.normswap.lint]                # [lint] in normswap.toml
    ignore = ["NS203"]
    min-opset = 17

    [[tool.normswap.lint.overrides]]
    files = ["legacy/**"]               # from the file's folder on
    ignore = ["NS401"]

What an override ignores comes on top; its other keys take the place of those above.
"""

from __future__ import annotations

import fnmatch
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap.errors import UsageError
from normswap.lint.options import LintOptions
from normswap.lint.selection import asked
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN = "normswap.toml"
PROJECT = "pyproject.toml"
TABLES = ("lint",)
KEYS: dict[str, type[Any]] = {
    "select": list,
    "ignore": list,
    "min-opset": int,
    "groups": int,
    "group-size": int,
}


@dataclass(frozen=True, slots=True)
class Config:
    """What one file says.

    Attributes
    ----------
    path : Path or None
        The file; None where there is none.
    overrides : tuple of (tuple of str, mapping)
        Patterns of files, and the keys for these.
    """

    path: Path | None = None
    options: LintOptions = field(default_factory=LintOptions)
    overrides: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] = ()

    def options_for(self, model: Path | None) -> LintOptions:
        """Return what it says of a model; of one that is in no file without its overrides."""
        found = self.options
        if model is None or self.path is None:
            return found
        folder = self.path.resolve().parent
        target = model.resolve()
        name = target.relative_to(folder).as_posix() if target.is_relative_to(folder) else ""
        for patterns, keys in self.overrides:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                found = _with(found, keys)
        return found


def find(model: Path | None) -> Config:
    """Return what is said of a model: by the nearest file in its folder or above it.

    Parameters
    ----------
    model : Path or None
        One that is in no file belongs to the folder that normswap runs in.

    Raises
    ------
    UsageError
        The file can't be read, or says what can't be.
    """
    here = Path.cwd() if model is None else model.absolute().parent
    for folder in (here, *here.parents):
        for name in (OWN, PROJECT):
            path = folder / name
            if path.is_file() and (found := read(path)) is not None:
                return found
    return Config()


def read(path: Path) -> Config | None:
    """Read a configuration; None if a pyproject.toml has nothing of normswap.

    Raises
    ------
    UsageError
        It can't be read, or says what can't be.
    """
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}.") from error
    if path.name == PROJECT:
        tool = table.get("tool", {})
        table = tool.get("normswap") if isinstance(tool, dict) else None
        if table is None:
            return None
    try:
        return _config(table, path)
    except UsageError as error:
        raise UsageError(f"{path}: {error}", tip=error.tip) from error


def _config(table: Any, path: Path) -> Config:
    _require(table, TABLES)
    lint = table.get("lint", {})
    _require(lint, (*KEYS, "overrides"))
    lint = dict(lint)
    overrides = lint.pop("overrides", [])
    if not isinstance(overrides, list):
        raise UsageError("overrides must be an array of tables.")
    options = _with(LintOptions(), lint)
    found = []
    for each in overrides:
        _require(each, (*KEYS, "files"))
        keys = dict(each)
        files = keys.pop("files", None)
        if not _is_words(files):
            raise UsageError("An override has no key files, which must be a list of patterns.")
        _with(options, keys)
        found.append((tuple(files), keys))
    return Config(path, options, tuple(found))


def _with(options: LintOptions, keys: Mapping[str, Any]) -> LintOptions:
    """Return options with the keys of a table."""
    values: dict[str, Any] = {}
    for key, value in keys.items():
        kind = KEYS[key]
        right = _is_words(value) if kind is list else type(value) is int
        if not right and not (key == "groups" and isinstance(value, str)):
            wanted = "list of codes" if kind is list else "number"
            raise UsageError(f"{key} = {value!r} is not a {wanted}.")
        values[key.replace("-", "_")] = tuple(value) if kind is list else value
    if "ignore" in values:
        values["ignore"] = (*options.ignore, *values["ignore"])
    made = replace(options, **values)
    asked(made)  # what can't be is told at once
    return made


def _require(table: Any, known: tuple[str, ...]) -> None:
    """Refuse keys that nobody reads."""
    if not isinstance(table, dict):
        raise UsageError(f"{table!r} is not a table.")
    for key in table:
        if key in known:
            continue
        tip = did_you_mean(key, known)
        if known == TABLES and key in (*KEYS, "overrides"):
            tip = (
                "It belongs in the lint table: [tool.normswap.lint] in pyproject.toml, or "
                "[lint] in normswap.toml."
            )
        raise UsageError(f"Unknown key {key!r}; the keys are {', '.join(known)}.", tip=tip)


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
