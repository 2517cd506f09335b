"""Settings for the whole suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session", autouse=True)
def one_fit():
    """A fit to the outputs is made once and not ten times, which takes half a minute on digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("normswap.groupnorm.refit.walk.TIMES", 1)
        yield
