"""Checks without child processes, for tests of what a check finds and not of how it is run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from unittest import mock

from normswap.check.options import CheckOptions
from normswap.workflows.check import check

_FILE = Path(__file__).parents[2] / "benchmarks" / "backend_suite.py"


def load_benchmark():
    """Return the module benchmarks/backend_suite.py."""
    spec = importlib.util.spec_from_file_location("backend_suite", _FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


backend_suite = load_benchmark()


def check_here(original, rewritten, **options):
    """Test two models in this process; what the check proves of them has tests of its own."""
    options.setdefault("proof", False)
    with mock.patch("normswap.check.runner.run_task", backend_suite.here):
        return check(original, rewritten, CheckOptions(**options))
