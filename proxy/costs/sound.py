"""How long a sound is, by what its container says of it: Wave, FLAC, Ogg, MP3, MP4, WebM. Pure, and
of bounded work; whatever the bytes are, it never raises.
"""

from collections.abc import Iterator
from typing import NamedTuple

ASSUMED = 2_000  # bytes of a second where nothing can be read: speech as it is usually packed
RAW = 192_000 * 8 * 4  # the most bytes of a second that is recorded; more is no truth
PACKED = 64_000  # likewise of sound that has lost what nobody hears
FILMED = 4_000_000  # likewise of sound with pictures
WAVE_HEAD = 44
HEAD, TAIL = 65_536, 4 * 2**20  # bytes at either end that are searched
STEPS = 4_096  # boxes, elements or pages that are walked


def seconds_of(sound: bytes) -> int:
    """Rounded up. No less than so many bytes take at the fastest, so that no head can tell a long
    sound short."""
    told, fastest = _told(sound)
    least = _up(len(sound), fastest) if fastest else 0
    return max(told, least) if told > 0 else _up(len(sound), ASSUMED)


def _told(sound: bytes) -> tuple[int, int]:
    """Seconds, 0 where it cannot be read; and the most bytes that one of them has."""
    if sound[:4] == b"RIFF" and sound[8:16] == b"WAVEfmt ":
        rate = _wave_rate(sound)
        return (_up(len(sound), rate) if rate else 0), RAW
    if sound[:4] == b"OggS":
        return _ogg(sound)
    if sound[:4] == b"\x1a\x45\xdf\xa3":
        return _webm(sound)
    if sound[4:8] == b"ftyp":
        return _mp4(sound)
    at = _after_tags(sound)
    if sound[at : at + 4] == b"fLaC":
        return _flac(sound[at + 8 : at + 26]), RAW
    return _mp3(sound, at), PACKED


