"""These tests run on a GPU, or say what is missing.

``NORMSWAP_CUDA_TESTS_ON=cpu`` runs them on the CPU instead, but for those that are of CUDA alone:
that tests the tests.
"""

from __future__ import annotations

import os

import pytest

from normswap.runtime.survey import survey


@pytest.fixture(scope="session")
def state():
    """What is installed; asked once."""
    return survey()


@pytest.fixture(scope="session")
def provider(state):
    """The short name of the provider to test on; without it the test is skipped."""
    name = os.environ.get("NORMSWAP_CUDA_TESTS_ON", "cuda")
    status = state.status(name)
    if not status.usable:
        pytest.skip(status.why)
    return name


@pytest.fixture
def on_cuda(provider):
    """The provider, for a test that makes no sense but on CUDA."""
    if provider != "cuda":
        pytest.skip(f"this is of CUDA alone, and the tests run on {provider}")
    return provider
