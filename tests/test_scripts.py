"""The two commands of the README, where they cannot go on: one clear message, the remedy, and status 2."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A directory with the scripts, and with a PATH on which there is no Python and no package manager."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    for name in ("bash", "basename", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def run(bare: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [bare / "scripts" / script, *arguments],
        env={"PATH": str(bare / "bin"), "HOME": str(bare)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [["--port"], ["--host"], ["--host", ""], ["--bogus", "1"], ["8081"]])
def test_the_demo_tells_how_it_is_used(bare: Path, arguments: list[str]) -> None:
    outcome = run(bare, "demo", *arguments)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    wrong, usage = outcome.stderr.splitlines()
    assert wrong == f"demo: {' '.join(arguments)} is not understood"
    assert usage == "  usage: scripts/demo [--host ADDRESS] [--port NUMBER]"


def test_without_a_python_the_demo_names_the_packages_to_install(bare: Path) -> None:
    outcome = run(bare, "demo")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        "demo: no Python 3.11 3.12 3.13 with the module venv was found\n"
        "  remedy on Debian and Ubuntu: apt-get install python3 python3-venv\n"
    )


def test_without_a_package_manager_the_test_run_names_the_servers_to_install(bare: Path) -> None:
    outcome = run(bare, "test")
    assert outcome.returncode == 2
    assert outcome.stdout.startswith("== installing server programs for the tests: ")
    assert outcome.stderr.startswith("test: missing server programs, and no apt-get here\n  remedy: install ")
