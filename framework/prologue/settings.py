"""Settings: what an application is told before it starts, in one frozen and typed object.

Values come from keywords, the process environment, a ``.env`` file and a JSON or TOML file, in this
order of precedence; :meth:`Settings.load` reads them all. A wrong type, a value out of range and an
unknown name are errors that name the key and where it stands.

- The declarations in :class:`Settings` are the only list of settings: checking, the names of the
  environment and ``repr`` are derived from them. Types are read at run time, so this module does not
  postpone the evaluation of annotations.
- A Settings does not change after construction, so all threads and forked processes may share one.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple, Self, final

from prologue.environment import Env, load_env, parse_value
from prologue.errors import EmptySecretKeyError, SettingsError

__all__ = ["Settings"]

StrPath = str | os.PathLike[str]

_PREFIX = "PROLOGUE_"
_SELECTOR = "PROLOGUE"
_SELECTED = re.compile(r"[A-Za-z0-9_-]+")
# The original's spelling, in the section `prologue` of a file.
_ORIGINAL_NAMES = {
    "appName": "app_name",
    "secretKey": "secret_keys",
    "maxBody": "max_body_size",
    "reusePort": "reuse_port",
    "numThreads": "threads",
}


def _limited(default: Any, limit: str, within: Callable[[Any], bool]) -> Any:
    """Declare a setting with a limit: its text for errors, and its test."""
    return field(default=default, metadata={"limit": limit, "within": within})


def _at_least(minimum: int, default: int) -> Any:
    return _limited(default, f"{minimum} or more", lambda value: value >= minimum)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What an application is told before it starts. ``Settings()`` is safe to serve with.

    Args:
        address: str, where the server listens; default ``"127.0.0.1"``. Every interface: ``"0.0.0.0"``.
        port: int, 0 to 65535, where 0 lets the system choose; default 8080.
        debug: bool; default False. Never True where strangers can reach the application.
        app_name: str; default ``"prologue"``.
        secret_keys: sequence of str, kept as a tuple; default empty. The first signs, all verify.
        request_timeout: float seconds until a request's deadline; default None, which sets none.
        max_body_size: int bytes of a whole request body; default 16 MiB.
        max_form_memory_size: int bytes of all form fields that are no files; default 500,000.
        max_form_parts: int fields and files of one form; default 1,000.
        trusted_hosts: sequence of str, kept as a tuple: the host names to answer for; default empty, any.
        workers: int processes of the server; default 1.
        threads: int threads of each process; default 4.
        reuse_port: bool, whether several servers may listen on one port; default False.
        data: mapping with str keys, free for the application and read by ``settings[key]``; default
            empty. A deep copy is kept, behind a read-only mapping.

    Raises:
        SettingsError: a setting is unknown, of a wrong type or out of range.

    Source: the original's ``newSettings``; its ``bufSize`` and ``listener`` belong to its own server.
    """

    address: str = _limited(
        "127.0.0.1", 'not empty ("0.0.0.0" is every interface)', lambda address: address != ""
    )
    port: int = _limited(8080, "0 to 65535", lambda port: 0 <= port <= 65535)
    debug: bool = False
    app_name: str = "prologue"
    secret_keys: Sequence[str] = field(default=(), metadata={"secret": True})
    # A lock cannot wait longer than TIMEOUT_MAX; the comparison refuses NaN too.
    request_timeout: float | None = _limited(
        None,
        f"over 0 and at most {threading.TIMEOUT_MAX:.0f} seconds",
        lambda seconds: seconds is None or 0 < seconds <= threading.TIMEOUT_MAX,
    )
    max_body_size: int = _at_least(0, default=16 * 1024 * 1024)
    max_form_memory_size: int = _at_least(0, default=500_000)
    max_form_parts: int = _at_least(0, default=1_000)
    trusted_hosts: Sequence[str] = ()
    workers: int = _at_least(1, default=1)
    threads: int = _at_least(1, default=4)
    reuse_port: bool = False
    # The values of data are hidden too: passwords of services stand there.
    data: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata={"secret": True})
    _debug_key: dict[str, str] = field(default_factory=dict, init=False, compare=False)

    def __new__(cls, **values: object) -> Self:
        """Refuse unknown names before the generated ``__init__`` answers them with a TypeError."""
        for name in values:
            if name not in _DECLARED:
                raise _unknown("Settings", name, _DECLARED)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for name, setting in _DECLARED.items():
            object.__setattr__(self, name, _check(setting, getattr(self, name), f"Settings: {name}"))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str = "mapping") -> Self:
        """Make settings of what a configuration file holds.

        Args:
            mapping: the key ``prologue`` holds the settings, under their own names or the original's
                (``appName``, ``secretKey``, ``maxBody``, ``reusePort``, ``numThreads``); all other keys
                become ``data``.
            source: what errors call the mapping.

        Raises:
            SettingsError: ``prologue`` is missing or no mapping; a setting in it is unknown, there twice,
                of a wrong type or out of range.

        Source: the original's ``loadSettings``.
        """
        return cls(**_from_document(mapping, source))

    @classmethod
    def from_json(cls, path: StrPath) -> Self:
        """Make settings of a JSON file, with the keys that :meth:`from_mapping` describes.

        Raises:
            SettingsError: the file cannot be read or is no JSON; and as :meth:`from_mapping`.
        """
        return cls.from_mapping(_read_json(path), os.fspath(path))

    @classmethod
    def from_toml(cls, path: StrPath) -> Self:
        """Make settings of a TOML file, with the keys that :meth:`from_mapping` describes.

        Raises:
            SettingsError: the file cannot be read or is no TOML; and as :meth:`from_mapping`.
        """
        return cls.from_mapping(_read_toml(path), os.fspath(path))

    @classmethod
    def from_env(cls, prefix: str = _PREFIX, environ: Mapping[str, str] | None = None) -> Self:
        """Make settings of environment variables, such as ``PROLOGUE_PORT=9000``.

        Text is read as the setting's type (:func:`prologue.environment.parse_value`); lists are separated
        by commas; ``none`` is None. ``data`` cannot be set here.

        Args:
            prefix: how the names begin; the setting's name follows in capitals. Others are not looked at.
            environ: the variables; default None, which is ``os.environ``.

        Raises:
            SettingsError: a name with the prefix is unknown; a value cannot be read or is out of range.
        """
        return cls(**_from_environ(os.environ if environ is None else environ, "environment", prefix))

    @classmethod
    def from_dotenv(cls, path: StrPath = ".env") -> Self:
        """Make settings of a ``.env`` file, with the names that :meth:`from_env` describes.

        Args:
            path: the file; when there is none, all settings have their defaults.

        Raises:
            SettingsError: as :meth:`from_env`.
            EnvError: as :func:`prologue.environment.load_env`.
        """
        return cls(**_from_environ(load_env(path), os.fspath(path)))

    @classmethod
    def load(
        cls,
        directory: StrPath = ".config",
        environ: Mapping[str, str] | None = None,
        *,
        dotenv: StrPath | None = ".env",
        **overrides: Any,
    ) -> Self:
        """Make settings of all sources: keyword over environment over ``.env`` over file over default.

        The file is ``config.json`` or, when the variable ``PROLOGUE`` is X, ``config.X.json``; with
        ``.toml`` for ``.json`` when the latter is not there. ``default`` and nothing mean no X.

        Args:
            directory: where the file is.
            environ: the variables; default None, which is ``os.environ``.
            dotenv: the ``.env`` file, which need not be there; None reads none.
            overrides: settings that win over all others; ``data`` replaces all that the file holds.

        Raises:
            SettingsError: there is no such file; ``PROLOGUE`` is no plain name; and as :meth:`from_json`,
                :meth:`from_toml` and :meth:`from_env`. A wrong value is an error where another one
                overrides it, too.
            EnvError: as :func:`prologue.environment.load_env`.

        Source: the original's ``newAppQueryEnv``.
        """
        if environ is None:
            environ = os.environ
        env = Env() if dotenv is None else load_env(dotenv)
        path = _configuration_file(directory, environ.get(_SELECTOR, env.get(_SELECTOR, "")))
        document = _read_json(path) if path.endswith(".json") else _read_toml(path)
        values = _from_document(document, path)
        values |= _from_environ(env, str(dotenv))
        values |= _from_environ(environ, "environment")
        return cls(**(values | overrides))

    def __getitem__(self, key: str) -> Any:
        """Return ``data[key]``; raise KeyError when it is not there."""
        return self.data[key]

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def get(self, key: str, default: Any = None) -> Any:
        """Return ``data[key]``, or the default when it is not there."""
        return self.data.get(key, default)

    def replace(self, **changes: Any) -> Self:
        """Return new settings with some changed.

        Raises:
            SettingsError: as the constructor.
        """
        values = {name: getattr(self, name) for name in _DECLARED}
        return type(self)(**(values | changes))

    def require_secret_keys(self) -> tuple[str, ...]:
        """Return the secret keys, of which there is at least one: the first signs, all verify.

        In debug, settings without keys make a random one on the first call and log a warning. Every
        call, from any thread, and a child forked afterwards, gets this same key.

        Raises:
            EmptySecretKeyError: there is no key and ``debug`` is off.
        """
        if self.secret_keys:
            return tuple(self.secret_keys)
        if not self.debug:
            raise EmptySecretKeyError(
                "secret_keys is empty and something signs: set secret_keys=[...] or PROLOGUE_SECRET_KEYS; "
                "python -c 'import secrets; print(secrets.token_urlsafe())' prints a good key"
            )
        import logging
        import secrets

        made = secrets.token_urlsafe()
        # setdefault is one step on every build of Python, so one thread's key wins without a lock.
        key = self._debug_key.setdefault("key", made)
        if key is made:
            logging.getLogger(__name__).warning(
                "secret_keys is empty: signing with a random key that lives only in this process; what it "
                "signs is void after a restart and in other processes. Set secret_keys to keep it."
            )
        return (key,)

    def __repr__(self) -> str:
        shown = []
        for name, setting in _DECLARED.items():
            value = getattr(self, name)
            secret = setting.metadata.get("secret")
            shown.append(f"{name}=<{len(value)} hidden>" if secret else f"{name}={value!r}")
        return f"Settings({', '.join(shown)})"


