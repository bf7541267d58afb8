"""The root key and what is derived from it: one key per purpose, so that no purpose can read
another's. Never hands the root key to anyone and never stores it in the database.
"""

import logging
import os
import secrets
import stat
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from control.settings import ControlSettings
from proxy import keyfile
from proxy.keyfile import KeyFile

log = logging.getLogger("opscenter.control.secrets")

ROOT_LENGTH_MIN = 32  # characters
ROOT_DISTINCT_MIN = 10  # different characters among them
ROOT_FILE_MAX = 4096  # bytes
VERSION = 1  # of the pepper and of the provider-secret key

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
class Secrets:
    """All that this installation derives from its root key."""

    root: bytes

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose; the label keeps purposes apart."""
        info = b"opscenter " + purpose.encode()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self.root)

    @property
    def proxy_file(self) -> bytes:
        """What proxies receive: the pepper and the key of provider secrets, never the root."""
        peppers = {VERSION: self.derive(f"pepper v{VERSION}")}
        providers = {VERSION: self.derive(f"provider secrets v{VERSION}")}
        return keyfile.render(peppers, providers)

    @property
    def keys(self) -> KeyFile:
        return KeyFile.parse(self.proxy_file)

    @property
    def answers(self) -> "Box":
        """For answers kept under an Idempotency-Key: they may show a new key."""
        return Box(Fernet(_fernet_key(self.derive("idempotency v1"))))


@dataclass(frozen=True, slots=True, repr=False)
class Box:
    """Seals what must not lie readable in the database."""

    fernet: Fernet

    def seal(self, plain: bytes) -> bytes:
        return self.fernet.encrypt(plain)

    def open(self, sealed: bytes) -> bytes | None:
        """None when it was sealed under another root key or was changed."""
        try:
            return self.fernet.decrypt(sealed)
        except InvalidToken:
            return None


def unlock(settings: ControlSettings) -> Secrets:
    """The secrets of this home; at the first start the root key and the proxy key file are made."""
    made = Secrets(_root(settings))
    _keep_proxy_file(settings.proxy_keys, made.proxy_file)
    return made


def verify(settings: ControlSettings) -> str:
    """What is not yet made, "" when all is as it should be; raises where it does not fit."""
    if not settings.root_key and not settings.root_key_path.exists():
        return f"there is no root key at {settings.root_key_path} yet"
    wanted = Secrets(_root(settings)).proxy_file
    if not settings.proxy_keys.exists():
        return f"there is no proxy key file at {settings.proxy_keys} yet"
    _keep_proxy_file(settings.proxy_keys, wanted)
    return ""


def _fernet_key(key: bytes) -> bytes:
    return urlsafe_b64encode(key)


# The root key -------------------------------------------------------------------


def _root(settings: ControlSettings) -> bytes:
    if settings.root_key:
        return _checked(settings.root_key, "OPSCENTER_ROOT_KEY")
    path = settings.root_key_path
    if not path.exists():
        _make_root(path, settings.proxy_keys)
    return _checked(_read_private(path), str(path))


def _checked(text: str, where: str) -> bytes:
    key = text.strip()
    if len(key) < ROOT_LENGTH_MIN:
        raise SecretError(f"{where} is shorter than {ROOT_LENGTH_MIN} characters. {_CURE}")
    if len(set(key)) < ROOT_DISTINCT_MIN:
        raise SecretError(f"{where} repeats a few characters and can be guessed. {_CURE}")
    if any(word in key.lower() for word in _EXAMPLES):
        raise SecretError(f"{where} is a default or an example value. {_CURE}")
    return key.encode()


def _make_root(path: Path, proxy_keys: Path) -> None:
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


# The proxy key file ---------------------------------------------------------------


def _keep_proxy_file(path: Path, wanted: bytes) -> None:
    try:
        present = path.read_bytes()
    except FileNotFoundError:
        write_private(path, wanted)
        return
    except OSError as problem:
        raise SecretError(f"{path} cannot be read: {problem.strerror}.") from None
    if present != wanted:
        raise SecretError(
            f"{path} was made from another root key: with this one no API key would work. "
            f"Put the former root key back; only if that is lost for good delete {path}."
        )


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