def _up(part: int, whole: int) -> int:
    return -(-part // whole) if whole > 0 else 0


def _big(sound: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(sound[at : at + size], "big")


def _little(sound: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(sound[at : at + size], "little")


# Wave and FLAC ------------------------------------------------------------------------------


def _wave_rate(sound: bytes) -> int:
    """Bytes that a second has by the head, which tells them twice; where they can be."""
    if len(sound) < WAVE_HEAD:
        return 0
    rate = min(_little(sound, 28), _little(sound, 24) * _little(sound, 32, 2))
    return rate if rate <= RAW else 0


def _flac(info: bytes) -> int:
    """Of the stream's own description: 20 bits of its rate, 36 of its samples."""
    return _up(_big(info, 13, 5) & (1 << 36) - 1, _big(info, 10, 3) >> 4)


# Ogg ----------------------------------------------------------------------------------------


def _ogg(sound: bytes) -> tuple[int, int]:
    """By the position on its last page, where that is of the same stream as its first."""
    at = 27 + _little(sound, 26, 1)
    packet = sound[at : at + 64]
    before, fastest = 0, PACKED
    if packet[:8] == b"OpusHead":
        rate, before = 48_000, _little(packet, 10, 2)
    elif packet[:7] == b"\x01vorbis":
        rate = _little(packet, 12)
    elif packet[:8] == b"Speex   ":
        rate = _little(packet, 36)
    elif packet[:5] == b"\x7fFLAC":
        rate, fastest = _big(packet, 27, 3) >> 4, RAW
    else:
        return 0, 0
    for at in _backwards(sound, b"OggS", len(sound) - 2 * HEAD):
        end = int.from_bytes(sound[at + 6 : at + 14], "little", signed=True)
        if sound[at + 14 : at + 18] != sound[14:18]:
            return 0, 0  # several sounds in one
        if end >= 0:
            return _up(max(end - before, 0), rate), fastest
    return 0, 0


def _backwards(sound: bytes, mark: bytes, start: int, most: int = 8) -> Iterator[int]:
    end = len(sound)
    for _ in range(most):
        end = sound.rfind(mark, max(start, 0), end)
        if end < 0:
            return
        yield end


# MP3 ----------------------------------------------------------------------------------------

_NEWER = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)  # kbit/s
_OLDER = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_RATES = (44_100, 48_000, 32_000, 0)


class _Frame(NamedTuple):
    bytes_per_second: int
    rate: int
    samples: int
    size: int  # in bytes


def _after_tags(sound: bytes) -> int:
    """Where the sound begins after what describes it."""
    if sound[:3] != b"ID3":
        return 0
    size = 0
    for byte in sound[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _mp3(sound: bytes, at: int) -> int:
    """By the frames that its first one counts, else as fast throughout as that one is."""
    end = at + 4_096
    while (at := sound.find(b"\xff", at, end)) >= 0:
        frame = _frame(sound, at)
        if frame is not None and _frame(sound, at + frame.size) is not None:
            frames = _frames(sound[at : at + 192])
            if frames:
                return _up(frames * frame.samples, frame.rate)
            return _up(len(sound) - at, frame.bytes_per_second)
        at += 1
    return 0


def _frame(sound: bytes, at: int) -> _Frame | None:
    """Of the third layer; its head is 11 bits that are set, and what follows in 2 bytes."""
    head = _big(sound, at)
    version = head >> 19 & 3
    if head >> 21 != 0x7FF or version == 1 or head >> 17 & 3 != 1:
        return None
    is_newer = version == 3
    kbits = (_NEWER if is_newer else _OLDER)[head >> 12 & 15]
    rate = _RATES[head >> 10 & 3] // (1 if is_newer else 2 if version == 2 else 4)
    if not kbits or not rate:
        return None
    samples = 1_152 if is_newer else 576
    return _Frame(kbits * 125, rate, samples, samples * kbits * 125 // rate + (head >> 9 & 1))


def _frames(first: bytes) -> int:
    """How many there are, by the head that encoders of a varying rate write."""
    for mark in (b"Xing", b"Info"):
        at = first.find(mark)
        if at >= 0:
            return _big(first, at + 8) if _big(first, at + 4) & 1 else 0
    at = first.find(b"VBRI")
    return _big(first, at + 14) if at >= 0 else 0


# MP4 ----------------------------------------------------------------------------------------


def _mp4(sound: bytes) -> tuple[int, int]:
    """By its head; where it came in fragments, by the last of these."""
    for kind, at, end in _boxes(sound, 0, len(sound)):
        if kind != b"moov":
            continue
        fastest = _fastest(sound[at : min(end, at + TAIL)], b"vide", (b"alac", b"fLaC"))
        for inner, begin, _ in _boxes(sound, at, end):
            if inner == b"mvhd" and (seconds := _of_scale(sound, begin)):
                return seconds, fastest
        return _fragments(sound, at, end), fastest
    return 0, 0


def _boxes(sound: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Each with where its content begins and ends."""
    for _ in range(STEPS):
        if at + 8 > end:
            return
        size, head = _big(sound, at), 8
        if size == 1:
            size, head = _big(sound, at + 8, 8), 16
        if size == 0:
            size = end - at
        if size < head:
            return
        yield sound[at + 4 : at + 8], at + head, min(at + size, end)
        at += size


def _of_scale(sound: bytes, at: int) -> int:
    """Seconds by a head that tells a length and how many of its parts a second has."""
    if sound[at : at + 1] == b"\x01":
        length, scale, none = _big(sound, at + 24, 8), _big(sound, at + 20), (1 << 64) - 1
    else:
        length, scale, none = _big(sound, at + 16), _big(sound, at + 12), (1 << 32) - 1
    return _up(length, scale) if length != none else 0


def _fragments(sound: bytes, at: int, end: int) -> int:
    """The last two tell when they begin; how long the last one is, they tell together."""
    head = sound[at : min(end, at + HEAD)]
    media = head.find(b"mdhd")
    if media < 0 or head.count(b"mdhd") > 1:
        return 0  # whose times are told, only a reader of them all knows
    scale = _big(head, media + (24 if head[media + 4 : media + 5] == b"\x01" else 16))
    begins = []
    for one in _backwards(sound, b"tfdt", len(sound) - TAIL, 2):
        wide = sound[one + 4 : one + 5] == b"\x01"
        begins.append(_big(sound, one + 8, 8 if wide else 4))
    return _up(max(2 * begins[0] - begins[1], begins[0]), scale) if len(begins) > 1 else 0


def _fastest(head: bytes, pictures: bytes, whole: tuple[bytes, ...]) -> int:
    if pictures in head:
        return FILMED
    return RAW if any(name in head for name in whole) else PACKED


# WebM ---------------------------------------------------------------------------------------

_CLUSTER = b"\x1f\x43\xb6\x75"
_TIME, _BLOCK, _INNER_BLOCK, _GROUP = b"\xe7", b"\xa3", b"\xa1", b"\xa0"


def _webm(sound: bytes) -> tuple[int, int]:
    """By when the last of its blocks begins: what is recorded live has no length in its head."""
    head = sound[:HEAD]
    fastest = _fastest(head, b"V_", (b"A_PCM", b"A_FLAC", b"A_ALAC"))
    at = head.find(b"\x2a\xd7\xb1")
    size, inside = _size(head, at + 3)
    scale = _big(head, inside, min(size, 8)) if at >= 0 else 1_000_000  # nanoseconds
    for cluster in _backwards(sound, _CLUSTER, len(sound) - TAIL, 4):
        ended = _cluster_end(sound, cluster + 4)
        if ended > 0:
            return _up(ended * scale, 10**9), fastest
    return 0, 0


def _cluster_end(sound: bytes, at: int) -> int:
    """Its own time and the largest of its blocks', in the parts of its scale; 0 if it is none."""
    at = _size(sound, at)[1]
    begin, latest = -1, 0
    for _ in range(STEPS):
        mark = sound[at : at + 1]
        if not mark or not mark[0]:
            break
        size, inside = _size(sound, at + _width(mark))
        if mark == _TIME:
            begin = _big(sound, inside, min(size, 8))
        elif mark in (_BLOCK, _INNER_BLOCK):
            number = inside + _width(sound[inside : inside + 1])
            latest = max(latest, _big(sound, number, 2) & 0x7FFF)
        at = inside if mark == _GROUP else inside + size
    return begin + latest if begin >= 0 else 0


def _width(first: bytes) -> int:
    """Of a number or a name, by the zeros that it begins with."""
    return 9 - first[0].bit_length() if first else 1


def _size(sound: bytes, at: int) -> tuple[int, int]:
    """A number without the bit that ends those zeros, and where what it measures begins."""
    width = _width(sound[at : at + 1])
    return _big(sound, at, width) & (1 << 7 * width) - 1, at + width
