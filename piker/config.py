"""
Where piker keeps its files, and what the operator wrote into them.

Reads `conf.toml` (settings) and `brokers.toml` (venues, accounts, keys) of the state folder, and
refuses what it does not know with file, line and key. The folder and the run's venues may be set
by a supervisor (`use_vars`); they are looked up at each use, never at import. Reading order:
`config_dir`, `settings`, `venue_for`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import tomlkit
from bidict import bidict
from platformdirs import user_config_path

from piker.errors import ConfigError
from piker.log import get_logger
from piker.settings import Settings as Settings  # what `settings()` returns

log = get_logger(__name__)

CONF_NAMES = ("conf", "brokers", "watchlists")

# What counts as the real venue; any other host is a local venue (see `Venue`).
OFFICIAL_HOSTS: dict[str, tuple[str, ...]] = {
    "binance": ("binance.com", "binance.vision"),
    "kraken": ("kraken.com",),
    "deribit": ("deribit.com",),
    "kucoin": ("kucoin.com",),
}

_vars: Callable[[], dict[str, Any]] = dict


def use_vars(source: Callable[[], dict[str, Any]]) -> None:
    """Let `source` give, at each call, the variables that a run hands down to its processes."""
    global _vars
    _vars = source


def run_vars() -> dict[str, Any]:
    """Return the run's variables (`venues`, `clock`, `run_id`, …); empty outside of a run."""
    return _vars()


# ---- folders ----


def config_dir() -> Path:
    """
    Return the folder of configuration and state; it need not exist yet.

    A run's own folder (`piker_test_dir`) comes first, then `PIKER_CONFIG_DIR`, then the user's
    configuration folder (of the invoking user under sudo).
    """
    if set_by_run := run_vars().get("piker_test_dir"):
        return Path(set_by_run)
    if set_by_env := os.environ.get("PIKER_CONFIG_DIR"):
        return Path(set_by_env).expanduser().absolute()
    if sudo_user := os.environ.get("SUDO_USER"):
        return Path(f"~{sudo_user}").expanduser() / ".config" / "piker"
    return user_config_path("piker")


def run_dir() -> Path:
    """Return the folder that holds what exists only while a `pikerd` runs; it may not exist."""
    return config_dir() / "run"


def shm_dir() -> Path:
    """Return the folder of shared-memory files: `PIKER_SHM_DIR`, else `[data] shm_dir`."""
    return Path(os.environ.get("PIKER_SHM_DIR") or settings().data.shm_dir)


# ---- conf.toml ----


_settings_cache: dict[Path, tuple[tuple[int, int], Settings]] = {}


def settings() -> Settings:
    """
    Return the checked content of `conf.toml` (defaults when there is no such file).

    Raises:
      ConfigError: the file is no TOML, has an unknown key or a value of a wrong type or range;
        the text names file, line and key.
    """
    path = config_dir() / "conf.toml"
    try:
        stat = path.stat()
    except FileNotFoundError:
        return Settings()
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}") from None
    version = (stat.st_mtime_ns, stat.st_size)
    if (cached := _settings_cache.get(path)) and cached[0] == version:
        return cached[1]
    parsed = parse_settings(_read(path), path.name)
    _settings_cache[path] = version, parsed
    return parsed


def parse_settings(text: str, where: str = "conf.toml") -> Settings:
    """
    Return `text` as settings.

    Raises:
      ConfigError: see `settings`.
    """
    content = _parse_toml(text, where)
    try:
        return msgspec.convert(content, Settings)
    except msgspec.ValidationError as err:
        raise _explain(str(err), content, text, where) from None


