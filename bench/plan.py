"""What the fake provider will send for one request, as bytes made in advance, and will bill. Pure.

Played in order: latency, opening, pieces, ending, finale. What was produced is counted in pieces.
"""

from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from http import HTTPStatus

import orjson

from bench.bills import End


class Finale(Enum):
    """What happens to the connection when all that a plan has to send is sent."""

    KEEP = auto()  # the answer is whole, the next request may come
    CLOSE = auto()  # FIN
    RESET = auto()  # RST
    HANG = auto()  # silence until the client goes
    ENDLESS = auto()  # the pieces again and again until the client goes


@dataclass(frozen=True, slots=True)
class Costs:
    """What a whole answer costs; `end` is the word for it when the client stayed until then."""

    model: str
    stream: bool
    prompt: int
    completion: int
    cached: int
    cache_write: int
    reasoning: int
    pieces: int  # into which the completion is divided
    end: End = "finished"

    def line(self, request_id: str, end: End, produced: int) -> bytes:
        """The bill; an answer that did not end costs its prompt and the share that was produced."""
        whole = end == "finished"
        row = {
            "request_id": request_id,
            "model": self.model,
            "prompt_tokens": self.prompt,
            "completion_tokens": self._share(self.completion, whole, produced),
            "cached_tokens": self.cached,
            "cache_write_tokens": self.cache_write,
            "reasoning_tokens": self._share(self.reasoning, whole, produced),
            "stream": self.stream,
            "end": end,
            "status": 200,
        }
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

    def _share(self, tokens: int, whole: bool, produced: int) -> int:
        return tokens if whole else tokens * produced // self.pieces


@dataclass(frozen=True)  # without slots: what is computed of it is kept in it
class Plan:
    """Bytes and times of one answer; `head` lacks its last header, which tells the request id."""

    head: bytes = b""
    opening: bytes = b""
    pieces: tuple[bytes, ...] = ()
    ending: bytes = b""
    finale: Finale = Finale.KEEP
    latency_s: float = 0.0
    piece_s: float = 0.0
    costs: Costs | None = None

    @cached_property
    def in_one_piece(self) -> bool:
        """True when the whole answer can be sent by one write."""
        return self.finale is Finale.KEEP and (self.piece_s == 0 or len(self.pieces) < 2)

    @cached_property
    def at_once(self) -> bool:
        """True when that write needs no waiting either."""
        return self.in_one_piece and self.latency_s == 0

    @cached_property
    def body(self) -> bytes:
        return b"".join((self.opening, *self.pieces, self.ending))


def chunk(data: bytes) -> bytes:
    """One chunk of HTTP/1.1's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def head(status: int, *headers: tuple[str, str], length: int | None = None) -> bytes:
    """Status line and headers as OpenAI's are; chunked without a length.

    Cookie and organisation are there because a gateway must never hand them on.
    """
    framing = (
        ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
    )
    rows = (
        *headers,
        framing,
        ("openai-organization", "org-mock-owner"),
        ("openai-processing-ms", "1"),
        ("openai-version", "2020-10-01"),
        ("set-cookie", "mock_session=upstream; Path=/; HttpOnly"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in rows)
    phrase = HTTPStatus(status).phrase if status in _STATUSES else "Fault"
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}".encode()


_STATUSES = frozenset(int(status) for status in HTTPStatus)


def json_plan(status: int, body: object, *headers: tuple[str, str], latency_s: float = 0.0) -> Plan:
    """A whole JSON answer that costs nothing."""
    text = orjson.dumps(body)
    start = head(status, ("content-type", "application/json"), *headers, length=len(text))
    return Plan(head=start, ending=text, latency_s=latency_s)
