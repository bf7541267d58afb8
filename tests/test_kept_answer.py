"""What the pages of a list may take together, and which place is asked for them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from proxy.errors import UpstreamBroken, UpstreamTimeout
from proxy.kept import answer
from proxy.kept.told import Told
from proxy.kept.wish import Wish
from proxy.providers.catalog import ADAPTERS
from proxy.settings import Settings
from proxy.types import Call, Deployment, Outcome
from proxy.upstream import Reply
from tests.test_kept import NAMES, OPENAI, PLACE, ours, page


class Page:
    """One, as its provider sends it."""

    status = 200
    headers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, body: bytes) -> None:
        self._pieces = [body[:9], body[9:]]

    async def read(self) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else None

    def close(self) -> None:
        self._pieces = []


class Provider:
    """Lists the same page again and again."""

    def __init__(self, settings: Settings, body: bytes) -> None:
        self.settings = settings
        self.body = body
        self.asked: list[tuple[Deployment, ...]] = []

    async def ask(self, call: Call, places: Sequence[Deployment], outcome: Outcome) -> Reply:
        self.asked.append(tuple(places))
        if not self.body:
            await asyncio.Event().wait()
        return Reply(Page(self.body), ADAPTERS["openai"], OPENAI, self.settings, 0)

    async def listed(self) -> bytes:
        told = Told(Wish("files", "list"), PLACE, NAMES)
        call, outcome = told.call("rid", "/v1/files", "", {}), Outcome()
        first = page(ours("a"), more=True)
        return await answer._listed(told, first, call, outcome, self.ask, self.settings)


async def test_all_pages_of_a_list_are_no_larger_than_one_answer() -> None:
    body = page("x", more=True)
    most = len(page(ours("a"), more=True)) + 3 * len(body)
    provider = Provider(replace(Settings(), answer_max_bytes=max(most, 1024)), body)
    with pytest.raises(UpstreamBroken, match="larger than"):
        await provider.listed()
    assert all(places == (OPENAI,) for places in provider.asked)
    assert len(provider.asked) * len(body) <= 1024 + len(body)


async def test_all_pages_of_a_list_come_within_the_time_of_one_answer() -> None:
    provider = Provider(replace(Settings(), total_timeout_ms=10), b"")
    with pytest.raises(UpstreamTimeout, match="all pages"):
        await provider.listed()
