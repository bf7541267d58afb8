"""Of one connection to a provider, for its answers one after the other: httptools' side of them."""

from typing import TYPE_CHECKING

import httptools

if TYPE_CHECKING:
    from proxy.reach.incoming import Answer

JOINED_MAX = 4 * 1024  # bytes of small parts that one read brought; a hold must keep pace with them


class Parser:
    """What one connection's bytes mean to the answer of the moment."""

    __slots__ = ("_http", "_raw", "answer", "feed", "read")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.read: list[bytes] = []  # of the body, by the read that is being parsed
        self._raw: list[tuple[bytes, bytes]] = []  # headers as they come
        self._http = httptools.HttpResponseParser(self)
        self.feed = self._http.feed_data

    def end(self) -> None:
        """Nothing comes any more. The two parsers know each other, so they would stay until the
        collector comes, with the last answer and all that it holds.
        """
        self.answer = None
        del self._http, self.feed

    def on_message_begin(self) -> None:
        if self.answer is None:
            raise ValueError("nobody asked")
        self.answer.begins()
        self._raw.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._raw.append((name, value))  # what follows a body too, and nobody reads that

    def on_headers_complete(self) -> None:
        assert self.answer is not None
        self.answer.has_head(self._http.get_status_code(), self._raw)

    def on_body(self, data: bytes) -> None:
        self.read.append(data)

    def on_message_complete(self) -> None:
        assert self.answer is not None
        self.answer.is_whole(self._http.should_keep_alive())  # only here it tells the truth


def joined(parts: list[bytes], size: int) -> list[bytes]:
    """Small parts that came together, together: they would go out in one write anyhow."""
    if size <= JOINED_MAX:
        return [b"".join(parts)]
    pieces, small, length = [], list[bytes](), 0
    for part in parts:
        if small and length + len(part) > JOINED_MAX:
            pieces.append(b"".join(small))
            small, length = [], 0
        small.append(part)
        length += len(part)
    return [*pieces, b"".join(small)]
