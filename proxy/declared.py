"""Settings as they are declared and read: from the environment and one file, checked, once.

A class of settings declares each one in a single line: type, default, help and limits. The same
line is what the documentation is checked against.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "OPSCENTER_"
FILE_NAME = "opscenter.env"
DEFAULT_HOME = "~/.opscenter"

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting cannot be used; the sentence names it and says what would do."""


def setting(
    default: Any,
    help: str,
    low: int | None = None,
    high: int | None = None,
    one_of: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    limits = {"low": low, "high": high, "one_of": one_of}
    return field(default=default, repr=not secret, metadata={"help": help, **limits})


def absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise SettingsError(f"{path!r} names the home of an unknown user.") from None


def load(kind: type[T], environ: Mapping[str, str], strict: bool = True) -> T:
    """Reads `kind` from the environment and HOME/opscenter.env; the environment wins.

    Any other OPSCENTER_ name is a mistake, told with the nearest right one; a worker is not
    strict, because the names of the planes above it are none of its business.
    """
    home = absolute(environ.get(PREFIX + "HOME") or DEFAULT_HOME)
    given = {**_file(home / FILE_NAME), **environ}
    given[PREFIX + "HOME"] = str(home)
    ours = {env_name(f): f for f in fields(kind)}  # type: ignore[arg-type]
    names = set(ours) | RESERVED
    for name in given:
        if strict and name.startswith(PREFIX) and name not in names:
            near = get_close_matches(name[len(PREFIX) :], [n[len(PREFIX) :] for n in names], 1)
            hint = f" Did you mean {PREFIX}{near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting of Ops-Center.{hint}")
    values = {f.name: _value(f, given[n]) for n, f in ours.items() if given.get(n, "") != ""}
    return kind(**values)


# Read by the start script, the CLI and the plugin host themselves.
RESERVED = {PREFIX + name for name in ("CONTROL_URL", "TOKEN", "PLUGINS", "VENV", "PYTHON")}


def env_name(f: "Field[Any]") -> str:
    return PREFIX + f.name.removesuffix("_at").upper()


def default_of(f: "Field[Any]") -> Any:
    assert f.default is not MISSING, f"setting {f.name} has no default"
    return f.default


def _file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not text in UTF-8.") from None
    except OSError as problem:
        raise SettingsError(f"{path} cannot be read: {problem.strerror}.") from None
    values = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        if not equals or not name.strip().startswith(PREFIX):
            raise SettingsError(f"{path} line {number}: expected {PREFIX}NAME=value.")
        if name.strip() == PREFIX + "HOME":
            raise SettingsError(f"{path} line {number}: {PREFIX}HOME is set in the environment.")
        values[name.strip()] = _unquoted(value.strip())
    return values


_whole_number = re.compile(r"-?[0-9]{1,18}").fullmatch


def _unquoted(value: str) -> str:
    """Without the pair of quotes around it, as a shell would read it."""
    paired = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if paired else value


def _value(f: "Field[Any]", text: str) -> Any:
    default = default_of(f)
    name = env_name(f)
    if isinstance(default, bool):
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off"):
            return False
        raise SettingsError(f"{name} is {text!r}; it takes on or off.")
    if isinstance(default, Path):
        return absolute(text)
    if not isinstance(default, int):
        one_of = f.metadata.get("one_of")
        if one_of and text.lower() not in one_of:
            raise SettingsError(f"{name} is {text!r}; it takes {', '.join(one_of)}.")
        return text.lower() if one_of else text
    low, high = f.metadata["low"], f.metadata["high"]
    if not _whole_number(text):
        raise SettingsError(f"{name} is {text!r}; it takes a whole number.")
    number = int(text)
    if (low is not None and number < low) or (high is not None and number > high):
        upper = f" to {high}" if high is not None else " or more"
        raise SettingsError(f"{name} is {number}; it takes {low}{upper}.")
    return number
