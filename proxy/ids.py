"""Request ids: UUIDv7, so that they carry their time and tables can be partitioned by them."""

import os
import time


def request_id() -> str:
    millis = time.time_ns() // 1_000_000
    tail = int.from_bytes(os.urandom(10))
    text = (
        f"{millis & 0xFFFFFFFFFFFF:012x}7{tail >> 68:03x}{tail & 0x3FFFFFFFFFFFFFFF | 1 << 63:016x}"
    )
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
