"""Settings for the whole suite."""

from __future__ import annotations

import os

# Before NumPy is imported: workers that share the cores wait for each other's threads.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from support.sharing import shared_processes

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_modifyitems(items):
    """Begin with what takes long, or in the end one worker does it and the others wait."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def one_fit():
    """A fit to the outputs is made once, not twelve times: on digits that takes half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("normswap.groupnorm.refit.outputs.TIMES", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def processes():
    """Have one process of the runtime serve many tests."""
    with shared_processes() as pool:
        yield pool


@pytest.fixture
def own_processes(processes, monkeypatch):
    """Let every command start processes of its own, as it does outside of tests."""
    monkeypatch.setattr(processes, "is_open", False)
