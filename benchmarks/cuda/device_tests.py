"""The step ``tests``: the outcome of every test in ``tests/cuda``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from benchmarks.cuda.page import Section

ROOT = Path(__file__).parents[2]
OUTCOMES = ("passed", "failed", "skipped")


def run(section: Section, provider: str, folder: Path, jobs: int) -> bool:
    """Run them; return whether none failed. What pytest prints goes to ``tests.txt``."""
    junit, log = folder / "tests.xml", folder / "tests.txt"
    junit.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-v", "tests/cuda", f"--junitxml={junit}"]
    command += ["-p", "no:cacheprovider", *(["-n", str(jobs)] if jobs > 1 else [])]
    variables = {**os.environ, "NORMSWAP_CUDA_TESTS_ON": provider, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as out:
        code = subprocess.run(
            command, cwd=ROOT, env=variables, stdout=out, stderr=out, check=False
        ).returncode
    if not junit.exists():
        section.text(f"pytest ended with exit code {code} and left no report.")
        return False
    counts, details = outcomes(junit)
    section.table(["test", *OUTCOMES])
    for name, found in counts.items():
        told = name.removeprefix("test_").replace("_", " ")
        section.row([told, *(str(found[outcome]) for outcome in OUTCOMES)])
    total = sum(counts.values(), Counter())
    section.row(["**all**", *(f"**{total[outcome]}**" for outcome in OUTCOMES)])
    for line in details:
        section.text(line)
    return code == 0


def outcomes(junit: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """Return how often each test had each outcome, and a line for each failure."""
    suite = ET.parse(junit).getroot()  # noqa: S314 - pytest has just written it
    counts: dict[str, Counter[str]] = {}
    details = []
    for case in suite.iter("testcase"):
        outcome, why = _outcome(case)
        name = case.attrib["name"].partition("[")[0]
        counts.setdefault(name, Counter())[outcome] += 1
        if outcome == "failed":
            details.append(f"- `{case.attrib['name']}`: {why}")
    return counts, details


def _outcome(case: ET.Element) -> tuple[str, str]:
    for tag, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            return outcome, " ".join(found.attrib.get("message", "").split())[:300]
    return "passed", ""