def _explain(why: str, content: dict[str, Any], text: str, where: str) -> ConfigError:
    """Turn msgspec's `<what> - at `$.<section>.<key>`` into a line for the operator."""
    what, _, path = why.partition(" - at `$")
    keys = re.findall(r"\w+", path)
    if unknown := re.search(r"unknown field `([^`]*)`", what):
        keys.append(unknown[1])
        return ConfigError(f"{_place(text, where, keys)}: unknown key; remove or correct it")
    if named := re.match(r"(\w+) (was .*)", what):
        keys.append(named[1])
        return ConfigError(f"{_place(text, where, keys)}: {named[2]}")
    value: Any = content
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    what = what.replace("`", "").replace("Expected", "expected")
    what = what.replace("Invalid decimal string", "expected a number")
    return ConfigError(f"{_place(text, where, keys)}: was {value!r}, {what}")


def _place(text: str, where: str, keys: list[str]) -> str:
    """Return `conf.toml:12: [data] ring_ticks`; no number when the line cannot be told."""
    section, key = (keys[0], keys[-1]) if len(keys) > 1 else ("", keys[0] if keys else "")
    name = f"[{'.'.join(keys[:-1])}] {key}" if section else f"`{key}`"
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            inside = head[1]
            if inside == f"{section}.{key}":
                return f"{where}:{number}: {name}"
            if not section and inside.split(".")[0] == key:
                return f"{where}:{number}: {name}"
        elif (
            inside.split(".")[0] == section and re.match(rf"\s*\"?{re.escape(key)}\"?\s*[.=]", line)
        ) or (not inside and section and re.match(rf"\s*{re.escape(section)}\s*[.=]", line)):
            return f"{where}:{number}: {name}"
    return f"{where}: {name}"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read: {err}") from None


def _parse_toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        line = re.search(r"at line (\d+)", str(err))
        place = f"{where}:{line[1]}" if line else where
        raise ConfigError(f"{place}: is not valid TOML: {err}") from None


# ---- brokers.toml, venues ----


class _Broker(msgspec.Struct, frozen=True):
    """What any broker's section may hold; other keys are the backend's own."""

    venue_url: str = ""
    accounts: dict[str, str | int] = {}


def _read_brokers() -> dict[str, dict[str, Any]]:
    """
    Return the sections of `brokers.toml`, checked; none without the file.

    Raises:
      ConfigError: see `broker_settings`.
    """
    path = config_dir() / "brokers.toml"
    if not path.exists():
        return {}
    text, where = _read(path), path.name
    content = _parse_toml(text, where)
    for broker in content:
        _check_broker(broker, content, text, where)
    return content


def _check_broker(broker: str, content: dict[str, Any], text: str, where: str) -> None:
    """Refuse what a broker's section cannot hold; other keys are the backend's own."""
    section = content[broker]
    if not isinstance(section, dict):
        place = _place(text, where, [broker])
        raise ConfigError(f"{place}: was {section!r}, expected a section [<broker>]")
    for key in section:
        # other keys are the backend's own, but a slip must not leave out what was meant
        if key not in _Broker.__struct_fields__ and (
            meant := get_close_matches(key, _Broker.__struct_fields__, 1, 0.8)
        ):
            place = _place(text, where, [broker, key])
            raise ConfigError(f"{place}: unknown key, expected {meant[0]}")
    if "venue_url" in section and broker not in OFFICIAL_HOSTS:
        place = _place(text, where, [broker, "venue_url"])
        known = ", ".join(OFFICIAL_HOSTS)
        raise ConfigError(f"{place}: no broker is named {broker!r}, expected one of {known}")
    try:
        parse_venue(broker, msgspec.convert(section, _Broker).venue_url)
    except msgspec.ValidationError as err:
        why = str(err).replace("`$", f"`$.{broker}")
        raise _explain(why, content, text, where) from None
    except ConfigError as err:
        raise ConfigError(f"{_place(text, where, [broker, 'venue_url'])}: {err}") from None


def broker_settings(broker: str) -> dict[str, Any]:
    """
    Return the `[<broker>]` section of `brokers.toml` (empty when there is none).

    Raises:
      ConfigError: the file is no TOML, or has a section, key or value that cannot be; the text
        names file, line and key.
    """
    return _read_brokers().get(broker, {})


