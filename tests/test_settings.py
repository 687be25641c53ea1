"""Settings: declarations, checks, sources and their precedence."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import UserList
from pathlib import Path
from typing import Any

import pytest

from prologue.errors import EmptySecretKeyError, EnvWrongFormatError, SettingsError
from prologue.settings import Settings

DEFAULTS: dict[str, Any] = {
    "address": "127.0.0.1",
    "port": 8080,
    "debug": False,
    "app_name": "prologue",
    "secret_keys": (),
    "request_timeout": None,
    "max_body_size": 16 * 1024 * 1024,
    "max_form_memory_size": 500_000,
    "max_form_parts": 1_000,
    "trusted_hosts": (),
    "workers": 1,
    "threads": 4,
    "reuse_port": False,
    "data": {},
}


def write_json(path: Path, document: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


# Construction


def test_every_setting_has_a_safe_default() -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("address", "0.0.0.0", "0.0.0.0"),
        ("app_name", "", ""),
        ("port", 0, 0),
        ("port", 65535, 65535),
        ("debug", True, True),
        ("secret_keys", ["new", "old"], ("new", "old")),
        ("secret_keys", ("new",), ("new",)),
        ("secret_keys", UserList(["new"]), ("new",)),
        ("request_timeout", 0.001, 0.001),
        ("request_timeout", 30, 30.0),
        ("request_timeout", threading.TIMEOUT_MAX, threading.TIMEOUT_MAX),
        ("request_timeout", None, None),
        ("max_body_size", 0, 0),
        ("max_form_memory_size", 0, 0),
        ("max_form_parts", 0, 0),
        ("trusted_hosts", ["example.org"], ("example.org",)),
        ("workers", 1, 1),
        ("threads", 1, 1),
        ("reuse_port", True, True),
        ("data", {"a": [1]}, {"a": [1]}),
    ],
)
def test_a_fitting_value_is_kept_in_the_declared_type(name: str, given: Any, kept: object) -> None:
    value = getattr(Settings(**{name: given}), name)
    assert value == kept
    if name != "data":
        assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("address", None, "str"),
        ("address", b"127.0.0.1", "str"),
        ("address", "", "str, not empty"),
        ("port", "8080", "int, 0 to 65535"),
        ("port", True, "int, 0 to 65535"),
        ("port", 8080.0, "int, 0 to 65535"),
        ("port", None, "int, 0 to 65535"),
        ("port", -1, "int, 0 to 65535"),
        ("port", 65536, "int, 0 to 65535"),
        ("debug", 1, "bool"),
        ("debug", "true", "bool"),
        ("request_timeout", 0, "float or None, over 0"),
        ("request_timeout", -1.0, "float or None, over 0"),
        ("request_timeout", True, "float or None, over 0"),
        ("request_timeout", "5", "float or None, over 0"),
        ("request_timeout", float("nan"), "float or None, over 0"),
        ("request_timeout", float("inf"), "float or None, over 0"),
        ("request_timeout", 10**400, "float or None, over 0"),
        ("max_body_size", -1, "int, 0 or more"),
        ("max_form_memory_size", -1, "int, 0 or more"),
        ("max_form_parts", -1, "int, 0 or more"),
        ("trusted_hosts", "example.org", 'a list of non-empty str, such as ["one", "two"]'),
        ("trusted_hosts", {"example.org"}, "a list of non-empty str"),
        ("trusted_hosts", b"", "a list of non-empty str"),
        ("trusted_hosts", bytearray(), "a list of non-empty str"),
        ("trusted_hosts", [""], "a list of non-empty str"),
        ("trusted_hosts", [1], "a list of non-empty str"),
        ("trusted_hosts", None, "a list of non-empty str"),
        ("workers", 0, "int, 1 or more"),
        ("threads", 0, "int, 1 or more"),
    ],
)
def test_a_wrong_value_is_an_error_with_key_value_and_expected_type(
    name: str, given: Any, expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**{name: given})
    message = str(caught.value)
    assert message.startswith(f"Settings: {name} must be {expected}")
    assert message.endswith(f"; it is {given!r:.80}")


@pytest.mark.parametrize(
    "given",
    ["hunter2", b"hunter2", None, {"hunter2"}, ["hunter2", ""], ["hunter2", None], [b"hunter2"]],
)
def test_a_wrong_secret_is_an_error_that_asks_for_a_list_and_does_not_show_it(given: Any) -> None:
    with pytest.raises(
        SettingsError, match=r'secret_keys must be a list of non-empty str, such as \["one"'
    ) as caught:
        Settings(secret_keys=given)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).endswith(f"a hidden {type(given).__name__}")


@pytest.mark.parametrize("given", [None, [("a", 1)], {1: "hunter2"}, {"lock": threading.Lock()}])
def test_data_must_be_a_mapping_that_can_be_copied(given: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"data must be a mapping .* with str keys and values that can be copied"
    ) as caught:
        Settings(data=given)
    assert "hunter2" not in str(caught.value)


def test_an_unknown_setting_is_an_error_with_the_nearest_known() -> None:
    with pytest.raises(SettingsError, match="unknown setting 'prot'; did you mean 'port'") as caught:
        Settings(prot="hunter2")  # type: ignore[call-arg]
    assert "hunter2" not in str(caught.value)
    with pytest.raises(
        SettingsError, match="unknown setting 'zzz'; known are address, app_name, data, debug,"
    ):
        Settings(zzz=1)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="_debug_key"):
        Settings(_debug_key={})  # type: ignore[call-arg]


def test_settings_take_keywords_only() -> None:
    with pytest.raises(TypeError):
        Settings("127.0.0.1")  # type: ignore[call-arg]


# The object


def test_settings_are_frozen_and_have_slots() -> None:
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.port = 9000  # type: ignore[misc]
    with pytest.raises(AttributeError):
        object.__setattr__(settings, "prot", 9000)
    assert settings.port == 8080


def test_equal_settings_are_equal_and_hash_alike() -> None:
    first, second = Settings(data={"a": [1]}), Settings(data={"a": [1]})
    assert first == second
    assert hash(first) == hash(second)
    assert first != Settings(data={"a": [2]})
    assert first != Settings(data={"a": [1]}, port=1)


def test_repr_shows_every_setting_and_hides_secrets_and_data() -> None:
    settings = Settings(port=9000, secret_keys=["hunter2"], data={"url": "db://user:hunter2@host"})
    assert repr(settings) == (
        "Settings(address='127.0.0.1', port=9000, debug=False, app_name='prologue', secret_keys=<1 hidden>, "
        "request_timeout=None, max_body_size=16777216, max_form_memory_size=500000, max_form_parts=1000, "
        "trusted_hosts=(), workers=1, threads=4, reuse_port=False, data=<1 hidden>)"
    )


def test_data_is_read_by_key() -> None:
    settings = Settings(data={"mail": {"host": "localhost"}, "nothing": None})
    assert settings["mail"] == {"host": "localhost"}
    assert settings.get("mail", 1) == {"host": "localhost"}
    assert settings.get("nothing", 1) is None
    assert settings.get("missing", 1) == 1
    assert settings.get("missing") is None
    assert "mail" in settings
    assert "port" not in settings
    with pytest.raises(KeyError, match="missing"):
        settings["missing"]


def test_data_is_a_read_only_deep_copy() -> None:
    mine: dict[str, Any] = {"hosts": ["a"]}
    settings = Settings(data=mine)
    mine["hosts"].append("b")
    mine["more"] = 1
    assert settings.data == {"hosts": ["a"]}
    with pytest.raises(TypeError):
        settings.data["more"] = 1  # type: ignore[index]


def test_replace_makes_new_settings_with_the_same_checks() -> None:
    settings = Settings(port=9000, secret_keys=["k"], data={"a": [1]})
    changed = settings.replace(debug=True, secret_keys=["n", "k"])
    assert (changed.port, changed.debug, changed.secret_keys, changed["a"]) == (9000, True, ("n", "k"), [1])
    assert (settings.debug, settings.secret_keys) == (False, ("k",))
    assert changed["a"] is not settings["a"]
    with pytest.raises(SettingsError, match="threads"):
        settings.replace(threads=0)
    with pytest.raises(SettingsError, match="did you mean 'port'"):
        settings.replace(prot=1)


# Secret keys


def test_secret_keys_are_returned_in_order_with_and_without_debug() -> None:
    for debug in (False, True):
        assert Settings(secret_keys=["new", "old"], debug=debug).require_secret_keys() == ("new", "old")


def test_no_secret_key_outside_debug_is_an_error_with_the_remedy() -> None:
    with pytest.raises(EmptySecretKeyError, match=r"set secret_keys=\[\.\.\.\] or PROLOGUE_SECRET_KEYS"):
        Settings().require_secret_keys()


def test_in_debug_a_random_key_is_made_once_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(debug=True)
    with caplog.at_level(logging.WARNING, "prologue.settings"):
        keys = settings.require_secret_keys()
        assert settings.require_secret_keys() == keys
    assert len(keys) == 1
    assert len(keys[0]) >= 32
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "lives only in this process" in record.getMessage()
    assert keys[0] not in record.getMessage()
    assert keys[0] not in repr(settings)
    assert settings.secret_keys == ()
    assert Settings(debug=True).require_secret_keys() != keys
    assert settings.replace().require_secret_keys() != keys
    assert settings == Settings(debug=True)


def test_threads_get_one_debug_key_and_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import secrets

    settings = Settings(debug=True)
    count = 8
    made = threading.Barrier(count)
    token_urlsafe = secrets.token_urlsafe

    def meet_with_a_key_each() -> str:
        key = token_urlsafe()
        made.wait(timeout=30)
        return key

    monkeypatch.setattr(secrets, "token_urlsafe", meet_with_a_key_each)
    results: list[tuple[str, ...]] = []
    threads = [
        threading.Thread(target=lambda: results.append(settings.require_secret_keys())) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(results) == count
    assert len(set(results)) == 1
    assert len(caplog.records) == 1


# Mappings and files


def test_a_mapping_holds_settings_under_prologue_and_data_elsewhere() -> None:
    document = {
        "prologue": {"port": 9000, "debug": True, "secret_keys": ["k"], "trusted_hosts": ["a", "b"]},
        "mail": {"host": "localhost"},
        "data": 1,
    }
    settings = Settings.from_mapping(document)
    assert settings == Settings(
        port=9000,
        debug=True,
        secret_keys=("k",),
        trusted_hosts=("a", "b"),
        data={"mail": {"host": "localhost"}, "data": 1},
    )


def test_the_names_of_the_original_are_understood() -> None:
    section = {
        "address": "",
        "port": 8080,
        "debug": False,
        "reusePort": True,
        "secretKey": "k",
        "appName": "shop",
        "maxBody": 1,
        "numThreads": 2,
    }
    settings = Settings.from_mapping({"prologue": {**section, "address": "::1"}})
    assert settings == Settings(
        address="::1", reuse_port=True, secret_keys=["k"], app_name="shop", max_body_size=1, threads=2
    )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "the key 'prologue' must hold a mapping of settings"),
        ({"port": 9000}, "the key 'prologue' must hold a mapping of settings"),
        ({"prologue": None}, "the key 'prologue' must hold a mapping of settings"),
        ([1], "the key 'prologue' must hold a mapping of settings"),
        ({"prologue": {"prot": 1}}, "unknown setting 'prot'; did you mean 'port'?"),
        ({"prologue": {"PORT": 1}}, "unknown setting 'PORT'"),
        ({"prologue": {"bufSize": 40960}}, "unknown setting 'bufSize'"),
        ({"prologue": {"data": {}}}, "unknown setting 'data'"),
        ({"prologue": {1: 1}}, "unknown setting 1;"),
        ({"prologue": {"port": "8080"}}, "port must be int, 0 to 65535; it is '8080'"),
        ({"prologue": {"numThreads": 0}}, "numThreads must be int, 1 or more; it is 0"),
        ({"prologue": {"secretKey": ""}}, "secretKey must be a list of non-empty str"),
        ({"prologue": {"secretKey": None}}, "secretKey must be a list of non-empty str"),
        ({"prologue": {"secret_keys": "k"}}, "secret_keys must be a list of non-empty str"),
        (
            {"prologue": {"app_name": "a", "appName": "b"}},
            "app_name is set twice, the second time as 'appName'",
        ),
        ({"prologue": {}, 5: 1}, "data must be a mapping"),
    ],
)
def test_a_wrong_mapping_is_an_error_that_names_the_key(document: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_mapping(document, source="shop settings")
    assert message in str(caught.value)
    assert str(caught.value).startswith(("shop settings: ", "Settings: data"))


def test_settings_are_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "any.conf"
    path.write_text(
        '\ufeff{"prologue": {"appName": "книга", "request_timeout": 5}, "a": [1, null]}', encoding="utf-8"
    )
    settings = Settings.from_json(path)
    assert settings == Settings(app_name="книга", request_timeout=5.0, data={"a": [1, None]})
    assert Settings.from_json(str(path)) == settings


def test_settings_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "any.conf"
    path.write_bytes(
        b'title = "x"\r\n[prologue]\r\nport = 9000\r\nsecret_keys = ["a", "b"]\r\n[mail]\r\nhost = "h"\r\n'
    )
    settings = Settings.from_toml(path)
    assert settings == Settings(port=9000, secret_keys=["a", "b"], data={"title": "x", "mail": {"host": "h"}})
    assert Settings.from_toml(str(path)) == settings


def test_wrong_syntax_is_an_error_with_file_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "wrong.conf"
    path.write_text('{\n "prologue": hunter2}')
    with pytest.raises(SettingsError, match=r"wrong\.conf, line 2, column 14: Expecting value$"):
        Settings.from_json(path)
    path.write_text("[prologue]\nport = hunter2")
    with pytest.raises(SettingsError, match=r"wrong\.conf: .*line 2, column 8"):
        Settings.from_toml(path)


@pytest.mark.parametrize("read", [Settings.from_json, Settings.from_toml])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, read: Any) -> None:
    with pytest.raises(SettingsError, match=r"missing\.conf: cannot be read: No such file"):
        read(tmp_path / "missing.conf")
    (tmp_path / "latin.conf").write_bytes(b"\n\xe9")
    with pytest.raises(SettingsError, match=r"latin\.conf: not UTF-8 at byte 1"):
        read(tmp_path / "latin.conf")


@pytest.mark.parametrize("read", [Settings.from_json, Settings.from_toml])
def test_an_error_in_a_file_names_the_file(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "wrong.conf"
    path.write_text('{"prologue": {"port": -1}}' if read == Settings.from_json else "[prologue]\nport = -1")
    with pytest.raises(SettingsError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: port must be int, 0 to 65535; it is -1"


# Environment


def test_the_environment_is_read_by_the_type_of_each_setting() -> None:
    environ = {
        "PROLOGUE_ADDRESS": "0.0.0.0",
        "PROLOGUE_PORT": "9000",
        "PROLOGUE_DEBUG": "on",
        "PROLOGUE_APP_NAME": "",
        "PROLOGUE_SECRET_KEYS": "new, old",
        "PROLOGUE_REQUEST_TIMEOUT": "2.5",
        "PROLOGUE_MAX_BODY_SIZE": "1",
        "PROLOGUE_MAX_FORM_MEMORY_SIZE": "2",
        "PROLOGUE_MAX_FORM_PARTS": "3",
        "PROLOGUE_TRUSTED_HOSTS": "",
        "PROLOGUE_WORKERS": "4",
        "PROLOGUE_THREADS": "5",
        "PROLOGUE_REUSE_PORT": "YES",
        "PROLOGUE": "production",
        "PORT": "1",
        "OTHER_PORT": "1",
        "prologue_port": "1",
    }
    before = dict(environ)
    assert Settings.from_env(environ=environ) == Settings(
        address="0.0.0.0",
        port=9000,
        debug=True,
        app_name="",
        secret_keys=["new", "old"],
        request_timeout=2.5,
        max_body_size=1,
        max_form_memory_size=2,
        max_form_parts=3,
        trusted_hosts=[],
        workers=4,
        threads=5,
        reuse_port=True,
    )
    assert environ == before


def test_none_in_the_environment_is_no_timeout() -> None:
    assert Settings.from_env(environ={"PROLOGUE_REQUEST_TIMEOUT": "None"}).request_timeout is None


def test_another_prefix_reads_other_names() -> None:
    environ = {"SHOP_PORT": "9000", "PROLOGUE_PORT": "1"}
    assert Settings.from_env("SHOP_", environ).port == 9000


def test_the_process_environment_is_the_default_and_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROLOGUE_PORT", "9000")
    before = dict(os.environ)
    assert Settings.from_env().port == 9000
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("PROLOGUE_PORT", "http", "PROLOGUE_PORT must be int, 0 to 65535; it is 'http'"),
        ("PROLOGUE_PORT", "65536", "PROLOGUE_PORT must be int, 0 to 65535; it is '65536'"),
        ("PROLOGUE_PORT", "٣", "PROLOGUE_PORT must be int, 0 to 65535; it is '٣'"),
        ("PROLOGUE_PORT", "", "PROLOGUE_PORT must be int, 0 to 65535; it is ''"),
        ("PROLOGUE_DEBUG", "maybe", "PROLOGUE_DEBUG must be bool; it is 'maybe'"),
        ("PROLOGUE_ADDRESS", "", "PROLOGUE_ADDRESS must be str, not empty"),
        ("PROLOGUE_REQUEST_TIMEOUT", "inf", "PROLOGUE_REQUEST_TIMEOUT must be float or None, over 0"),
        ("PROLOGUE_SECRET_KEYS", "hunter2,,x", "PROLOGUE_SECRET_KEYS must be a list of non-empty str"),
        ("PROLOGUE_SECRET_KEYS", " ", "PROLOGUE_SECRET_KEYS must be a list of non-empty str"),
        ("PROLOGUE_DATA", "hunter2", "PROLOGUE_DATA must be a mapping from a file or a keyword"),
        ("PROLOGUE_PROT", "hunter2", "unknown setting 'PROLOGUE_PROT'; did you mean 'PROLOGUE_PORT'?"),
        ("PROLOGUE_port", "1", "unknown setting 'PROLOGUE_port'"),
        ("PROLOGUE__DEBUG_KEY", "hunter2", "unknown setting 'PROLOGUE__DEBUG_KEY'"),
        ("PROLOGUE_", "1", "unknown setting 'PROLOGUE_'"),
    ],
)
def test_a_wrong_variable_is_an_error_that_names_it(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ={name: text})
    assert str(caught.value).startswith(f"environment: {message}")
    assert "hunter2" not in str(caught.value)


def test_settings_are_read_from_a_dotenv_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.env"
    path.write_text("# shop\nexport PROLOGUE_PORT=9000\nPROLOGUE_SECRET_KEYS='new,old'\nDATABASE=x\n")
    assert Settings.from_dotenv(path) == Settings(port=9000, secret_keys=["new", "old"])
    path.write_text("PROLOGUE_PORT=x\n")
    with pytest.raises(SettingsError, match=r"shop\.env: PROLOGUE_PORT must be int"):
        Settings.from_dotenv(path)
    path.write_text("PROLOGUE_PORT\n")
    with pytest.raises(EnvWrongFormatError, match=r"shop\.env, line 1"):
        Settings.from_dotenv(path)


def test_a_missing_dotenv_file_leaves_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_dotenv() == Settings()
    Path(".env").write_text("PROLOGUE_PORT=9000")
    assert Settings.from_dotenv().port == 9000


# All sources together


@pytest.mark.parametrize(
    ("selected", "name"),
    [
        ({}, "config.json"),
        ({"PROLOGUE": ""}, "config.json"),
        ({"PROLOGUE": "default"}, "config.json"),
        ({"PROLOGUE": "production"}, "config.production.json"),
        ({"PROLOGUE": "Test_2-b"}, "config.Test_2-b.json"),
    ],
)
def test_the_variable_prologue_selects_the_file(tmp_path: Path, selected: dict[str, str], name: str) -> None:
    for other in ("config.json", "config.production.json", "config.Test_2-b.json", "config.default.json"):
        write_json(tmp_path / other, {"prologue": {"app_name": other}})
    assert Settings.load(tmp_path, selected, dotenv=None).app_name == name


def test_toml_is_read_where_json_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[prologue]\napp_name = "toml"')
    assert Settings.load(str(tmp_path), {}, dotenv=None).app_name == "toml"
    write_json(tmp_path / "config.json", {"prologue": {"app_name": "json"}})
    assert Settings.load(str(tmp_path), {}, dotenv=None).app_name == "json"


@pytest.mark.parametrize("selected", ["../secret", "a/b", "a\\b", "a.b", "a b", "a\n", "é", "\0"])
def test_the_variable_prologue_must_be_a_plain_name(tmp_path: Path, selected: str) -> None:
    write_json(tmp_path / "config.json", {"prologue": {}})
    with pytest.raises(SettingsError) as caught:
        Settings.load(tmp_path, {"PROLOGUE": selected}, dotenv=None)
    assert f"PROLOGUE={selected!r}" in str(caught.value)


def test_a_missing_file_or_directory_is_an_error_that_names_what_was_tried(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SettingsError) as caught:
            Settings.load(directory, {"PROLOGUE": "production"}, dotenv=None)
        tried = (directory / "config.production.json", directory / "config.production.toml")
        assert f"neither {tried[0]} nor {tried[1]} is there" in str(caught.value)


def test_keyword_beats_environment_beats_dotenv_beats_file_beats_default(tmp_path: Path) -> None:
    names = ("workers", "threads", "max_form_parts", "max_body_size")
    write_json(tmp_path / "config.json", {"prologue": dict.fromkeys(names, 1), "from": "file"})
    dotenv = tmp_path / ".env"
    dotenv.write_text("".join(f"PROLOGUE_{name.upper()}=2\n" for name in names[1:]))
    environ = {f"PROLOGUE_{name.upper()}": "3" for name in names[2:]}
    settings = Settings.load(tmp_path, environ, dotenv=dotenv, max_body_size=4)
    assert [getattr(settings, name) for name in names] == [1, 2, 3, 4]
    assert settings.max_form_memory_size == 500_000
    assert settings["from"] == "file"
    assert Settings.load(tmp_path, environ, dotenv=dotenv, data={"a": 1}).data == {"a": 1}
    assert Settings.load(tmp_path, {}, dotenv=None).threads == 1


def test_a_dotenv_file_selects_the_file_where_the_environment_does_not(tmp_path: Path) -> None:
    for name in ("config", "config.a", "config.b"):
        write_json(tmp_path / f"{name}.json", {"prologue": {"app_name": name}})
    dotenv = tmp_path / ".env"
    dotenv.write_text("PROLOGUE=a\n")
    assert Settings.load(tmp_path, {}, dotenv=dotenv).app_name == "config.a"
    assert Settings.load(tmp_path, {"PROLOGUE": "b"}, dotenv=dotenv).app_name == "config.b"
    assert Settings.load(tmp_path, {"PROLOGUE": ""}, dotenv=dotenv).app_name == "config"


def test_load_reads_the_working_directory_and_the_process_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROLOGUE", "test")
    monkeypatch.setenv("PROLOGUE_THREADS", "9")
    write_json(tmp_path / ".config" / "config.test.json", {"prologue": {"port": 9000}})
    (tmp_path / ".env").write_text("PROLOGUE_WORKERS=3\n")
    assert Settings.load() == Settings(port=9000, threads=9, workers=3)


@pytest.mark.parametrize(
    ("section", "dotenv", "environ", "overrides", "message"),
    [
        ({"port": "x"}, "PROLOGUE_PORT=2", {"PROLOGUE_PORT": "3"}, {"port": 4}, "config.json: port must"),
        ({}, "PROLOGUE_PORT=x", {"PROLOGUE_PORT": "3"}, {"port": 4}, ".env: PROLOGUE_PORT must"),
        ({}, "", {"PROLOGUE_PORT": "x"}, {"port": 4}, "environment: PROLOGUE_PORT must"),
        ({}, "", {}, {"port": "x"}, "Settings: port must"),
        ({}, "", {}, {"prot": 1}, "Settings: unknown setting 'prot'"),
    ],
)
def test_a_wrong_value_is_an_error_of_its_source_though_another_overrides_it(
    tmp_path: Path,
    section: object,
    dotenv: str,
    environ: dict[str, str],
    overrides: dict[str, Any],
    message: str,
) -> None:
    write_json(tmp_path / "config.json", {"prologue": section})
    (tmp_path / ".env").write_text(dotenv)
    with pytest.raises(SettingsError) as caught:
        Settings.load(tmp_path, environ, dotenv=tmp_path / ".env", **overrides)
    assert message in str(caught.value)


def test_importing_settings_loads_no_parser() -> None:
    unwanted = ["difflib", "json", "secrets", "tomllib", "werkzeug"]
    # What was there before is not our doing: the measurement of coverage in this process loads some.
    code = (
        "import sys; before = set(sys.modules); import prologue.settings;"
        f" print([name for name in {unwanted} if name in sys.modules and name not in before])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "[]\n"
