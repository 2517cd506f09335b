"""A report as a page: one file, all names text, and a picture of each kind of place."""

import hashlib
import importlib.util
import io
import re
import sys
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.cli import invoke

from normswap.fleet.work import FleetReport, Outcome
from normswap.report import tell

C = 4
EVIL = '<script>alert("&")</script>'


class Document(HTMLParser):
    """The elements of a page, each with its attributes, and the text in it."""

    VOID = ("meta", "link", "input", "br", "wbr", "rect", "path", "circle")

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        assert not self.open
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def pictures(self):
        """Return what each picture shows, before and after."""
        return [a["aria-label"] for a in self.all("svg") if a.get("role") == "img"]


def save(path, blocks):
    """Write a chain of Conv, BatchNormalization and Relu; then a BatchNormalization that stays."""
    b = Builder(17)
    x = b.input("N", C, 4, 4)
    for number in range(blocks):
        x = b.conv(x, C, C, kernel=(1, 1), name=f"conv{number}")
        x = b.node("Relu", b.bn(x, C, name=f"bn{number}", positive=True))
    b.output(b.bn(b.node("Sigmoid", x), C, name=EVIL, out="y"))
    onnx.save(b.model(), path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    save(folder / "model.onnx", 3)
    return folder


@pytest.fixture(scope="module")
def page(home):
    done = invoke("fold", home / "model.onnx", "--report", home / "fold.html")
    assert done.code == 0
    return Document((home / "fold.html").read_text("utf-8"))


def test_one_file_that_asks_for_nothing(page):
    assert not [a for _, a in page.elements if "src" in a]
    assert not [a for a in page.all("a") if not a["href"].startswith("#")]
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    assert len(page.all("script")) == 1


def test_no_import_is_another_for_it(page):
    assert all(hasattr(finder, "find_spec") for finder in sys.meta_path)


def test_a_name_is_text(page):
    assert EVIL in page.text


def test_for_keyboards_and_screen_readers(page):
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)
    assert {a["aria-labelledby"] for a in page.all("section")} <= set(ids)
    assert len(page.all("table")) == len(page.all("caption")) > 3
    assert {a["scope"] for a in page.all("th")} == {"col", "row"}
    assert page.all("main")
    assert page.all("html") == [{"lang": "en"}]


def test_what_looks_alike_is_drawn_once(page):
    goes = "Conv (changed), BatchNormalization (removed), Relu"
    assert page.pictures() == [
        f"before: Relu, {goes}",
        "after: Relu, Conv (changed), Relu",
        f"before: input, {goes}",
        "after: input, Conv (changed), Relu",
    ]
    assert "Relu → Conv · BatchNormalization → Relu" in page.text


def test_all_that_is_needed_to_make_it_again(page, home):
    digest = hashlib.sha256((home / "model.onnx").read_bytes()).hexdigest()
    for told in (digest, "seed 0", "normswap fold", onnx.__version__, "equivalent, proved"):
        assert told in page.text


def test_a_dry_run_is_drawn_as_planned(home):
    invoke("fold", home / "model.onnx", "--dry-run", "--output", f"html={home / 'dry.html'}")
    found = Document((home / "dry.html").read_text("utf-8"))
    assert "after: Relu, Conv (changed), Relu" in found.pictures()
    assert "What would be done" in found.text


def test_what_was_there_before_it_was_replaced(tmp_path):
    save(tmp_path / "a.onnx", 2)
    invoke("fold", tmp_path / "a.onnx", "--in-place", "--no-check", "--report", tmp_path / "a.html")
    found = Document((tmp_path / "a.html").read_text("utf-8"))
    assert "before: input, Conv (changed), BatchNormalization (removed), Relu" in found.pictures()
    assert "after: input, Conv (changed), Relu" in found.pictures()
    assert "not checked" in found.text


def test_a_model_from_a_pipe(home):
    data = (home / "model.onnx").read_bytes()
    done = invoke("fold", "--no-check", "--report", home / "pipe.html", stdin=data)
    assert onnx.load_from_string(done.out).graph.node
    assert len(Document((home / "pipe.html").read_text("utf-8")).pictures()) == 4


def test_a_swap_and_the_regions_of_a_check(home):
    made, folded = home / "gn.onnx", home / "again.onnx"
    asked = ("--groups", 2, "--form", "instancenorm", "--no-normalize", "--no-check")
    invoke("bn-to-gn", home / "model.onnx", "-o", made, *asked, "--report", home / "gn.html")
    found = Document((home / "gn.html").read_text("utf-8"))
    assert any("InstanceNormalization (added)" in label for label in found.pictures())
    invoke("fold", home / "model.onnx", "-o", folded, "--no-check")
    invoke("check", home / "model.onnx", folded, "--report", home / "c.html")
    found = Document((home / "c.html").read_text("utf-8"))
    assert any("BatchNormalization (removed)" in label for label in found.pictures())


def test_branches_that_become_one_are_one_picture(tmp_path):
    b = Builder(17)
    x = b.node("Relu", b.input("N", C, 4, 4))
    y = b.bn(b.conv(x, C, C, kernel=(1, 1)), C, positive=True)
    b.output(b.node("Relu", b.node("Add", y, b.bn(x, C, positive=True))))
    onnx.save(b.model(), tmp_path / "a.onnx")
    invoke("fold", tmp_path / "a.onnx", "--no-check", "--report", tmp_path / "a.html")
    before, after = Document((tmp_path / "a.html").read_text("utf-8")).pictures()
    assert before.count("BatchNormalization (removed)") == 2
    assert "Add (removed)" in before
    assert after == "after: Relu, Conv (changed), Relu"


def test_what_next_has_its_command_as_code(home):
    model = "models/digits_resnet_training.onnx"
    invoke("fold", model, "--dry-run", "--report", home / "next.html")
    text = (home / "next.html").read_text("utf-8")
    assert f"<code>normswap recalibrate --freeze {model}</code>" in text


def test_the_region_that_differs_is_drawn_first(home, tmp_path):
    assert invoke("fold", home / "model.onnx", "--no-check", "-o", tmp_path / "b.onnx").code == 0
    model = onnx.load(tmp_path / "b.onnx")
    conv = next(node for node in model.graph.node if node.name == "conv1")
    stored = next(each for each in model.graph.initializer if each.name == conv.input[1])
    values = onnx.numpy_helper.to_array(stored) * np.float32(1.01)
    stored.CopyFrom(onnx.numpy_helper.from_array(values, stored.name))
    onnx.save(model, tmp_path / "b.onnx")
    told = ("--check", "proof", "--report", tmp_path / "c.html")
    assert invoke("check", home / "model.onnx", tmp_path / "b.onnx", *told).code == 1
    text = Document((tmp_path / "c.html").read_text("utf-8")).text
    headings = "Where the function differs|Where only the operators differ|What was tested"
    _, differs, same, _ = re.split(headings, text[text.index("seconds") :])
    assert (differs.count("Conv conv1"), same.count("Conv conv1")) == (2, 0)
    assert same.count("Conv conv0") == same.count("Conv conv2") == 2


def test_many_models_are_a_table():
    done = Outcome("a.onnx", 0, "5 folded, 0 kept", "a.folded.onnx", seconds=1.5)
    gone = Outcome(EVIL, 3, f"{EVIL} doesn't exist.")
    stream = io.StringIO()
    tell(FleetReport("fold", (done, gone)), "html", stream)
    found = Document(stream.getvalue())
    assert "1 with findings or errors" in found.text
    assert f"{EVIL} doesn't exist." in found.text
    assert "a.folded.onnx" in found.text
    assert {"2", "1.5"} <= set(found.words)


def test_three_hundred_layers_are_small(tmp_path):
    save(tmp_path / "a.onnx", 300)
    invoke("fold", tmp_path / "a.onnx", "--no-check", "--report", tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text("utf-8")
    assert len(Document(text).pictures()) == 4
    assert "299\N{MULTIPLICATION SIGN} Relu → Conv · BatchNormalization → Relu" in re.sub(
        r"<[^>]+>", "", text
    )
    assert len(text) < 300_000


def test_what_it_needs_is_named_before_any_work(home, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "pygal" else find(n))
    done = invoke("fold", home / "model.onnx", "--force", "--report", home / "never.html")
    assert done.code == 2
    assert "pygal" in done.err
    assert "pip install 'normswap[report]'" in done.err
    assert not (home / "never.html").exists()
