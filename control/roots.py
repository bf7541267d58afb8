"""The root keys, a line each in their file, oldest first: the last one makes all that is new.

A former one stays readable until nothing is left that it has sealed; of one that was dropped only
its pepper stays, without which the API keys of its time would die.
"""

import logging
import os
import secrets
import stat
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from control.settings import ControlSettings

log = logging.getLogger("opscenter.control.roots")

ROOT_LENGTH_MIN = 32  # characters
ROOT_DISTINCT_MIN = 10  # different characters among them
ROOT_FILE_MAX = 4096  # bytes
ROOTS_MAX = 20  # lines
PEPPER = "pepper:"  # how the line of a dropped root begins
PEPPER_BYTES = 32

# Words of defaults and examples; a key that holds one was copied, not made.
_EXAMPLES = (
    "change",
    "example",
    "default",
    "secret",
    "password",
    "opscenter",
    "12345678",
    "xxxxxxxx",
)
_CURE = "Make one with `openssl rand -base64 48`."


class SecretError(Exception):
    """The root key or what was made from it cannot be used; the message holds no secret."""


@dataclass(frozen=True, slots=True, repr=False)
class Former:
    """A root key before the newest one."""

    pepper: bytes
    root: bytes | None  # None: dropped


def derived(root: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose; the label keeps purposes apart."""
    info = b"opscenter " + purpose.encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(root)


def read(settings: ControlSettings) -> tuple[bytes, Sequence[Former]]:
    """The newest and the former ones; the first start makes one."""
    if settings.root_key:
        return _parsed(settings.root_key, "OPSCENTER_ROOT_KEY")
    path = settings.root_key_path
    if not path.exists():
        _make(path, settings.proxy_keys)
    return _parsed(_read_private(path), str(path))


def add(settings: ControlSettings) -> int:
    """A new root key behind the others; its version."""
    newest, former = read(settings)
    if former and former[-1].root is not None:
        raise SecretError(
            "There is a former root key yet. Run `opscenter secrets rotate`, then `opscenter "
            "secrets drop-old`, before you make another."
        )
    if len(former) + 2 > ROOTS_MAX:
        raise SecretError(f"There are {ROOTS_MAX} root keys already, the most that are kept.")
    lines = [*_lines(former), newest.decode(), secrets.token_urlsafe(48)]
    _write(settings, lines)
    return len(lines)


def drop(settings: ControlSettings) -> int:
    """Forgets the former ones but for their peppers; how many."""
    newest, former = read(settings)
    gone = sum(one.root is not None for one in former)
    if gone:
        peppers = [Former(one.pepper, None) for one in former]
        _write(settings, [*_lines(peppers), newest.decode()])
    return gone


def _lines(former: Sequence[Former]) -> list[str]:
    return [
        one.root.decode() if one.root is not None else PEPPER + b64encode(one.pepper).decode()
        for one in former
    ]


def _write(settings: ControlSettings, lines: list[str]) -> None:
    if settings.root_key:
        raise SecretError(
            "The root key comes from OPSCENTER_ROOT_KEY, which no program can change: make a key "
            "with `openssl rand -base64 48` and add it there as a further line, the last one."
        )
    write_private(settings.root_key_path, "".join(f"{line}\n" for line in lines).encode())


# Reading --------------------------------------------------------------------------------


def _parsed(text: str, where: str) -> tuple[bytes, Sequence[Former]]:
    lines = text.strip().splitlines()
    if len(lines) > ROOTS_MAX:
        raise SecretError(f"{where} has more than {ROOTS_MAX} lines, a root key each.")
    last = lines.pop() if lines else ""
    newest = _checked(last, where)
    former = [_former(line.strip(), n, where) for n, line in enumerate(lines, 1)]
    every = [newest, *(one.root for one in former if one.root is not None)]
    if len(set(every)) < len(every):
        raise SecretError(f"{where} has the same root key twice. {_CURE}")
    return newest, former


def _former(line: str, version: int, where: str) -> Former:
    if not line.startswith(PEPPER):
        root = _checked(line, where)
        return Former(derived(root, f"pepper v{version}"), root)
    try:
        pepper = b64decode(line.removeprefix(PEPPER), validate=True)
    except ValueError:
        pepper = b""
    if len(pepper) != PEPPER_BYTES:
        raise SecretError(f"{where} has a line of a pepper that is none. Take it from your backup.")
    return Former(pepper, None)


def _checked(text: str, where: str) -> bytes:
    key = text.strip()
    if len(key) < ROOT_LENGTH_MIN:
        raise SecretError(f"{where} is shorter than {ROOT_LENGTH_MIN} characters. {_CURE}")
    if len(set(key)) < ROOT_DISTINCT_MIN:
        raise SecretError(f"{where} repeats a few characters and can be guessed. {_CURE}")
    if key.startswith(PEPPER) or any(word in key.lower() for word in _EXAMPLES):
        raise SecretError(f"{where} is a default or an example value. {_CURE}")
    return key.encode()


def _make(path: Path, proxy_keys: Path) -> None:
    if proxy_keys.exists():
        raise SecretError(
            f"The root key {path} is gone, but {proxy_keys} was made from it. Put it back from "
            f"your backup; only for a new, empty installation delete {proxy_keys}."
        )
    private_folder(path.parent)
    draft = _draft(path, secrets.token_urlsafe(48).encode() + b"\n")
    try:
        os.link(draft, path)  # unlike a rename it never replaces another start's key
        log.info("made a root key at %s: back it up, nothing can be read without it", path)
    except FileExistsError:
        log.info("another start made the root key at %s", path)
    finally:
        draft.unlink()


def _read_private(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise SecretError(f"{path} can be read by others. Run `chmod 600 {path}`.")
        with path.open("rb") as file:
            return file.read(ROOT_FILE_MAX).decode("utf-8")
    except OSError as problem:
        raise SecretError(
            f"{path} cannot be read: {problem.strerror}. Give this user the right to read it."
        ) from None
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not text. {_CURE}") from None


# Files of secrets -----------------------------------------------------------------------


def write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, and for its owner alone."""
    try:
        private_folder(path.parent)
        _draft(path, content).replace(path)
    except OSError as problem:
        raise SecretError(
            f"{path} cannot be written: {problem.strerror}. Give this user the folder, or another."
        ) from None


def private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft
