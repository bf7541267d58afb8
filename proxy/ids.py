"""Request ids: UUIDv7, so that they carry their time and tables can be partitioned by them."""

import hashlib
import os
import random
import time

# ids are unique, not secret: a generator of this process, seeded by the system
_bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311
MARKS = 7 << 76 | 1 << 63  # version and variant
DRAWN = (1 << 80) - 1 - (0xF << 76 | 0x3 << 62)


def request_id() -> str:
    millis = time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF
    return _text(millis, _bits(80))


def derived_id(millis: int, name: str) -> str:
    """Of what is to be booked once however often it is told: the same for the same name."""
    return _text(millis, int.from_bytes(hashlib.sha256(name.encode()).digest()[:10]))


def _text(millis: int, bits: int) -> str:
    text = (millis << 80 | bits & DRAWN | MARKS).to_bytes(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
