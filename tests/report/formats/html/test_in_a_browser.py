"""A page as Chromium shows it: quiet, drawn, sorted, filtered, and as broad as the window."""

import onnx
import pytest
from support.browser import CHROMIUM, Browser
from support.build import Builder
from support.cli import invoke

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

C = 4

CONTRAST = """(() => {
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => c.map((v) => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const rgb = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const ground = light(rgb(getComputedStyle(document.body).backgroundColor));
  const texts = [...document.querySelectorAll("p, dt, dd, th, td, a, .word, summary, code, h2")];
  return Math.min(...texts.map((e) => light(rgb(getComputedStyle(e).color)))
    .map((l) => (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05)));
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    b = Builder(17)
    x = b.input("N", C, 4, 4)
    for number in range(12):
        x = b.bn(b.conv(x, C, C, kernel=(1, 1)), C, name=f"bn{number}", positive=True)
        x = b.node("Relu" if number % 2 else "Sigmoid", x)
    b.output(b.conv(x, C, C, kernel=(1, 1)))
    onnx.save(b.model(), folder / "m.onnx")
    assert invoke("fold", folder / "m.onnx", "--report", folder / "m.html").code == 0
    return folder / "m.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 800, 1280])
def test_at_every_width_in_light_and_dark(browser, report, width, dark):
    browser.resize(width, dark=dark)
    browser.open(report)
    assert browser.messages == []
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.querySelectorAll('.scene svg rect').length") > 6
    assert browser.ask("document.querySelector('.scene svg').getBoundingClientRect().height") > 90
    assert browser.ask("document.querySelector('.plot .rect').getBoundingClientRect().width") > 5
    assert browser.ask(CONTRAST) >= 4.5  # AA


def test_tables_sort_and_filter(browser, report):
    browser.open(report)
    names = "[...document.querySelector('table').tBodies[0].rows].filter(r => !r.hidden)"
    names += ".map(r => r.cells[0].textContent.trim())"
    table = "document.querySelector('table')"
    assert browser.ask(names) == [f"bn{number}" for number in range(12)]
    for order in ("ascending", "descending"):
        browser.ask(f"{table}.querySelector('th button').click()")
        assert browser.ask(f"{table}.querySelector('th').getAttribute('aria-sort')") == order
    assert browser.ask(names) == [f"bn{number}" for number in reversed(range(12))]
    browser.ask(
        "(() => { const input = document.querySelector('input'); input.value = 'bn1 ↑'; "
        "input.dispatchEvent(new Event('input')); })()"
    )
    assert browser.ask(names) == ["bn11", "bn10", "bn1"]
    assert browser.ask("document.querySelector('[role=status]').textContent") == "3 of 12"
    assert browser.messages == []


def test_the_theme_can_be_chosen_and_print_has_all(browser, report):
    browser.resize(1280, dark=False)
    browser.open(report)
    ground = "getComputedStyle(document.body).backgroundColor"
    before = browser.ask(ground)
    browser.ask("document.querySelector('.theme').click()")
    assert browser.ask(ground) != before
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    assert browser.ask("document.querySelectorAll('details:not([open])').length") == 0
    browser.ask("dispatchEvent(new Event('afterprint'))")
    assert browser.ask("document.querySelectorAll('details:not([open])').length") > 0
    assert browser.messages == []