_DECLARED = {setting.name: setting for setting in fields(Settings) if setting.init}


class _Kind(NamedTuple):
    """How the values of one annotation are called in errors, checked, and read from text."""

    expected: str
    check: Callable[[Any], Any]
    parse: Callable[[str], Any]


def _exactly(kind: type) -> Callable[[object], object]:
    """Check for the type itself, so that True is no int."""

    def check(value: object) -> object:
        if type(value) is not kind:
            raise TypeError
        return value

    return check


def _check_float(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _check_strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
        raise TypeError
    if not all(type(item) is str and item for item in value):
        raise ValueError
    return tuple(value)


def _check_mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(type(key) is str for key in value):
        raise TypeError
    return MappingProxyType(deepcopy(dict(value)))


def _parse_float(text: str) -> float | None:
    return None if text.lower() == "none" else parse_value(text, float)


def _parse_strings(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")] if text else []


def _parse_mapping(text: str) -> Mapping[str, Any]:
    raise ValueError("data has no form as text")


_KINDS: dict[Any, _Kind] = {
    str: _Kind("str", _exactly(str), str),
    bool: _Kind("bool", _exactly(bool), lambda text: parse_value(text, bool)),
    int: _Kind("int", _exactly(int), lambda text: parse_value(text, int)),
    float | None: _Kind("float or None", _check_float, _parse_float),
    Sequence[str]: _Kind('a list of non-empty str, such as ["one", "two"]', _check_strings, _parse_strings),
    Mapping[str, Any]: _Kind(
        "a mapping from a file or a keyword, with str keys and values that can be copied",
        _check_mapping,
        _parse_mapping,
    ),
}


def _check(setting: Field[Any], value: Any, where: str, *, text: bool = False) -> Any:
    """Return the value to keep for a setting.

    Args:
        setting: the declaration.
        value: what was given.
        where: the source and the key, for the error.
        text: whether the value is text to read first.

    Raises:
        SettingsError: the value does not fit the declaration.
    """
    kind = _KINDS[setting.type]
    limits = setting.metadata
    try:
        kept = kind.check(kind.parse(value) if text else value)
        if "within" in limits and not limits["within"](kept):
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        expected = f"{kind.expected}, {limits['limit']}" if "limit" in limits else kind.expected
        given = f"a hidden {type(value).__name__}" if limits.get("secret") else f"{value!r:.80}"
        raise SettingsError(f"{where} must be {expected}; it is {given}") from error
    return kept


def _unknown(source: str, name: object, known: Iterable[str]) -> SettingsError:
    # Imported here, as every module that only some programs need, to keep the import of this one cheap.
    from difflib import get_close_matches

    close = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
    return SettingsError(f"{source}: unknown setting {name!r}; {hint}")


def _from_document(document: Any, source: str) -> dict[str, Any]:
    """Return the checked values that a configuration file sets."""
    section = document.get("prologue") if isinstance(document, Mapping) else None
    if not isinstance(section, Mapping):
        raise SettingsError(
            f"{source}: the key 'prologue' must hold a mapping of settings; add it, even empty"
        )
    values: dict[str, Any] = {"data": {key: document[key] for key in document if key != "prologue"}}
    known = _DECLARED.keys() - values.keys()
    for key, value in section.items():
        name = _ORIGINAL_NAMES.get(key, key)
        if name not in known:
            raise _unknown(source, key, known)
        if name in values:
            raise SettingsError(f"{source}: {name} is set twice, the second time as {key!r}; remove one")
        given = [value] if key == "secretKey" else value
        values[name] = _check(_DECLARED[name], given, f"{source}: {key}")
    return values


def _from_environ(environ: Mapping[str, str], source: str, prefix: str = _PREFIX) -> dict[str, Any]:
    """Return the checked values that environment variables set."""
    names = {prefix + name.upper(): name for name in _DECLARED}
    values = {}
    for key, text in environ.items():
        if key.startswith(prefix):
            if key not in names:
                raise _unknown(source, key, names)
            values[names[key]] = _check(_DECLARED[names[key]], text, f"{source}: {key}", text=True)
    return values


def _configuration_file(directory: StrPath, selected: str) -> str:
    """Return the path of the configuration file that the variable ``PROLOGUE`` selects."""
    name = "config"
    if selected not in ("", "default"):
        if not _SELECTED.fullmatch(selected):
            raise SettingsError(
                f"{_SELECTOR}={selected!r:.80} is no name of a file; use ASCII letters, digits, _ and -"
            )
        name = f"config.{selected}"
    tried = [os.path.join(directory, name + ending) for ending in (".json", ".toml")]
    for path in tried:
        if os.path.isfile(path):
            return path
    raise SettingsError(f"neither {tried[0]} nor {tried[1]} is there; make one, or set {_SELECTOR}")


def _read_file(path: StrPath) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise SettingsError(f"{os.fspath(path)}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{os.fspath(path)}: not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from error


def _read_json(path: StrPath) -> Any:
    import json

    try:
        return json.loads(_read_file(path))
    except json.JSONDecodeError as error:
        raise SettingsError(
            f"{os.fspath(path)}, line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error


def _read_toml(path: StrPath) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(_read_file(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{os.fspath(path)}: {error}") from error
