"""Request ids: UUIDv7, so that they carry their time and tables can be partitioned by them."""

import os
import random
import time

# ids are unique, not secret: a generator of this process, seeded by the system
_bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311
MARKS = 7 << 76 | 1 << 63  # version and variant
DRAWN = (1 << 80) - 1 - (0xF << 76 | 0x3 << 62)


def request_id() -> str:
    millis = time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF
    text = (millis << 80 | _bits(80) & DRAWN | MARKS).to_bytes(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