class Venue(msgspec.Struct, frozen=True):
    """
    Which servers a broker's name stands for in this run.

    `url` None: the broker's own. A local venue's files live below `venues/<name>/`, and no key
    of the broker's section is ever sent to it.
    """

    broker: str
    url: str | None = None
    name: str = ""
    is_local: bool = False

    def __str__(self) -> str:
        return f"{self.url}#{self.name}" if self.url else ""


def parse_venue(broker: str, text: str | None) -> Venue:
    """
    Return the venue that `text` names: `URL` or `URL#NAME`; empty: the official one.

    Raises:
      ConfigError: no http(s) URL with a host, or a name that is no plain word.
    """
    if not text:
        return Venue(broker)
    url, _, name = text.partition("#")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"venue of {broker}: was {text!r}, expected a URL such as http://127.0.0.1:8123"
        )
    official = OFFICIAL_HOSTS.get(broker, ())
    is_local = not any(host == known or host.endswith("." + known) for known in official)
    name = name or (f"{host}-{port}" if port else host)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ConfigError(
            f"venue of {broker}: name was {name!r}, expected letters, digits, - and _"
        )
    return Venue(broker, url.rstrip("/"), name, is_local)


def venue_for(broker: str) -> Venue:
    """Return the broker's venue: fixed at the start of the run, else `venue_url` of its section."""
    if (venues := run_vars().get("venues")) is not None:
        return parse_venue(broker, venues.get(broker))
    return parse_venue(broker, broker_settings(broker).get("venue_url"))


def configured_venues() -> dict[str, str]:
    """Return `{broker: venue_url}` of every section of `brokers.toml` that has one."""
    return {
        broker: str(parse_venue(broker, url))
        for broker, section in _read_brokers().items()
        if (url := section.get("venue_url"))
    }


def broker_dir(broker: str) -> Path:
    """Return the folder for a broker's files; a local venue's live apart (`venues/<name>/`)."""
    venue = venue_for(broker)
    return config_dir() / "venues" / venue.name if venue.is_local else config_dir()


# ---- files as such ----


def load(
    conf_name: str = "conf", path: Path | None = None, touch_if_dne: bool = False
) -> tuple[dict[str, Any], Path]:
    """
    Return a configuration file's content (comments are kept for `write`) and its path.

    With `touch_if_dne` a missing file is made from its template (empty for a `path` of your own).

    Raises:
      FileNotFoundError: it is missing and `touch_if_dne` is false.
      ConfigError: it is no TOML.
    """
    assert conf_name in CONF_NAMES or conf_name.startswith("account."), conf_name
    at = path or config_dir() / f"{conf_name}.toml"
    if not at.exists():
        if not touch_if_dne:
            raise FileNotFoundError(f"{at}: no such file")
        template = resources.files("piker") / "templates" / f"{conf_name}.toml"
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(template.read_text("utf-8") if path is None and template.is_file() else "")
    text = _read(at)
    _parse_toml(text, at.name)
    return tomlkit.parse(text), at


def write(
    config: dict[str, Any],
    name: str | None = None,
    path: Path | None = None,
    fail_empty: bool = True,
) -> None:
    """
    Write a configuration file atomically.

    Raises:
      ValueError: `config` is empty and `fail_empty` is true.
    """
    if not config and fail_empty:
        raise ValueError("Watch out you're trying to write a blank config!")
    at = path or config_dir() / f"{name or 'conf'}.toml"
    at.parent.mkdir(parents=True, exist_ok=True)
    temporary = at.with_name(f".{at.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(tomlkit.dumps(config))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(at)


def load_accounts(providers: Iterable[str] | None = None) -> bidict[str, str | None]:
    """Return `{'<broker>.<label>': id}` in file order, and `paper`."""
    content, _ = load("brokers", touch_if_dne=True)
    accounts: bidict[str, str | None] = bidict()
    for broker in content if providers is None else providers:
        section = content.get(broker) or {}
        if not (found := section.get("accounts")):
            log.warning("No accounts named for %s?", broker)
            continue
        for label, native in found.items():
            accounts[f"{broker}.{label}"] = str(native)
    accounts["paper"] = None
    return accounts
