"""Progress where it runs: lines on stderr under papermill and in a log file, a bar in a page or a terminal."""

import io
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import IPython
import nbformat
import pytest

from sparsecnn import progress
from sparsecnn.progress import bar, has_page, say

CODE = """
from sparsecnn.experiment import experiment
from sparsecnn.progress import has_page
from sparsecnn.sweeps.plan import rows_of
runs = [experiment("digits", "controlled", "ConvNet", 0.5, epochs=2, train_images=100)]
print("page:", has_page())
rows_of(runs, train=True, device="cpu", parameters=["epochs"])
"""


@pytest.fixture
def kernel(monkeypatch):
    """Takes the place of this process's kernel; its requests say that a page sent them where ``asked`` is set."""
    content = {"allow_stdin": False}
    kernel = SimpleNamespace(get_parent=lambda _: {"content": content})
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
    return content


def test_under_papermill_lines_come_on_stderr_even_inside_a_jupyter_environment(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    env = os.environ | {"SPARSECNN_OUTPUT": str(tmp_path), "JPY_SESSION_NAME": "/somebody/elses.ipynb"}
    del env["PYTEST_CURRENT_TEST"]  # with it a kernel leaves its stderr as it is
    command = [sys.executable, "-m", "papermill", "-k", "python3", "in.ipynb", "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "To train: 1 run, how long it takes is said after the first epoch; shorter with epochs=1\n" in done.stderr
    assert re.search(r"^1 run: 0 of 2 epochs, 00:00 passed, \? left$", done.stderr, re.M)
    assert re.search(r"^1 run: 2 of 2 epochs, \d+:\d+ passed, 00:00 left, ConvNet", done.stderr, re.M)
    outputs = nbformat.read(tmp_path / "out.ipynb", 4).cells[0].outputs
    shown = "".join(output.get("text", "") for output in outputs)
    assert shown.startswith("page: False\nData in ") and "\nTo train: 1 run, " in shown
    assert not any("widget" in kind for output in outputs for kind in output.get("data", {}))


def test_a_page_is_one_that_may_be_asked(kernel, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "inherited.ipynb")
    assert not has_page()
    kernel["allow_stdin"] = True
    assert has_page()
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    assert not has_page()


def test_a_page_has_the_line_in_its_output_alone(kernel, capsys):
    kernel["allow_stdin"] = True
    say("so it is")
    assert capsys.readouterr() == ("so it is\n", "")


def test_a_log_file_has_lines_and_a_terminal_a_bar(monkeypatch):
    for isatty in (False, True):
        file = io.StringIO()
        file.isatty = lambda isatty=isatty: isatty
        monkeypatch.setattr(sys, "stderr", file)
        with bar(3, desc="work", unit="step") as shown:
            shown.update(3)
        assert ("\r" in file.getvalue()) == isatty
        if not isatty:
            assert file.getvalue().splitlines()[0] == "work: 0 of 3 steps, 00:00 passed, ? left"
            assert file.getvalue().splitlines()[-1] == "work: 3 of 3 steps, 00:00 passed, 00:00 left"


def test_lines_keep_apart(monkeypatch, capsys):
    with bar(1000, desc="work", unit="step") as shown:
        for _ in range(1000):
            shown.update()
    assert len(capsys.readouterr().err.splitlines()) == 2
    monkeypatch.setattr(progress, "APART", 0)
    with bar(5, desc="work", unit="step") as shown:
        for _ in range(5):
            shown.update()
    assert len(capsys.readouterr().err.splitlines()) >= 5
