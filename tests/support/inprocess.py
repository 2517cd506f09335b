"""Work without child processes, for tests of what comes of it and not of how it is run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import threading
from pathlib import Path
from unittest import mock

from normswap.check.options import CheckOptions
from normswap.runtime.child import Child
from normswap.runtime.session import Session
from normswap.runtime.worker import Channel
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


@contextlib.contextmanager
def sessions_here():
    """Let sessions load and run their models in this process."""
    one_at_a_time = threading.Lock()

    def started(session, label, **_options):
        session.label, session.held = label, {}

    def opened(session, *arguments, **options):
        with one_at_a_time, mock.patch.object(Child, "__init__", started):
            open_session(session, *arguments, **options)

    def call(session, task, request):
        module, function = task.split(":")
        job = Channel(io.BytesIO(), session.held)
        return getattr(importlib.import_module(module), function)(request, job)

    open_session = Session.__init__
    close = Session.close
    own = {"__init__": opened, "call": call, "close": lambda session: session.held.clear()}
    with mock.patch.multiple(Session, **own):
        yield
    assert Session.close is close
