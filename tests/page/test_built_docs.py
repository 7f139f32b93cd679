"""The documentation as it was built: opened in a browser without network, it lacks nothing.

sphinx-build -W docs docs/_build && pytest --docs docs/_build tests/page/test_built_docs.py
"""

import html
import json
import re
from pathlib import Path

import pytest

DISPLAYED = re.compile(r"<(?:pre|code|script|style|math)\b.*?</(?:pre|code|script|style|math)>", re.DOTALL)
LOADED = re.compile(r"<(?:script|link|img|iframe|source|video|audio|object)\b[^>]*?(?:src|href|data)=\"([^\"]*)\"")
STYLED = re.compile(r"(?:@import\s+|url\(\s*)[\"']?((?:https?:)?//[^\"')\s]+)")


@pytest.fixture(scope="module")
def built(request):
    folder = request.config.getoption("--docs")
    if folder is None:
        pytest.skip("no --docs, the folder in which the documentation was built")
    return Path(folder).resolve()


def pages(built):
    found = sorted(path for path in built.rglob("*.html") if "_static" not in path.parts)
    assert len(found) > 40
    return found


def test_no_page_names_anything_remote_to_be_loaded(built):
    remote = [
        (page.name, address)
        for page in pages(built)
        for address in LOADED.findall(page.read_text(encoding="utf-8"))
        if re.match(r"(https?:)?//", address)
    ]
    remote += [
        (style.name, address)
        for style in built.rglob("*.css")
        for address in STYLED.findall(style.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert not remote


def test_no_page_shows_raw_tex(built):
    """Outside of code: no command of TeX, no dollar around a formula; and no formula that failed."""
    raw = []
    for page in pages(built):
        text = page.read_text(encoding="utf-8")
        assert "<merror" not in text
        shown = html.unescape(re.sub(r"<[^>]+>", " ", DISPLAYED.sub(" ", text)))
        raw += [(page.name, found) for found in re.findall(r"\\(?:[a-zA-Z]{2,}|\(|\[)|\$[^$\n]{1,80}\$", shown)]
        formulas = re.findall(r"<math\b.*?</math>", text, re.DOTALL)
        raw += [(page.name, found) for formula in formulas for found in re.findall(r"\\[a-zA-Z]+", formula)]
    assert not raw


def test_a_browser_without_network_asks_for_nothing_and_draws_the_formulas(built, chromium):
    chromium.execute_cdp_cmd("Network.enable", {})
    chromium.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    chromium.get_log("performance")
    heights = []
    try:
        for page in pages(built):
            chromium.get(page.as_uri())
            script = "return [...document.querySelectorAll('math')].map(x => x.getBoundingClientRect().height)"
            heights += chromium.execute_script(script)
            broken = "return [...document.images].filter(x => x.complete && !x.naturalWidth).map(x => x.src)"
            assert chromium.execute_script(broken) == [], page.name
    finally:
        chromium.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )
    assert len(heights) > 100
    assert min(heights) > 3, "every formula has a height"
    asked = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    addresses = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
    assert addresses, "the browser tells; chrome: is its own first page"
    assert not [
        address
        for address in addresses
        if not address.startswith(("file:", "data:", "blob:", "chrome:", "chrome-untrusted:"))
    ]


def test_live_figures_live_and_have_a_still_picture(built, chromium):
    """The text has the picture, for readers without script; with script, every figure takes its place."""
    count = 0
    for page in pages(built):
        stills = re.findall(
            r'<figure class="live".*?<img[^>]*src="([^"]*)"', page.read_text(encoding="utf-8"), re.DOTALL
        )
        if not stills:
            continue
        assert all((page.parent / still).is_file() for still in stills)
        chromium.get(page.as_uri())
        drawn = (
            "return [...document.querySelectorAll('figure[data-figure]')].map(x => x.querySelectorAll('canvas').length)"
        )
        canvases = chromium.execute_script(drawn)
        assert len(canvases) == len(stills)
        assert min(canvases) >= 2, page.name
        assert not [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"], page.name
        count += len(stills)
    assert count >= 8


def test_the_text_fits_into_windows_of_every_width(built, chromium):
    try:
        for width in (500, 800, 1050, 1100, 1250, 1400, 1900):
            chromium.set_window_size(width, 900)
            chromium.get((built / "critical_points.html").as_uri())
            beyond = "return document.querySelector('article').getBoundingClientRect().right - window.innerWidth"
            assert chromium.execute_script(beyond) <= 0, width
    finally:
        chromium.set_window_size(1200, 800)
