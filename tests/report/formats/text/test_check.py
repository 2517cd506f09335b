"""What people see of a check: whole words in a pipe, whole figures on a narrow terminal."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest

from normswap.check.evidence import Truth, gather
from normswap.check.report import CaseReport, CheckReport, OutputReport
from normswap.check.verdict import Verdict, judge, overall
from normswap.report import tell

CASES = ("normal 1x3x224x224, seed 0", "large mean 7x3x224x224, seed 0")


def output(name, case, off=0.0, *, known=True):
    values = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 20)
    other = (values + off).astype(np.float32)
    exact = values.astype(np.float64)
    truth = Truth(exact, exact + off, [exact * (1 + 1e-8)]) if known else None
    evidence = gather(name, [values, values], [other, other], truth)
    return OutputReport(case, evidence, judge(evidence, {}))


def report(*outputs, **more):
    return CheckReport(
        verdict=overall([o.judgement for o in outputs]),
        original="models/a.onnx",
        rewritten="models/b.onnx",
        cases=tuple(CaseReport(case, "normal", {}) for case in CASES),
        outputs=outputs,
        **{"reasons": (), "notes": (), **more},
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def columns(monkeypatch):
    def set_to(number):
        monkeypatch.setenv("COLUMNS", str(number))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")

    return set_to


def printed(found, stream=None, **how):
    stream = stream or io.StringIO()
    tell(found, "text", stream, **how)
    return re.sub(r"\x1b\[\d*m", "", stream.getvalue()) if stream.isatty() else stream.getvalue()


TWO = report(output("logits", CASES[0]), output("embedding[1]", CASES[1], off=1e-2, known=False))


def test_a_pipe_gets_whole_words(columns):
    columns(40)
    long = "a_very_long_name_of_an_output_" * 5
    text = printed(report(output(long, CASES[0], off=0.5), reasons=("because " * 60 + "end",)))
    header, row, reason, verdict = text.splitlines()
    assert header.split()[-1] == "verdict"
    assert row.split()[-1] == "different"
    assert f"{long} float32" in row
    assert CASES[0] in row
    assert reason.endswith("end")
    assert verdict.startswith("different: a.onnx and b.onnx, 1 output on 2 sets of inputs")
    assert "…" not in text
    assert "\x1b" not in text


def test_a_terminal_of_80_columns_shows_every_figure(columns):
    columns(80)
    text = printed(TWO, Terminal())
    assert max(map(len, text.splitlines())) <= 80
    header, first, second = text.splitlines()[:3]
    for word in ("output", "set", "max error", "deployed", "noise", "float64", "allowed"):
        assert word in header
    assert first.split()[-1] == "equivalent"
    assert "different" in second
    assert f"  set 1: {CASES[0]}" in text.splitlines()
    assert f"  set 2: {CASES[1]}" in text.splitlines()
    assert "…" not in text


def test_a_long_name_is_folded_and_not_cut(columns):
    columns(80)
    name = "backbone/stage4/block2/conv3/output_tensor:0"
    text = printed(report(output(name, CASES[0])), Terminal())
    assert max(map(len, text.splitlines())) <= 80
    assert name in "".join(line.split("  ")[0] for line in text.splitlines()[1:])
    assert "equivalent" in text.splitlines()[1]


def test_a_wide_terminal_has_room_for_the_inputs(columns):
    columns(120)
    lines = printed(TWO, Terminal()).splitlines()
    assert CASES[0] in lines[1]
    assert CASES[1] in lines[2]
    assert "set" not in lines[0].split()


def test_brackets_are_no_markup():
    made = report(output("[red]x[/red]", "[0]"), reasons=("see [bold]",), notes=("and [/]",))
    text = printed(made)
    for word in ("[red]x[/red]", "[0]", "see [bold]", "note: and [/]"):
        assert word in text


def test_the_gravest_row_of_each_output_unless_all_are_wanted():
    bad = output("y", CASES[1], off=0.5)
    made = report(output("y", CASES[0]), bad, output("z", CASES[0]))
    rows = [line.split()[0] for line in printed(made).splitlines()[1:-1]]
    assert rows == ["y", "z"]
    assert CASES[1] in printed(made).splitlines()[1]
    assert [line.split()[0] for line in printed(made, verbose=True).splitlines()[1:-1]] == [
        "y",
        "y",
        "z",
    ]


def test_quiet_is_the_verdict_alone():
    text = printed(TWO, verbose=-1)
    assert text.count("\n") == 1
    assert text.startswith("different: ")


def test_models_that_can_not_be_compared():
    made = replace(
        report(), verdict=Verdict.DIFFERENT, structure=("output 'y' is lost",), reasons=("lost",)
    )
    assert (
        printed(made) == "  lost\ndifferent: a.onnx and b.onnx have different inputs or outputs\n"
    )
