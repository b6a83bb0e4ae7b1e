"""Where data, cache and results go, and how files are read and written."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparsecnn.checks import SettingError
from sparsecnn.data.downloads import data_root
from sparsecnn.files import REPOSITORY, output_root

ELSEWHERE = """
from sparsecnn.data.downloads import data_root
from sparsecnn.files import HOME, output_root
from sparsecnn.training.train import _commit
print(data_root(), HOME, output_root(), repr(_commit()), sep="|")
"""


@pytest.mark.parametrize(("variable", "root"), [("SPARSECNN_OUTPUT", output_root), ("SPARSECNN_DATA", data_root)])
def test_a_relative_folder_is_refused_since_a_notebook_runs_elsewhere(variable, root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "out")
    with pytest.raises(SettingError, match=f"^{variable}=out is not allowed: a whole path, say {tmp_path}/out$"):
        root()
    monkeypatch.setenv(variable, "")
    assert REPOSITORY in (root(), root().parent)


def test_a_copy_elsewhere_works_in_the_current_folder_and_knows_no_commit(tmp_path):
    """As a wheel, or a copy in another project, whose git is not its own."""
    project, work = tmp_path / "project", tmp_path / "work"
    shutil.copytree(REPOSITORY / "sparsecnn", project / "sparsecnn", ignore=shutil.ignore_patterns("__pycache__"))
    work.mkdir()
    env = os.environ | {"PYTHONPATH": str(project)}
    env = {name: value for name, value in env.items() if not name.startswith("SPARSECNN")}
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "another project"]):
        subprocess.run([*git, *command], check=True)
    command = [sys.executable, "-OO", "-c", ELSEWHERE]
    told = subprocess.run(command, cwd=work, env=env, capture_output=True, encoding="utf-8", check=True).stdout
    assert told.strip().split("|") == [f"{work}/data", str(work), str(work), "''"]


def test_the_commit_is_this_repositorys_whatever_git_is_told(tmp_path):
    if not (REPOSITORY / ".git").exists():
        pytest.skip("no checkout")
    command = [sys.executable, "-c", "from sparsecnn.training.train import _commit; print(_commit())"]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    told = [
        subprocess.run(command, env=env | more, capture_output=True, encoding="utf-8", check=True).stdout
        for more in ({}, {"GIT_DIR": str(tmp_path), "GIT_WORK_TREE": str(tmp_path), "GIT_INDEX_FILE": "none"})
    ]
    assert told[0] == told[1] and len(told[0].strip("+\n")) >= 7


def test_every_file_is_read_and_written_with_a_named_encoding():
    """Else it is the locale's, and the same file another one elsewhere."""
    unnamed = []
    for folder in ("sparsecnn", "benchmarks", "site"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _opens_text(node):
                    unnamed.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    assert unnamed == []


def _opens_text(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    named = {word.arg: word.value for word in call.keywords}
    if name in ("read_text", "write_text"):
        return "encoding" not in named
    if name in ("open", "fdopen"):
        modes = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
        binary = any("b" in mode for mode in modes if isinstance(mode, str) and Path(mode).suffix == "")
        other = ast.unparse(call.func) in ("Image.open", "os.open", "gzip.open", "tarfile.open")  # bytes
        return not (binary or other or "encoding" in named)
    return name in ("run", "Popen", "check_output") and "text" in named
