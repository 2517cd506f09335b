"""A process that is kept: who gets it, and who doesn't."""

import pytest

from normswap.errors import RunError
from normswap.runtime import lending
from normswap.runtime.lending import lent

pytestmark = pytest.mark.usefixtures("own_processes")


@pytest.fixture
def idle(monkeypatch):
    found = []
    monkeypatch.setattr(lending, "_idle", found)
    yield found
    for child in found:
        child.close()


def test_what_is_well_is_lent_again(idle):
    with lent("one", timeout=60, memory_limit=None) as first:
        assert idle == []
    with lent("two", timeout=60, memory_limit=None) as second:
        assert second is first
        assert second.label == "two"


def test_a_process_that_was_ended_is_not_lent_again(idle):
    # As that of two models without a common output, of which none is run.
    with lent("one", timeout=60, memory_limit=None) as child:
        child.kill()
    with pytest.raises(RunError), lent("two", timeout=60, memory_limit=None):
        raise RunError("it failed")
    assert idle == []
