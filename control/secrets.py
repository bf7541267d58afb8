"""What is derived from the root keys: one key per purpose, so that no purpose can read another's.
Never hands a root key to anyone and never stores one in the database.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from control import roots
from control.roots import Former, SecretError, derived, write_private
from control.settings import ControlSettings
from proxy.who import keyfile
from proxy.who.keyfile import KeyFile

PLUGINS = "plugin configuration v1"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """All that this installation derives from its root keys."""

    root: bytes  # the newest: makes all that is new
    former: Sequence[Former] = ()  # oldest first

    @property
    def version(self) -> int:
        """Of the newest; of its pepper and of its key of provider secrets too."""
        return len(self.former) + 1

    def derive(self, purpose: str) -> bytes:
        return derived(self.root, purpose)

    def each(self, purpose: str) -> list[bytes]:
        """By the newest root key and by the former ones that are kept."""
        kept = [one.root for one in reversed(self.former) if one.root is not None]
        return [derived(root, purpose) for root in (self.root, *kept)]

    @property
    def proxy_file(self) -> bytes:
        """What proxies receive: peppers and keys of provider secrets, never a root."""
        peppers = {version: one.pepper for version, one in enumerate(self.former, 1)}
        peppers[self.version] = self.derive(f"pepper v{self.version}")
        return keyfile.render(peppers, self._providers)

    @property
    def _providers(self) -> dict[int, bytes]:
        """Newest first."""
        return {
            version: derived(root, f"provider secrets v{version}")
            for version, root in ((self.version, self.root), *self._kept)
        }

    @property
    def _kept(self) -> list[tuple[int, bytes]]:
        found = [(n, one.root) for n, one in enumerate(self.former, 1) if one.root is not None]
        return found[::-1]

    @property
    def keys(self) -> KeyFile:
        return KeyFile.parse(self.proxy_file)

    @property
    def answers(self) -> "Box":
        """For answers kept under an Idempotency-Key: they may show a new key."""
        return Box.of(self.each("idempotency v1"))

    @property
    def plugins(self) -> "Box":
        """For their configurations."""
        return Box.of(self.each(PLUGINS))

    @property
    def providers(self) -> "Box":
        """For providers' keys, whatever they are bound to: it moves them, and reads none."""
        return Box.of(list(self._providers.values()))


@dataclass(frozen=True, slots=True, repr=False)
class Box:
    """Seals what must not lie readable in the database."""

    fernets: Sequence[Fernet]  # the newest first, which seals

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> "Box":
        return cls([Fernet(urlsafe_b64encode(key)) for key in keys])

    def seal(self, plain: bytes) -> bytes:
        return self.fernets[0].encrypt(plain)

    def open(self, sealed: bytes) -> bytes | None:
        """None when it was sealed under another root key or was changed."""
        try:
            return MultiFernet(self.fernets).decrypt(sealed)
        except InvalidToken:
            return None

    def is_newest(self, sealed: bytes) -> bool:
        try:
            self.fernets[0].decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def resealed(self, sealed: bytes) -> bytes | None:
        """The same under the newest key; None where no key opens it."""
        try:
            return MultiFernet(self.fernets).rotate(sealed)
        except InvalidToken:
            return None


def unlock(settings: ControlSettings) -> Secrets:
    """The secrets of this home; at the first start the root key and the proxy key file are made."""
    made = Secrets(*roots.read(settings))
    if not _is_present(settings.proxy_keys, made.proxy_file):
        write_private(settings.proxy_keys, made.proxy_file)
    return made


def verify(settings: ControlSettings) -> str:
    """What is not yet made, "" when all is as it should be; raises where it does not fit."""
    if not settings.root_key and not settings.root_key_path.exists():
        return f"there is no root key at {settings.root_key_path} yet"
    made = Secrets(*roots.read(settings))
    if not settings.proxy_keys.exists():
        return f"there is no proxy key file at {settings.proxy_keys} yet"
    if not _is_present(settings.proxy_keys, made.proxy_file):
        return f"the proxy key file at {settings.proxy_keys} is from before the newest root key"
    return ""


def new_root(settings: ControlSettings) -> int:
    """A further root key, and the proxies' file with its keys beside the former ones."""
    unlock(settings)  # nothing is added to what does not fit
    version = roots.add(settings)
    unlock(settings)
    return version


def drop_old(settings: ControlSettings, version: int) -> int:
    """Only when all is sealed by the root key of this version, the newest; how many are gone."""
    newest = unlock(settings).version
    if newest != version:
        raise SecretError(
            f"The control plane that runs seals by root key {version}, and the newest one is "
            f"{newest}. Restart it, run `opscenter secrets rotate`, then this again."
        )
    gone = roots.drop(settings)
    unlock(settings)
    return gone


def _is_present(path: Path, wanted: bytes) -> bool:
    """Whether the proxies' file is the newest; False where it is missing or an older one of ours.
    Another installation's is never overwritten."""
    try:
        present = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise SecretError(f"{path} cannot be read: {problem.strerror}.") from None
    if present != wanted and not _is_older(present, wanted):
        raise SecretError(
            f"{path} was made from another root key: with this one no API key would work. "
            f"Put the former root key back; only if that is lost for good delete {path}."
        )
    return present == wanted


def _is_older(present: bytes, wanted: bytes) -> bool:
    """Every API key that works by the one works by the other."""
    try:
        before = KeyFile.parse(present).peppers
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    now = KeyFile.parse(wanted).peppers
    return all(now.get(version) == pepper for version, pepper in before.items())
