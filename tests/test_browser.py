"""The web page and JupyterLab in a real browser: the system's Chromium, driven by Playwright."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

from sparsecnn.files import REPOSITORY

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NOTEBOOKS = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("[0-9]*.ipynb"))
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site() -> Path:
    """What `make html` builds, with this Python's packages."""
    # Without the lines that tell a make within make what to do.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--old-file=.venv/ready", "html", f"BIN={Path(sys.executable).parent}"]
    subprocess.run(command, cwd=REPOSITORY, env=env, check=True, timeout=300)
    return REPOSITORY / "build/html"


def test_site_is_small_and_whole(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 16e6
    assert {path.stem for path in site.glob("notebooks/*.html")} == set(NOTEBOOKS)
    assert {path.name for path in (REPOSITORY / "docs").glob("*.md")} == {
        f"{path.stem}.md" for path in site.glob("docs/*.html")
    }


def pages_of(site: Path) -> list[str]:
    """Every page, but for those of Sphinx's own, the code among them."""
    paths = (path.relative_to(site) for path in site.rglob("*.html"))
    names = (path.with_suffix("").as_posix() for path in paths if path.parts[0] not in ("_static", "_modules"))
    return sorted(name for name in names if name not in ("genindex", "search"))


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_renders_offline(site, browser, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    trouble = []
    page.on("requestfailed", lambda request: trouble.append(f"not loaded: {request.url}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    for name in pages_of(site):
        page.goto((site / f"{name}.html").as_uri())
        assert page.locator("html").get_attribute("data-theme") == scheme
        assert page.locator("article h1").count() == 1
        page.wait_for_function(
            "() => [...document.querySelectorAll('.math')].every(e => e.querySelector('mjx-container svg'))"
        )
        for image in page.locator("article img").all():
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
            assert len(image.get_attribute("alt") or "") > 40, f"{name}: an image without alternative text"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than the screen"
        assert page.locator(".output.traceback, .stderr").count() == 0
    context.close()
    assert trouble == []


def test_every_link_leads_somewhere(site, browser):
    page = browser.new_page()
    dead = []
    for name in pages_of(site):
        page.goto((site / f"{name}.html").as_uri())
        for href in page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)"):
            address = urlsplit(href)
            if address.scheme != "file":
                continue  # elsewhere: nothing that this page can keep right
            target = Path(unquote(address.path))
            anchor = unquote(address.fragment)
            if not target.is_file() or (
                anchor and not re.search(rf"""id=["']{re.escape(anchor)}["']""", target.read_text(encoding="utf-8"))
            ):
                dead.append(f"{name}: {href}")
    page.close()
    assert dead == []


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> str:
    """The address of a JupyterLab over copies of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(REPOSITORY / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*", "out*"))
    settings = folder / "settings/@jupyterlab"
    (settings / "notebook-extension").mkdir(parents=True)
    # Else only the cells in sight are drawn.
    (settings / "notebook-extension/tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    (settings / "apputils-extension").mkdir()
    (settings / "apputils-extension/notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "SPARSECNN_OUTPUT": str(folder / "output"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0"]
    command += ["--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    with open(folder / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            for _ in range(360):  # three minutes, on a busy machine
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api")
                    break
                except OSError:
                    assert server.poll() is None, (folder / "log").read_text()
                    time.sleep(0.5)
            else:
                pytest.fail(f"JupyterLab does not answer: {(folder / 'log').read_text()}")
            yield f"http://127.0.0.1:{port}/lab/tree"
        finally:
            server.terminate()
            server.wait(30)


def opened(browser, lab: str, name: str) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(f"{lab}/{name}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    return page


def committed(name: str, kind: str) -> int:
    """How many outputs of that kind a notebook is committed with."""
    cells = json.loads((REPOSITORY / f"notebooks/{name}.ipynb").read_text())["cells"]
    return sum(kind in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


def wait_for_outputs(page: Page, selector: str, count: int) -> None:
    page.wait_for_function(f"() => document.querySelectorAll('.jp-OutputArea {selector}').length == {count}")


IMAGES, PAGES = ".jp-RenderedImage img", ".jp-RenderedHTML"
ERRORS = ".jp-OutputArea [data-mime-type='application/vnd.jupyter.stderr']"  # JupyterLab shows an error as stderr


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_lab_shows_what_is_committed(browser, lab, name):
    page = opened(browser, lab, name)
    wait_for_outputs(page, IMAGES, committed(name, "image/png"))
    wait_for_outputs(page, PAGES, committed(name, "text/html"))
    assert page.locator(ERRORS).count() == 0
    page.close()


@pytest.mark.parametrize("name", ["00_sparsification", "01_architecture"])
def test_lab_runs_all_cells(browser, lab, name):
    page = opened(browser, lab, name)
    figures = committed(name, "image/png")
    wait_for_outputs(page, IMAGES, figures)
    # The bar's, since the notebook's own indicator says idle before there is a kernel, and cells then run on nothing.
    page.wait_for_selector("#jp-main-statusbar :text('| Idle')")
    page.click("text=Run")
    page.click("text=Run All Cells")
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    errors = page.locator(ERRORS)
    deadline = time.monotonic() + 240
    page.wait_for_selector(".jp-InputPrompt:has-text('[*]')")  # until then they show the numbers of the committed run
    while not errors.count() and (
        waiting := [text for text in prompts.all_inner_texts() if not re.search(r"\d", text)]
    ):
        assert time.monotonic() < deadline, f"cells that had not run after four minutes: {waiting}"
        page.wait_for_timeout(500)
    assert errors.all_inner_texts() == []
    sliders = 2 if name == "00_sparsification" else 0
    wait_for_outputs(page, IMAGES, figures - sliders)  # where the still was is a slider now
    if sliders:
        picture = page.locator(".jupyter-widgets.widget-image, img.widget-image").first
        picture.wait_for()
        before = picture.get_attribute("src")
        handle = page.locator(".jupyter-widgets .noUi-handle").first
        handle.scroll_into_view_if_needed()
        handle.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("before => document.querySelector('img.widget-image').src != before", arg=before)
        assert "75%" in page.locator(".widget-readout").first.inner_text()
        before = picture.get_attribute("src")
        page.click(".widget-toggle-button:has-text('bernoulli')")
        page.wait_for_function("before => document.querySelector('img.widget-image').src != before", arg=before)
    page.close()
