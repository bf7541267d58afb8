"""What a proxy may hold of the installation's secrets: the pepper of API keys and the key of
provider secrets, each with its versions. Made from the root key by the control plane; a proxy
never sees that one.
"""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

KEY_BYTES = 32
IDS = b"opscenter ids of files and batches v1"  # what their key is derived for


class KeyFileError(ValueError):
    """The proxy key file cannot be used; the sentence says how to make it again."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    peppers: dict[int, bytes] = field(repr=False)
    pepper_version: int
    box: MultiFernet
    ids: tuple[AESSIV, ...] = ()  # newest first

    def digest(self, key: str, pepper: int) -> bytes:
        """What is stored of an API key: nobody can make one from it without the pepper."""
        return hmac.digest(self.peppers[pepper], key.encode(), "sha256")

    def seal(self, provider: str, base_url: str, secret: str) -> bytes:
        """Binds a provider's secret to the place it was entered for."""
        plain = {"provider": provider, "base_url": base_url, "secret": secret}
        return self.box.encrypt(orjson.dumps(plain))

    def open(self, provider: str, base_url: str, sealed: bytes) -> str:
        """The secret, or ValueError when it was sealed for another provider or address."""
        try:
            plain = orjson.loads(self.box.decrypt(sealed))
        except (InvalidToken, orjson.JSONDecodeError):
            plain = None
        if not isinstance(plain, dict) or not isinstance(plain.get("secret"), str):
            raise ValueError(f"the secret of provider {provider} was sealed by another key")
        if plain.get("provider") != provider or plain.get("base_url") != base_url:
            raise ValueError(f"the secret of provider {provider} was entered for another address")
        secret: str = plain["secret"]
        return secret

    def seal_id(self, plain: bytes, bound: Sequence[bytes]) -> bytes:
        """The same for the same each time; opens beside what it is bound to alone."""
        return self.ids[0].encrypt(plain, list(bound))

    def open_id(self, sealed: bytes, bound: Sequence[bytes]) -> bytes | None:
        """None where it was not sealed here, or with something else."""
        for box in self.ids:
            try:
                return box.decrypt(sealed, list(bound))
            except InvalidTag:
                continue
        return None

    @classmethod
    def load(cls, path: Path) -> "KeyFile":
        cure = "Run `opscenter secrets proxy-file`, or start with `opscenter up`."
        try:
            return cls.parse(path.read_bytes())
        except FileNotFoundError:
            raise KeyFileError(f"There is no proxy key file at {path}. {cure}") from None
        except OSError as problem:
            raise KeyFileError(f"{path} cannot be read: {problem.strerror}. {cure}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise KeyFileError(f"{path} is not a proxy key file. {cure}") from None

    @classmethod
    def parse(cls, data: bytes) -> "KeyFile":
        """The newest version comes first in use; older ones still read what they made."""
        rows = orjson.loads(data)
        peppers = {_version(v): _key(text) for v, text in rows["pepper"].items()}
        providers = {_version(v): _key(text) for v, text in rows["provider"].items()}
        if not peppers or not providers:
            raise ValueError("no keys")
        newest_first = sorted(providers, reverse=True)
        fernets = [Fernet(base64.urlsafe_b64encode(providers[v])) for v in newest_first]
        ids = tuple(AESSIV(hmac.digest(providers[v], IDS, "sha512")) for v in newest_first)
        return cls(peppers, max(peppers), MultiFernet(fernets), ids)


def render(peppers: dict[int, bytes], providers: dict[int, bytes]) -> bytes:
    """The file's text: {"pepper": {"1": base64}, "provider": {"1": base64}}."""
    return orjson.dumps(
        {
            "pepper": {str(v): base64.b64encode(k).decode() for v, k in peppers.items()},
            "provider": {str(v): base64.b64encode(k).decode() for v, k in providers.items()},
        }
    )


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10) or text.startswith("0"):
        raise ValueError("no version")
    return int(text)


def _key(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != KEY_BYTES:
        raise ValueError("wrong length")
    return key
