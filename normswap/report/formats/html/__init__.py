"""Reports to look at: one file with all that it needs, which asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from normswap.plain import kind_of
from normswap.report.envelope import around
from normswap.report.next import tips
from normswap.report.pages import page_of
from normswap.report.pages.page import Items, section

if TYPE_CHECKING:
    from markupsafe import Markup

    from normswap.report.envelope import Envelope, Report

NEEDS = {"jinja2": "jinja2", "pygal": "pygal", "grandalf": "grandalf"}
"""Packages of the extra ``report``, by what is imported of them."""


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Write a report as a page, all of it, however verbose.

    Places are drawn where the envelope has the wiring of the models, as it does where a command
    has read them from files.
    """
    import jinja2
    from markupsafe import Markup

    from normswap.report.formats.html.drawing import draw
    from normswap.report.formats.html.plots import svg_of

    around_it = envelope or around(kind_of(report), int(report.exit_code))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("normswap.report.formats.html", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    loader = environment.loader
    if loader is None:
        raise AssertionError("the environment has the loader that it was given")
    script, style = (loader.get_source(environment, name)[0] for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.filters["breakable"] = _breakable
    environment.filters["coded"] = _coded
    page = page_of(report, around_it.wirings)
    following = section("Next steps", [Items(tips(report, envelope))])
    page = replace(page, sections=(*page.sections, *following))
    text = environment.get_template("page.html").render(
        page=page,
        name=around_it.command or page.command,
        envelope=around_it,
        command=shlex.join(("normswap", *around_it.arguments)) if around_it.arguments else "",
        again=_again(report),
        versions=_versions(around_it),
        script=Markup(script),  # noqa: S704 - our own
        style=Markup(style),  # noqa: S704 - the same
        script_hash=f"sha256-{digest}",
        draw=draw,
        plot=lambda plot: Markup(svg_of(plot)),  # noqa: S704 - of a library that escapes
    )
    stream.write(text + "\n")


def _breakable(name: str) -> Markup:
    """Return a name that a line may break between its parts."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[._:])|(?=/)", name))


def _coded(sentence: str) -> Markup:
    """Return a sentence in which what stands between backticks is code."""
    from markupsafe import Markup

    words, *rest = sentence.split("`")
    found = Markup.escape(words)
    for number, part in enumerate(rest):
        found += part if number % 2 else Markup("<code>{}</code>").format(part)
    return found


def _again(report: Any) -> tuple[tuple[str, str], ...]:
    """Return what a check was made with, by name."""
    found = report if kind_of(report) == "check" else getattr(report, "check", None)
    if found is None:
        return ()
    cases = "; ".join(
        f"{case.name}: " + ", ".join(f"{name} {list(shape)}" for name, shape in case.shapes.items())
        for case in found.cases
    )
    runs = ", ".join(dict.fromkeys(f"{r.engine} {r.version}".rstrip() for r in found.runs))
    devices = ", ".join(dict.fromkeys(run.device for run in found.runs if run.device))
    told = (
        ("seed", str(found.seed)),
        ("depth", found.depth),
        ("provider", found.provider),
        ("compared with provider", found.against_provider or ""),
        ("device", devices),
        ("runtime", runs),
        ("inputs", cases),
    )
    return tuple((name, value) for name, value in told if value)


def _versions(envelope: Envelope) -> tuple[tuple[str, str], ...]:
    import importlib.metadata
    import platform

    told = (
        ("normswap", envelope.normswap),
        ("onnx", envelope.onnx),
        ("onnxruntime", envelope.onnxruntime),
        ("numpy", importlib.metadata.version("numpy")),
        ("python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
    )
    return tuple((name, version) for name, version in told if version)
