"""Redis for everything that is not on the request path: one client, scripts by SHA."""

from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from proxy.scripts import SCRIPTS

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
AWAY = (RedisError, OSError, TimeoutError)  # Redis cannot be reached or cannot answer

Reply = Any  # what Redis answered: bytes, int, None or a list of these
Word = bytes | str | int
Command = Sequence[Word]
Call = tuple[str, Sequence[bytes], Sequence[Word]]  # script, keys, arguments


class Store:
    """A client that connects when it is first used."""

    def __init__(self, url: str) -> None:
        self.client = redis.asyncio.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            client_name="opscenter",
        )
        # replies come as the server sent them: what they mean is told where they are asked for
        self.client.response_callbacks.clear()

    async def command(self, *words: Word) -> Reply:
        return (await self.commands([words]))[0]

    async def commands(self, commands: Sequence[Command]) -> list[Reply]:
        """Many commands in one round trip, answered as the server sent it."""
        return self._checked(await self._send(commands))

    async def run(self, script: str, keys: Sequence[bytes], *args: Word) -> Reply:
        return (await self.run_all([(script, keys, args)]))[0]

    async def run_all(self, calls: Sequence[Call]) -> list[Reply]:
        """Many scripts in one round trip; one that the server has forgotten is sent whole."""
        short = [("EVALSHA", SCRIPTS[name].sha, len(k), *k, *a) for name, k, a in calls]
        replies = await self._send(short)
        for nth, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                name, keys, args = calls[nth]
                replies[nth] = await self.command(
                    "EVAL", SCRIPTS[name].text, len(keys), *keys, *args
                )
        return self._checked(replies)

    async def ping(self) -> None:
        await self.command("PING")

    async def info(self, section: str) -> dict[str, str]:
        text = (await self.command("INFO", section)).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    async def close(self) -> None:
        await self.client.aclose()

    async def _send(self, commands: Sequence[Command]) -> list[Reply]:
        if not commands:
            return []
        pipe = self.client.pipeline(transaction=False)
        for words in commands:
            pipe.execute_command(*words)
        replies = await pipe.execute(raise_on_error=False)
        return list(replies)

    def _checked(self, replies: list[Reply]) -> list[Reply]:
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies
