"""Sweeps from scripts: with and without the guard that processes need, and from stdin."""

import os
import signal
import subprocess
import sys

import pytest

from sparsecnn.sweeps.executors import _why_broken

SCRIPT = """
from sparsecnn.experiment import experiment
from sparsecnn.sweep import sweep
runs = [experiment("digits", "controlled", "ConvNet", 0.5, seed, epochs=1, train_images=8) for seed in (0, 1)]
{guard}sweep(runs, "cpu", workers=2)
"""


def run(tmp_path, *arguments, **settings) -> subprocess.CompletedProcess:
    env = os.environ | {"SPARSECNN_OUTPUT": str(tmp_path)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, **settings)


def test_a_script_without_a_guard_is_told_so_and_does_not_hang(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(guard=""))
    done = run(tmp_path, "script.py")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    error = done.stderr.splitlines()[-1]
    assert "TrainingError: the processes that train read the script that calls" in error
    assert "if __name__ == '__main__':" in error and "memory" not in error


def test_a_script_from_stdin_is_refused_before_any_work(tmp_path):
    done = run(tmp_path, "-", input=SCRIPT.format(guard='if __name__ == "__main__": '))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "sparsecnn.checks.SettingError: workers=2 is not allowed in a script that is read from <stdin>, "
        "which the processes that train can't read again: put it into a file, or workers=1"
    )


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ([-signal.SIGTERM, -signal.SIGKILL], "was killed, as the system does when memory is short"),
        ([-signal.SIGSEGV, -signal.SIGTERM], "was ended by SIGSEGV"),
        ([-signal.SIGTERM, 1], "ended with status 1: what it wrote on stderr says why"),
        ([-signal.SIGTERM, -signal.SIGTERM], "was ended by SIGTERM"),
    ],
)
def test_a_broken_pool_is_blamed_on_memory_only_where_that_can_be(statuses, words):
    assert words in _why_broken(statuses)
    assert ("memory" in _why_broken(statuses)) == (-signal.SIGKILL in statuses)
