"""The ``.env`` format, ``Env`` and the reading of words and numbers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prologue.environment import Env, load_env, parse_value, write_env
from prologue.errors import EnvError, EnvWrongFormatError


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("", str, ""),
        (" as it stands ", str, " as it stands "),
        *((word, bool, True) for word in ("y", "yes", "true", "1", "on", "Yes", "TRUE", "On")),
        *((word, bool, False) for word in ("n", "no", "false", "0", "off", "No", "FALSE", "Off")),
        ("0", int, 0),
        ("-12", int, -12),
        ("+12", int, 12),
        ("0012", int, 12),
        ("1.5", float, 1.5),
        ("1", float, 1.0),
        ("1.", float, 1.0),
        (".5", float, 0.5),
        ("-1.5e-3", float, -0.0015),
        ("+1E2", float, 100.0),
    ],
)
def test_text_is_read_as_the_wanted_type(text: str, wanted: type[object], value: object) -> None:
    result = parse_value(text, wanted)
    assert result == value
    assert type(result) is wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *((text, bool) for text in ("", "2", "truth", " true", "ok", "None")),
        *(
            (text, int)
            for text in ("", "1.0", "1_000", " 1", "1\n", "0x10", "--1", "+", "٣", "²", "1" * 5000)
        ),
        *(
            (text, float)
            for text in ("", ".", "e5", "1e", "1_0.0", " 1.0", "1.0\n", "٣.1", "nan", "inf", "1e999")
        ),
    ],
)
def test_text_that_is_no_such_value_is_an_error_that_shows_it(text: str, wanted: type[object]) -> None:
    with pytest.raises(ValueError, match=f"cannot be read as {wanted.__name__}") as caught:
        parse_value(text, wanted)
    assert repr(text)[:80] in str(caught.value)
    assert len(str(caught.value)) < 120


def test_text_can_be_read_as_four_types_only() -> None:
    with pytest.raises(TypeError, match="not as list"):
        parse_value("1,2", list)


def test_a_long_number_that_is_none_is_refused_in_linear_time() -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match="cannot be read as float"):
        parse_value("1" * 50_000 + "x", float)
    assert time.perf_counter() - started < 1.0


def test_get_reads_the_text_as_the_type_of_the_default() -> None:
    env = Env(PORT="9000", DEBUG="on", RATE="0.5", NAME="shop", CODE="007", EMPTY="")
    assert env.get("PORT", 8080) == 9000
    assert env.get("DEBUG", False) is True
    assert env.get("RATE", 1.0) == 0.5
    assert env.get("NAME", "prologue") == "shop"
    assert env.get("CODE") == "007"
    assert env.get("EMPTY", "shop") == ""
    assert env["PORT"] == "9000"


def test_get_returns_the_default_for_a_name_that_is_not_there() -> None:
    env = Env()
    assert env.get("PORT", 8080) == 8080
    assert env.get("NAME") is None
    with pytest.raises(KeyError, match="NAME"):
        env["NAME"]


def test_get_names_the_key_that_holds_something_else() -> None:
    with pytest.raises(EnvError, match="PORT: '90a' cannot be read as int"):
        Env(PORT="90a").get("PORT", 8080)
    with pytest.raises(TypeError, match="not as list"):
        Env(HOSTS="a,b").get("HOSTS", [""])


def test_an_env_can_be_changed_and_does_not_touch_the_process_environment() -> None:
    before = dict(os.environ)
    env = Env()
    env["PROLOGUE_TEST_ONLY"] = "1"
    assert env == {"PROLOGUE_TEST_ONLY": "1"}
    assert dict(os.environ) == before


def test_repr_shows_names_and_no_values() -> None:
    assert repr(Env(PORT="9000", PASSWORD="hunter2")) == "Env(PORT, PASSWORD)"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        # rule 2: names, export and blanks
        ("KEY=value", "value"),
        ("export KEY=value", "value"),
        ("\texport \t KEY \t=\t value \t", "value"),
        ("KEY=", ""),
        ("KEY=a=b", "a=b"),
        # rule 3: quotes
        ('KEY=""', ""),
        ('KEY="a b # c"', "a b # c"),
        (r'KEY="a\nb\rc\td\"e\\f"', 'a\nb\rc\td"e\\f'),
        (r'KEY="\\n"', r"\n"),
        ('KEY = " kept " # comment', " kept "),
        ('KEY="a"#comment', "a"),
        ("KEY=''", ""),
        (r"KEY='a\nb \ # c'", r"a\nb \ # c"),
        ("KEY='say \"hi\"'", 'say "hi"'),
        ('KEY="it\'s"', "it's"),
        # rule 4: everything else
        ("KEY=a b  c ", "a b  c"),
        ("KEY=a # comment", "a"),
        ("KEY=a\t#comment # more", "a"),
        ("KEY= # comment", ""),
        ("KEY=a#b", "a#b"),
        ("KEY=#b", "#b"),
        ("KEY=it's", "it's"),
        (r"KEY=C:\new", r"C:\new"),
        ("KEY=ключ", "ключ"),
        ("KEY=a\x0bb\x85c\u2028", "a\x0bb\x85c\u2028"),
        # rule 5: no expansion
        ('KEY="$HOME ${HOME}"', "$HOME ${HOME}"),
    ],
)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_line_assigns_a_value(tmp_path: Path, line: str, value: str, ending: str) -> None:
    path = tmp_path / ".env"
    path.write_bytes((line + ending).encode())
    assert load_env(path) == {"KEY": value}


def test_blank_lines_and_comments_are_ignored_and_the_later_of_two_wins(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"\xef\xbb\xbf# first\n\n \t\n  # KEY=no\nA=1\r\nexportB=2\nA=3\n")
    env = load_env(path)
    assert type(env) is Env
    assert list(env.items()) == [("A", "3"), ("exportB", "2")]


@pytest.mark.parametrize(
    "line",
    [
        "hunter2",
        "=hunter2",
        "[hunter2]",
        "KEY: hunter2",
        "1KEY=hunter2",
        "MY-KEY=hunter2",
        "KEY hunter2=value",
        "exportKEY hunter2=value",
        "КЛЮЧ=hunter2",
        'KEY="hunter2',
        "KEY='hunter2",
        'KEY="closed" hunter2',
        "KEY='hunter''2'",
        r'KEY="C:\hunter2"',
        'KEY="hunter2 ends with \\"',
    ],
)
def test_any_other_line_is_an_error_that_names_file_and_line_and_hides_the_text(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "wrong.env"
    path.write_text(f"GOOD=1\n\n{line}\nOTHER=2\n", encoding="utf-8")
    with pytest.raises(EnvWrongFormatError, match=r"wrong\.env, line 3: not NAME=value") as caught:
        load_env(path)
    assert "hunter" not in str(caught.value)


def test_a_missing_file_is_an_empty_env(tmp_path: Path) -> None:
    env = load_env(tmp_path / ".env")
    assert type(env) is Env
    assert env == {}


def test_the_file_is_dot_env_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("KEY=here")
    monkeypatch.chdir(tmp_path)
    assert load_env() == {"KEY": "here"}


def test_a_file_that_is_no_text_or_no_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    latin = tmp_path / "latin.env"
    latin.write_bytes(b"A=caf\xe9\n")
    with pytest.raises(EnvWrongFormatError, match=r"latin\.env: not UTF-8 at byte 5"):
        load_env(latin)
    with pytest.raises(EnvError, match="cannot be read") as caught:
        load_env(tmp_path)
    assert str(tmp_path) in str(caught.value)


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
# Surrogates too: a Python str may hold them.
VALUES = st.text(st.characters(categories=None))


@given(st.dictionaries(NAMES, VALUES, max_size=5))
@example({"KEY": "".join(map(chr, range(256)))})
@example({"KEY": "\\n \\\\ \" ' # $ \r\n\x85\u2028\ud83d\ude00\ufeff", "export": ""})
def test_what_is_written_is_read_back(env: dict[str, str]) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory, ".env")
        write_env(path, env)
        assert load_env(path) == env
        assert path.read_bytes().count(b"\n") == len(env)
        assert b"\r" not in path.read_bytes()


@given(st.text(st.sampled_from(" \t\"'\\#=nexport AB\r\n$[")))
def test_any_text_is_read_or_refused(text: str) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory, ".env")
        path.write_bytes(text.encode())
        try:
            env = load_env(path)
        except EnvWrongFormatError:
            return
        assert len(env) <= text.count("=")


@pytest.mark.parametrize("name", ["", "MY-KEY", "A B", "1A", "A\n", "export A", "КЛЮЧ"])
def test_a_wrong_name_is_not_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / ".env"
    path.write_text("OLD=1\n")
    with pytest.raises(EnvError) as caught:
        write_env(path, {"GOOD": "1", name: "2"})
    assert repr(name) in str(caught.value)
    assert path.read_text() == "OLD=1\n"


def test_a_value_that_is_no_text_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="PORT: the value is int, not str"):
        write_env(tmp_path / ".env", {"PORT": 8080})  # type: ignore[dict-item]
    assert not (tmp_path / ".env").exists()
