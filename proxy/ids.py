"""Request ids: UUIDv7, so that they carry their time and tables can be partitioned by them."""

import os
import random
import time

# ids are unique, not secret: a generator of this process, seeded by the system
_bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311


def request_id() -> str:
    millis = time.time_ns() // 1_000_000
    tail = _bits(80)
    text = (
        f"{millis & 0xFFFFFFFFFFFF:012x}7{tail >> 68:03x}{tail & 0x3FFFFFFFFFFFFFFF | 1 << 63:016x}"
    )
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
