"""Which machine a target's name means: `host`, user@host, or a name in ~/.config/edgecnn/targets.yaml.

pi4:
  host: pi@raspberrypi.local        # or a Host of ~/.ssh/config
  python: ~/edgecnn/venv/bin/python # default: that one where it is there, else python3
  ssh_config: ~/boards/ssh_config   # instead of ~/.ssh/config
  ssh_options: [Port=2222]          # as after ssh's -o
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn import files, yaml_source
from edgecnn.errors import UsageError

HOST = "host"


@dataclass(frozen=True)
class Address:
    """How a board is reached. `name` stands in records; `host` is what ssh is given."""

    name: str
    host: str
    python: str | None = None
    ssh_config: Path | None = None
    ssh_options: tuple[str, ...] = ()


def path() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "edgecnn" / "targets.yaml"


def check(name: str) -> None:
    """Raises UsageError unless `name` is that of a machine."""
    if name != HOST:
        address(name)


def address(name: str) -> Address:
    """The board called `name`. Raises UsageError for a name that is not known, or has a fault in the file."""
    known = _read()
    if name in known:
        return _address(name, known[name])
    if "@" not in name:
        names = ", ".join([HOST, *known])
        raise UsageError(
            f"there is no target {name!r}; known are: {names}",
            fix=f"write user@host, or give the board a name in {path()}",
        )
    return Address(name, _checked_host(name, "--target"))


def _read() -> dict[str, Any]:
    try:
        text = files.read_text(path(), yaml_source.MOST_BYTES)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"cannot be read: {fault}", where=str(path())) from fault
    data = yaml_source.parse(text, str(path())).data
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError("targets.yaml holds names, each with its host", where=str(path()), fix=_EXAMPLE)
    return data


_EXAMPLE = "such as: pi4: {host: pi@raspberrypi.local}"
_KEYS = {"host": str, "python": str, "ssh_config": str, "ssh_options": list}


def _address(name: str, entry: Any) -> Address:
    where = f"{path()}: {name}"
    if not isinstance(entry, dict) or "host" not in entry:
        raise UsageError("a target needs its host", where=where, fix=_EXAMPLE)
    for key, value in entry.items():
        if key not in _KEYS:
            raise UsageError(f"there is no key {key!r}", where=where, fix=f"use: {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            kind = "a list" if _KEYS[key] is list else "a text"
            raise UsageError(f"{key} is {kind}, not {value!r}", where=where, fix=_EXAMPLE)
        for text in map(str, value if isinstance(value, list) else [value]):
            _check_letters(text, key, where)
    options = tuple(map(str, entry.get("ssh_options", ())))
    if wrong := [option for option in options if "=" not in option]:
        raise UsageError(f"{wrong[0]!r} is not an option of ssh", where=where, fix="write NAME=VALUE")
    return Address(
        name,
        _checked_host(entry["host"], where),
        entry.get("python"),
        _expanded(entry.get("ssh_config"), where),
        options,
    )


def _check_letters(text: str, key: str, where: str) -> None:
    """Raises UsageError for what no command takes: NUL and halves of letters; or takes for something else, as
    ssh does with line breaks.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise UsageError(
            f"{key} has a letter that cannot be in it: {text!r}",
            where=where,
            fix="take out the NUL, line break or other control character (\\\\ is a backslash in quotes)",
        )


def _expanded(config: str | None, where: str) -> Path | None:
    try:
        return Path(config).expanduser() if config else None
    except RuntimeError as fault:
        raise UsageError(
            f"ssh_config: there is no such user: {config!r}", where=where, fix="write the whole path"
        ) from fault


def _checked_host(host: str, where: str) -> str:
    """`host`, unless ssh could take it for an option, or it cannot be a host at all."""
    bad_start = host.startswith(("-", "@")) or "@-" in host
    if (
        not host
        or bad_start
        or host.endswith("@")
        or any(c in "/\\" or c.isspace() or not c.isprintable() for c in host)
    ):
        raise UsageError(f"{host!r} is not a host", where=where, fix="write user@host")
    return host
