"""The Python code of every documentation page, and of the README, runs.

The blocks of one page run in order, in one namespace, in an empty directory. A block whose first line is
`# filename: NAME` is written to that file instead, and can be imported by the blocks after it.
"""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DIRECTIVE = re.compile(
    r"""
    ^(\ *)\.\.\ code-block::\ python\n
    (?:\1\ +:.*\n)*                       # options
    (?:\ *\n)+
    ((?:\1\ +\S.*\n|\ *\n)+)              # the code: more indented than the directive, or blank
    """,
    re.MULTILINE | re.VERBOSE,
)
FENCE = re.compile(r"^( *)```python\n((?:.*\n)*?)\1```$", re.MULTILINE)
FILENAME = re.compile(r"# filename: (\S+)\n")


class Block(NamedTuple):
    line: int
    """Number of lines before the code, so that a traceback points into the page."""
    code: str


def python_blocks(text: str) -> Iterator[Block]:
    """Find the Python blocks of a page, in reStructuredText or Markdown."""
    text += "\n"
    for found in (*DIRECTIVE.finditer(text), *FENCE.finditer(text)):
        code = textwrap.dedent(found[2]).rstrip("\n") + "\n"
        yield Block(text.count("\n", 0, found.start(2)), code)


def pages() -> list[Path]:
    candidates = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.rst"))]
    return [path for path in candidates if any(python_blocks(path.read_text(encoding="utf-8")))]


def forget_modules(directory: Path) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(directory)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Enter an empty directory that modules are imported from; forget these modules afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file may be written twice within one clock tick
    yield tmp_path
    forget_modules(tmp_path)


def run_page(page: Path, directory: Path) -> None:
    module = ModuleType("page")  # registered: classes look their annotations up in the module they name
    sys.modules["page"] = module
    try:
        for block in python_blocks(page.read_text(encoding="utf-8")):
            filename = FILENAME.match(block.code)
            code = compile("\n" * block.line + block.code, page, "exec", dont_inherit=True)
            if filename:
                target = directory / filename[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.code, encoding="utf-8")
                forget_modules(directory)
            else:
                exec(code, module.__dict__)
    finally:
        del sys.modules["page"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_code_of_the_page_runs(page: Path, directory: Path) -> None:
    run_page(page, directory)


def test_the_links_of_the_readme_lead_to_files() -> None:
    links = re.findall(r"\]\(([^):#]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert "docs/quickstart.rst" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_blocks_are_found_in_both_markups() -> None:
    text = (
        "Title\n\n.. code-block:: python\n   :caption: one\n\n   a = 1\n\n   if a:\n       b = 2\n\ntext\n\n"
        ".. code-block:: console\n\n   $ no\n\n* item\n\n  .. code-block:: python\n\n     c = 3\n\n  text\n"
        "```python\nd = 4\n\ne = 5\n```\n"
    )
    blocks = list(python_blocks(text))
    assert [block.code for block in blocks] == ["a = 1\n\nif a:\n    b = 2\n", "c = 3\n", "d = 4\n\ne = 5\n"]


def test_a_failing_block_is_reported_at_its_line_in_the_page(directory: Path) -> None:
    page = directory / "page.rst"
    page.write_text("Title\n\n.. code-block:: python\n\n   a = 1\n   a / 0\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page, directory)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 6)


def test_a_named_block_is_a_file_for_the_blocks_after_it(directory: Path) -> None:
    page = directory / "page.rst"
    page.write_text(
        ".. code-block:: python\n\n   # filename: shop/prices.py\n   tea = 3\n\n"
        ".. code-block:: python\n\n   from shop.prices import tea\n   first = tea\n\n"
        ".. code-block:: python\n\n   # filename: shop/prices.py\n   tea = 4\n\n"
        ".. code-block:: python\n\n   from shop.prices import tea\n   assert (first, tea) == (3, 4)\n"
        "   open('done', 'w').close()\n",
        encoding="utf-8",
    )
    run_page(page, directory)
    assert (directory / "done").exists()
