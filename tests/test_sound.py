"""How long a sound is, read from its container; whatever it holds, this ends and never raises."""

import struct

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from proxy.costs.sound import ASSUMED, FILMED, PACKED, seconds_of
from tests.billed_stage import wave

calm = hypothesis_settings(deadline=None, derandomize=True, database=None)

MINUTE = 60


def page(packet: bytes, granule: int, serial: int = 7) -> bytes:
    """Of Ogg; its segments are of 255 bytes."""
    lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, granule, serial, 0, 0, len(lacing))
    return head + lacing + packet


OPUS = b"OpusHead\1\1" + struct.pack("<HIhB", 312, 16_000, 0, 0)
VORBIS = b"\x01vorbis" + struct.pack("<IBI", 0, 1, 44_100) + bytes(14)
SPEEX = (b"Speex   " + bytes(28) + struct.pack("<I", 8_000)).ljust(60, b"\0")


def ogg(head: bytes, granule: int, serial: int = 7, size: int = 120_000) -> bytes:
    body = page(b"\1" * 2_000, 900) * (size // 2_000)
    return page(head, 0) + body + page(b"\1" * 10, granule, serial)


def info(rate: int, samples: int) -> bytes:
    word = rate << 44 | (2 - 1) << 41 | (16 - 1) << 36 | samples
    return struct.pack(">HH", 4_096, 4_096) + bytes(6) + word.to_bytes(8, "big") + bytes(16)


def flac(rate: int, samples: int, size: int = 900_000) -> bytes:
    return b"fLaC" + struct.pack(">I", 34) + info(rate, samples) + b"\1" * size


FRAME = b"\xff\xfb\x50\xc4"  # 64 kbit/s at 44,100 Hz
OLD = b"\xff\xf3\x40\xc4"  # of the older version: 32 kbit/s at 22,050 Hz


def mp3(seconds: int, first: bytes = b"") -> bytes:
    one = FRAME.ljust(208, b"\1")
    return first + one * (seconds * 8_000 // 208)


def counted(frames: int, mark: bytes = b"Xing") -> bytes:
    return (FRAME + bytes(32) + mark + struct.pack(">II", 1, frames)).ljust(208, b"\0")


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def told(kind: bytes, scale: int, length: int, wide: bool = False) -> bytes:
    form, version = (">IQQIQ", 1 << 24) if wide else (">IIIII", 0)
    return box(kind, struct.pack(form, version, 0, 0, scale, length) + bytes(80))


def mp4(length: int, wide: bool = False, more: bytes = b"", size: int = 480_000) -> bytes:
    moov = box(b"moov", told(b"mvhd", 1_000, length, wide) + more)
    return box(b"ftyp", b"M4A ") + box(b"mdat", b"\1" * size) + moov


def fragment(begin: int) -> bytes:
    tfdt = box(b"tfdt", struct.pack(">II", 0, begin))
    return box(b"moof", box(b"traf", tfdt)) + box(b"mdat", b"\1" * 8_000)


def fragments(*begins: int, media: int = 1) -> bytes:
    moov = box(b"moov", told(b"mvhd", 1_000, 0) + told(b"mdhd", 48_000, 0) * media)
    return box(b"ftyp", b"iso5") + moov + b"".join(map(fragment, begins))


def element(name: bytes, body: bytes) -> bytes:
    return name + (1 << 56 | len(body)).to_bytes(8, "big") + body


def block(at: int) -> bytes:
    return (b"\x81" + struct.pack(">hB", at, 128)).ljust(100, b"\1")


def webm(*clusters: tuple[int, int], codec: bytes = b"A_OPUS") -> bytes:
    """Each of them with its own time, and how many blocks of 20 ms."""
    segment = element(b"\x2a\xd7\xb1", (1_000_000).to_bytes(3, "big")) + element(b"\x86", codec)
    for time, blocks in clusters:
        segment += b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7 + b"\xe7\x82" + struct.pack(">H", time)
        for n in range(blocks):
            group = b"\xa0\x40\x67\xa1\x40\x64" + block(20 * n)
            segment += group if n % 2 else element(b"\xa3", block(20 * n))
    return b"\x1a\x45\xdf\xa3\x84webm" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + segment


@pytest.mark.parametrize(
    ("sound", "seconds"),
    [
        (wave(MINUTE), MINUTE),
        (ogg(OPUS, MINUTE * 48_000 + 312), MINUTE),
        (ogg(OPUS, MINUTE * 48_000 + 313), MINUTE + 1),
        (ogg(VORBIS, MINUTE * 44_100), MINUTE),
        (ogg(SPEEX, MINUTE * 8_000), MINUTE),
        (ogg(b"\x7fFLAC" + bytes(12) + info(48_000, 0), MINUTE * 48_000), MINUTE),
        (ogg(OPUS, MINUTE * 48_000) + page(b"\1", -1), MINUTE),
        (flac(44_100, MINUTE * 44_100), MINUTE),
        (b"ID3\4\0\0\0\0\1\0" + bytes(128) + flac(16_000, MINUTE * 16_000), MINUTE),
        (mp3(MINUTE), MINUTE),
        (b"ID3\4\0\0\0\0\1\0" + bytes(128) + mp3(MINUTE), MINUTE),
        (OLD.ljust(104, b"\1") * (MINUTE * 4_000 // 104), MINUTE),
        (mp3(30, counted(MINUTE * 44_100 // 1_152)), MINUTE),
        (mp3(30, counted(MINUTE * 44_100 // 1_152, b"Info")), MINUTE),
        (mp4(MINUTE * 1_000), MINUTE),
        (mp4(MINUTE * 1_000, wide=True), MINUTE),
        (mp4(MINUTE * 1_000, more=bytes(100_000) + b"vide", size=9_000_000), MINUTE),
        (fragments(*(n * 48_000 for n in range(MINUTE))), MINUTE),
        (webm((0, 1_500), (30_000, 1_500)), MINUTE),
        (webm((0, 1_500)), 30),
    ],
)
def test_a_container_tells_how_long_its_sound_is(sound: bytes, seconds: int) -> None:
    assert seconds_of(sound) == seconds


@pytest.mark.parametrize(
    "sound",
    [
        b"\1" * 120_000,
        b"\xff" * 120_000,
        b"\x1a\x45\xdf\xa3" + b"\x1f\x43\xb6\x75" * 30_000,
        ogg(OPUS, MINUTE * 48_000, serial=8),  # several sounds in one
        ogg(b"\x80theora", MINUTE),
        ogg(OPUS, -1, size=0),
        flac(44_100, 0),
        flac(0, 1),
        fragments(0),
        fragments(0, 48_000, media=2),
        FRAME.ljust(2_000, b"\1"),
        b"",
    ],
)
def test_of_what_cannot_be_read_a_second_is_taken_to_be_small(sound: bytes) -> None:
    assert seconds_of(sound) == -(-len(sound) // ASSUMED)


@pytest.mark.parametrize(
    ("sound", "bytes_per_second"),
    [
        (ogg(OPUS, 400), PACKED),
        (mp3(MINUTE, counted(1)), PACKED),
        (mp4(1), PACKED),
        (mp4(1, more=bytes(100_000) + b"vide", size=9_000_000), FILMED),
        (webm((0, 2), codec=b"A_OPUS") + b"\1" * 900_000, PACKED),
    ],
)
def test_no_head_tells_a_long_sound_short(sound: bytes, bytes_per_second: int) -> None:
    assert seconds_of(sound) == -(-len(sound) // bytes_per_second)


SOUNDS = (
    *(wave(1), ogg(OPUS, 48_000, size=4_000), ogg(VORBIS, 9, size=2_000), flac(8_000, 9, 50)),
    *(mp3(1), mp3(1, counted(9)), mp4(9, size=50), mp4(9, wide=True, size=50)),
    *(fragments(0, 9), webm((0, 4), (80, 4))),
)


@calm
@given(st.sampled_from(SOUNDS), st.data())
def test_broken_bytes_never_raise(sound: bytes, data: st.DataObject) -> None:
    broken = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(sound) - 1, 200)) | st.integers(0, len(sound) - 1))
        broken[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    assert seconds_of(bytes(broken)) >= 0
    assert seconds_of(bytes(broken[: data.draw(st.integers(0, len(broken)))])) >= 0


@calm
@given(st.sampled_from([b"RIFF", b"OggS", b"fLaC", b"\x1a\x45\xdf\xa3", b"ID3", b""]), st.binary())
def test_any_bytes_are_read(begin: bytes, rest: bytes) -> None:
    assert seconds_of(begin + rest) >= 0
