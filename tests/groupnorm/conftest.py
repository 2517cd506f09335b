"""Fixtures of these tests."""

from __future__ import annotations

import pytest
from support.inprocess import sessions_here


@pytest.fixture(scope="module")
def sessions_in_process():
    """Run models in this process, where a test is of what is made of their tensors."""
    with sessions_here():
        yield
