"""What a release needs is in order."""

import re
from importlib import metadata
from pathlib import Path

import normswap

ROOT = Path(__file__).parent.parent


def test_the_version_is_one():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert cited == normswap.__version__ == metadata.version("normswap")


def test_the_checklist_names_what_is_there():
    text = (ROOT / "RELEASING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:\.github|normswap|docs|tests)/[\w/.-]+|CITATION.cff)`", text):
        assert (ROOT / path).exists(), path
