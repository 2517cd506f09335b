"""Where a fold without its check spends its time: one process, of which it prints JSON.

What it imports, the fold would too, each part in turn; seconds of the main thread.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

READ = "read the model"
PLAN = "plan, with the operators that are imported for it"

clock = time.thread_time
taken = {"Python itself": clock()}


def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose time is counted as that of a part."""

    def call(*given: Any, **named: Any) -> Any:
        began = clock()
        try:
            return function(*given, **named)
        finally:
            taken[part] = taken.get(part, 0.0) + clock() - began

    return call


def main(model: str, output: str) -> None:
    """Fold a model; print the seconds of each part."""

    def theirs() -> None:
        import click
        import onnx_graphsurgeon

        del click, onnx_graphsurgeon

    def ours() -> None:
        import normswap.cli.fold
        import normswap.workflows.fold

        del normswap

    timed("import click, numpy, onnx and onnx-graphsurgeon", theirs)()
    import dataclasses

    made: Any = dataclasses
    made._process_class = timed("dataclasses", made._process_class)  # noqa: SLF001 - no other door
    timed("imports", ours)()
    import normswap.workflows.fold as workflow
    from normswap.cli import run

    patched: Any = workflow
    patched.load = timed(READ, patched.load)
    patched.make_plan = timed(
        "plan, with the operators that are imported for it", patched.make_plan
    )
    timed("run", run)(["fold", model, "-o", output, "--force", "-q", "--no-check"])
    taken["edit and write, and all else"] = taken.pop("run") - taken[READ] - taken[PLAN]
    classes = taken.pop("dataclasses")
    taken["make the dataclasses of normswap"] = classes
    modules = sum(name.partition(".")[0] == "normswap" for name in sys.modules)
    taken[f"import all else of {modules} modules of normswap"] = taken.pop("imports") - classes
    import json

    print(json.dumps(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
