"""What the document says of onnx's reference and of the runtime is so, and is all that is known."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.draws.case import apart, runtime, truth
from support.draws.evaluators import arbiter, reference
from support.reference_errors import DEPARTURES, VERSION, document
from support.reference_table import WRONG

from normswap.semantics.registry import meanings

DOCS = Path(__file__).parents[2] / "docs"
THIS = pytest.mark.skipif(onnx.__version__ != VERSION, reason="of another onnx")


@THIS
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(WRONG))
def test_the_reference_is_wrong_where_it_is_said_to_be(name):
    wrong = WRONG[name]
    case = wrong.case(name)
    right = truth(case)
    assert case.since in wrong.opsets
    assert set(wrong.opsets) <= meanings()["", name].since
    assert apart(arbiter(case), right, case) is None
    try:
        found = reference(case)
    except Exception:  # noqa: BLE001 - it raises on a legal node
        return
    assert apart(found, right, case) is not None


@pytest.mark.parametrize("departure", DEPARTURES, ids=lambda d: d.case.op)
def test_the_runtime_departs_where_it_is_said_to(departure):
    case = departure.case
    right = [np.asarray(departure.right)]
    if case.op != "NonZero":
        right = [right[0].astype(np.float32)]
    assert apart(arbiter(case)[:1], right, case) is None
    assert apart(runtime(case)[:1], right, case) is not None


@THIS
@pytest.mark.filterwarnings("ignore")
def test_the_document_is_what_the_tables_say():
    written = (DOCS / "reference-evaluator.md").read_text(encoding="utf-8")
    assert written == document()
    assert "(reference-evaluator.md)" in (DOCS / "check.md").read_text(encoding="utf-8")
