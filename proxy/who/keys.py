"""API keys as text: `sk_ops_<shard:2><kid:10><secret:32><crc:6>`; never looks anything up.

The shard stands in the key, so no look-up precedes the script that checks it; the check sum
refuses garbage before anything else is asked.
"""

import re
import secrets
from binascii import crc32
from typing import NamedTuple

PREFIX = "sk_ops_"
SHARDS = 64
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KID_LENGTH, SECRET_LENGTH, CRC_LENGTH = 10, 32, 6
LENGTH = len(PREFIX) + 2 + KID_LENGTH + SECRET_LENGTH + CRC_LENGTH

#: For secret scanners. A hit is certain only when the check sum agrees.
PATTERN = r"sk_ops_(?:[0-5][0-9]|6[0-3])[0-9A-Za-z]{48}"

_whole = re.compile(PATTERN).fullmatch
_kid = slice(len(PREFIX) + 2, len(PREFIX) + 2 + KID_LENGTH)


class Key(NamedTuple):
    text: str
    shard: int
    kid: str

    def __repr__(self) -> str:
        """Without the secret, so that no log and no trace can hold it."""
        return f"Key(shard={self.shard}, kid={self.kid!r})"


def mint(shard: int, kid: str | None = None) -> Key:
    """A new key, or a new secret for the one of that id."""
    if not 0 <= shard < SHARDS:
        raise ValueError(f"shard {shard} is not one of {SHARDS}")
    kid = kid or _random(KID_LENGTH)
    body = f"{PREFIX}{shard:02d}{kid}{_random(SECRET_LENGTH)}"
    return Key(body + _checksum(body), shard, kid)


def parse(text: str) -> Key | None:
    """The key's parts, or None for anything that was never a key of ours."""
    if len(text) != LENGTH or _whole(text) is None:
        return None
    if _checksum(text[:-CRC_LENGTH]) != text[-CRC_LENGTH:]:
        return None
    return Key(text, int(text[7:9]), text[_kid])


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    number, digits = crc32(body.encode()), ""
    for _ in range(CRC_LENGTH):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits
