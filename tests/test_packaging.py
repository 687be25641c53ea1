"""What is shipped: the wheel, its metadata, and what importing the package costs."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import prologue

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "framework" / "prologue"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, so that the build leaves nothing in the tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "framework", source / "framework", ignore=ignore)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    command = [sys.executable, "-W", "error", "-c", build]
    outcome = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=120)
    assert outcome.returncode == 0, outcome.stderr
    assert "Warning" not in outcome.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert shipped == expected
    assert "prologue/py.typed" in shipped


def test_the_wheel_holds_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
        assert archive.read(name) == (ROOT / "LICENSE").read_bytes()


def test_the_version_of_the_distribution_is_that_of_the_package(metadata: Message) -> None:
    assert metadata["Version"] == prologue.__version__


def test_metadata_names_the_distribution_its_licence_and_its_pythons(metadata: Message) -> None:
    assert metadata["Name"] == "prologue-wsgi"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_extras_are_those_of_the_documentation(metadata: Message) -> None:
    extras = set(metadata.get_all("Provides-Extra", []))
    databases = {"mysql", "postgres", "redis", "memcached"}
    of_users = {"server", *databases, "prometheus", "http-cache", "cli", "testing"}
    assert extras == of_users | {"test", "docs", "bench"}
    page = (ROOT / "docs" / "dependencies.rst").read_text(encoding="utf-8")
    assert [extra for extra in sorted(extras) if f"``{extra}``" not in page] == []


def test_every_dependency_is_explained(metadata: Message) -> None:
    page = (ROOT / "docs" / "dependencies.rst").read_text(encoding="utf-8").lower()
    names = {requirement.split(">")[0].split("[")[0] for requirement in metadata.get_all("Requires-Dist", [])}
    assert "werkzeug" in names
    assert [name for name in sorted(names) if f"``{name}``" not in page] == []


def test_the_core_has_three_dependencies(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist", [])
    core = {line.split(">")[0] for line in requirements if "extra ==" not in line}
    assert core == {"itsdangerous", "msgspec", "werkzeug"}


def test_importing_the_package_imports_no_extra() -> None:
    extras = ["gunicorn", "click", "redis", "psycopg", "psycopg_pool", "pymemcache", "prometheus_client"]
    for name in extras:
        importlib.import_module(name)  # an extra that is not installed would prove nothing
    code = f"import sys, prologue, prologue.db; print(sorted(sys.modules.keys() & set({extras})))"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True, timeout=60).strip() == "[]"


def test_importing_the_package_leaves_slow_modules_to_their_first_use() -> None:
    slow = ["email.utils", "html", "mimetypes", "secrets", "werkzeug"]
    code = (
        "import sys; before = set(sys.modules); import prologue;"
        f"print(sorted((sys.modules.keys() - before) & set({slow})))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True, timeout=60).strip() == "[]"
