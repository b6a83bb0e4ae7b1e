"""The Makefile where people put it, with a Python that only says what it was asked for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sparsecnn.files import REPOSITORY

PYTHON = """#!/bin/sh
printf '%s|' "$SPARSECNN_OUTPUT" "$HOME" "$PYTHONUTF8" "$*" "$PYTHONDONTWRITEBYTECODE" >> asked
echo >> asked
"""


@pytest.fixture(params=["plain", "a space", 'it\'s "quoted"', "Übung ö", "semi;colon & more"])
def folder(request, tmp_path) -> Path:
    folder = tmp_path / request.param
    pages = ("README.md", "RELIABILITY.md", "CONTRIBUTING.md", "benchmarks/README.md", "benchmarks/gpu/README.md")
    for name in ("Makefile", *pages, "site", "docs"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, folder / name)
    for name in ("notebooks/00_a.ipynb", "figures/a.png", "build/report/notebooks/00_a.ipynb", "bin/python"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(PYTHON if name == "bin/python" else "", encoding="utf-8")
    (folder / "bin/python").chmod(0o755)
    return folder


def make(folder: Path, target: str, **env) -> list[list[str]]:
    """What Python was asked for: output folder, home folder, UTF-8 mode, arguments, whether to keep no bytecode."""
    # Without the lines that tell a make within make what to do.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | env
    command = ["make", "--old-file=.venv/ready", target, "BIN=bin"]
    done = subprocess.run(command, cwd=folder, env=env | {"PWD": str(folder)}, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return [line.split("|") for line in (folder / "asked").read_text(encoding="utf-8").splitlines()]


def test_report_works_in_any_folder(folder):
    asked = make(folder, "report", HOME=str(folder / "missing"))
    (report,) = [line for line in asked if "papermill" in line[3]]
    assert report[0] == str(folder / "build/report")
    assert {line[1] for line in asked} == {str(folder / "build/home")} and (folder / "build/home").is_dir()
    assert {line[2] for line in asked} == {"1"}
    assert "sphinx" in asked[-1][3] and "build/report/html" in asked[-1][3]


def test_a_home_that_can_be_written_to_stays(folder, tmp_path):
    assert {line[1] for line in make(folder, "html", HOME=str(tmp_path))} == {str(tmp_path)}


def test_python_keeps_its_bytecode_where_the_environment_says_it_should_not(folder):
    assert {line[4] for line in make(folder, "html", PYTHONDONTWRITEBYTECODE="1")} == {""}
