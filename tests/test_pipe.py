"""The pipe to Redis: many callers in one write, one deadline for all, back by itself."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha1
from pathlib import Path
from urllib.parse import quote

import hiredis
import pytest
from redis.connection import parse_url

from proxy.redis import pipe
from proxy.redis.address import Address
from proxy.redis.pipe import Pipe, RedisDown, Reply, replied
from proxy.redis.scripts import SCRIPTS, Script

PATIENCE_S = 10.0
TEXT = b"return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}"
COUNT = Script("count", TEXT, sha1(TEXT, usedforsecurity=False).hexdigest().encode())
FAULTY = Script("faulty", b"return redis.error_reply('WRONG on purpose')", b"0" * 40)

Answers = Callable[[list[bytes]], bytes | None]


class Fake:
    """A server that speaks Redis' protocol as badly as a test wants it to."""

    def __init__(self) -> None:
        self.answers: Answers = lambda command: b"+OK\r\n"
        self.connections: list[asyncio.StreamWriter] = []
        self.reads: list[int] = []  # how many commands came in one piece
        self.commands: list[list[bytes]] = []
        self.changed = asyncio.Condition()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        parser = hiredis.Reader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                parser.feed(data)
                commands = []
                while (command := parser.gets()) is not False:
                    commands.append(command)
                self.commands += commands
                self.reads.append(len(commands))
                for command in commands:
                    answer = self.answers(command)
                    if answer is None:
                        writer.close()
                        break
                    writer.write(answer)
                async with self.changed:
                    self.changed.notify_all()
        writer.close()

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(true)

    def cut(self) -> None:
        """Ends every connection at once, as a crash would."""
        for writer in self.connections:
            writer.transport.abort()


@asynccontextmanager
async def fake() -> AsyncIterator[Fake]:
    made = Fake()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = "redis://{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield made
    finally:
        server.close()
        made.cut()


@asynccontextmanager
async def piped(
    url: str, connections: int = 1, timeout_ms: int = 5_000, backlog_max: int = 10_000
) -> AsyncIterator[Pipe]:
    made = Pipe(
        url,
        connections=connections,
        connect_ms=2_000,
        timeout_ms=timeout_ms,
        backlog_max=backlog_max,
    )
    async with asyncio.timeout(PATIENCE_S):
        await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def becomes(true: Callable[[], bool]) -> None:
    """Waits for what the pipe does by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - the pipe announces nothing
            await asyncio.sleep(0.005)


async def failing(work: Awaitable[Reply]) -> str:
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(RedisDown) as caught:
            await work
    return str(caught.value)


def is_greeting(command: list[bytes]) -> bool:
    return command[0] in (b"AUTH", b"SELECT", b"INFO", b"SCRIPT")


# With a real server --------------------------------------------------------------------


async def test_a_command_is_answered(redis_url: str) -> None:
    async with piped(redis_url) as made:
        assert made.up
        assert made.problem == ""
        assert await made.execute(b"SET", b"a", 7) == b"OK"
        assert await made.execute(b"GET", b"a") == b"7"
        assert await made.execute(b"GET", b"b") is None
        assert await made.execute(b"HMGET", b"h", b"x", b"y") == [None, None]


async def test_every_caller_gets_his_own_answer(redis_url: str) -> None:
    """Replies come in the order of the commands, over several connections at once."""
    async with piped(redis_url, connections=3) as made:
        found = await asyncio.gather(*(made.execute(b"ECHO", n) for n in range(3_000)))
    assert found == [b"%d" % n for n in range(3_000)]


async def test_a_script_runs_by_its_hash_and_is_sent_where_the_server_forgot_it(
    redis_url: str,
) -> None:
    """`SCRIPT FLUSH` at any moment costs one trip more and no request."""
    async with piped(redis_url) as made:
        for turn in range(1, 4):
            assert await made.run(COUNT, (b"k",), (b"x",)) == [b"k", b"x", turn]
            await made.execute(b"SCRIPT", b"FLUSH")
        together = [made.run(COUNT, (b"k",), (n,)) for n in range(50)]
        found = await asyncio.gather(*together, made.execute(b"SCRIPT", b"FLUSH"))
    assert [reply[1] for reply in found[:50]] == [b"%d" % n for n in range(50)]
    assert sorted(reply[2] for reply in found[:50]) == list(range(4, 54))


async def test_our_scripts_are_loaded_before_the_first_request(redis_url: str) -> None:
    async with piped(redis_url) as made:
        hashes = [script.sha for script in SCRIPTS.values()]
        await made.execute(b"SCRIPT", b"FLUSH")
        assert set(await made.execute(b"SCRIPT", b"EXISTS", *hashes)) == {0}
    async with piped(redis_url) as made:
        assert set(await made.execute(b"SCRIPT", b"EXISTS", *hashes)) == {1}


async def test_a_refused_command_is_told_with_its_reason(redis_url: str) -> None:
    async with piped(redis_url) as made:
        await made.execute(b"SET", b"text", b"x")
        assert "WRONGTYPE" in await failing(made.execute(b"HGET", b"text", b"f"))
        assert "WRONG on purpose" in await failing(made.run(FAULTY, (), ()))
        assert await made.execute(b"GET", b"text") == b"x"


async def test_callers_who_left_do_not_shift_the_answers_of_others(redis_url: str) -> None:
    """Their answers still come, and are nobody's."""
    async with piped(redis_url) as made:
        tasks = [asyncio.create_task(made.execute(b"ECHO", n)) for n in range(200)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        found = await asyncio.gather(*tasks[1::2])
        assert found == [b"%d" % n for n in range(1, 200, 2)]
        assert await made.execute(b"ECHO", b"next") == b"next"


async def test_a_connection_that_the_server_ends_is_replaced(redis_url: str) -> None:
    async with piped(redis_url, connections=2) as made, piped(redis_url) as other:
        assert await other.execute(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes") >= 2
        await becomes(lambda: len(made._ready) == 2)
        assert await made.execute(b"ECHO", b"x") == b"x"


async def test_a_wrong_password_is_told_as_such(redis_url: str) -> None:
    right = redis_url.partition("password=")[2].partition("&")[0]
    async with piped(redis_url.replace(right, "wrong")) as made:
        assert not made.up
        assert "WRONGPASS" in made.problem
        assert "wrong" not in made.problem
        assert "WRONGPASS" in await failing(made.execute(b"PING"))


async def test_a_missing_password_is_told_as_such(redis_url: str) -> None:
    """A server that wants one lets us connect, and refuses everything: that is not up."""
    async with piped(redis_url.partition("?")[0]) as made:
        assert not made.up
        assert "NOAUTH" in made.problem


async def test_a_user_who_may_not_load_scripts_still_runs_them(redis_url: str) -> None:
    """Then each script travels with its call."""
    async with piped(redis_url) as admin:
        await admin.execute(
            *(b"ACL SETUSER poor on >pw ~* +eval +evalsha +incr +select +echo".split())
        )
        try:
            base, _, query = redis_url.partition("?")
            db = query.rpartition("db=")[2]
            async with piped(f"{base}?username=poor&password=pw&db={db}") as made:
                assert made.up
                await admin.execute(b"SCRIPT", b"FLUSH")
                assert await made.run(COUNT, (b"poor",), (1,)) == [b"poor", b"1", 1]
                assert "NOPERM" in await failing(made.execute(b"KEYS", b"*"))
        finally:
            await admin.execute(b"ACL", b"DELUSER", b"poor")


async def test_a_database_that_does_not_exist_is_told(redis_url: str) -> None:
    async with piped(redis_url.rpartition("db=")[0] + "db=9999") as made:
        assert not made.up
        assert "out of range" in made.problem


# With servers that misbehave --------------------------------------------------------------


async def test_commands_of_one_moment_leave_in_one_write() -> None:
    async with fake() as server, piped(server.url) as made:
        server.reads.clear()
        await asyncio.gather(*(made.execute(b"PING") for _ in range(100)))
        assert server.reads == [100]


async def test_a_server_that_does_not_answer_fails_every_caller_within_the_deadline() -> None:
    """Nobody waits for Redis to come back; the next caller is refused at once."""
    async with fake() as server:
        server.answers = lambda command: b"+OK\r\n" if is_greeting(command) else b""
        async with piped(server.url, timeout_ms=100) as made:
            begun = asyncio.get_running_loop().time()
            whys = await asyncio.gather(*(failing(made.execute(b"PING")) for _ in range(50)))
            assert asyncio.get_running_loop().time() - begun < 2
            assert set(whys) == {"Redis did not answer in time"}
            server.answers = lambda command: b"+OK\r\n"
            await becomes(lambda: made.up)
            assert await made.execute(b"PING") == b"OK"


async def test_a_connection_that_is_cut_fails_its_callers_at_once() -> None:
    async with fake() as server, piped(server.url) as made:
        server.answers = lambda command: b"+OK\r\n" if is_greeting(command) else None
        assert await failing(made.execute(b"PING")) == "the connection to Redis ended"
        server.answers = lambda command: b"+OK\r\n"
        await becomes(lambda: made.up)
        assert await made.execute(b"PING") == b"OK"


async def test_a_reply_that_is_cut_in_its_middle_is_no_reply() -> None:
    """Nothing of it reaches a caller, and the next connection starts clean."""
    async with fake() as server, piped(server.url) as made:
        server.answers = lambda command: b"$10\r\nhalf"
        waiting = asyncio.create_task(failing(made.execute(b"GET", b"a")))
        await server.until(lambda: [b"GET", b"a"] in server.commands)
        server.cut()
        assert await waiting == "the connection to Redis ended"
        server.answers = lambda command: b"$4\r\nfull\r\n"
        await becomes(lambda: made.up)
        assert await made.execute(b"GET", b"a") == b"full"


async def test_no_command_is_queued_where_nobody_will_answer_it() -> None:
    """In the moment in which a connection ends, a caller who tries again is refused, not lost."""
    async with fake() as server, piped(server.url) as made:
        server.answers = lambda command: b"+OK\r\n" if is_greeting(command) else None

        async def stubborn() -> str:
            await failing(made.execute(b"PING"))
            return await failing(made.execute(b"PING"))

        for why in await asyncio.gather(*(stubborn() for _ in range(20))):
            assert "connection to Redis ended" in why or "not reachable" in why


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff garbage\r\n"])
async def test_what_is_not_redis_is_told_as_such(answer: bytes) -> None:
    async with fake() as server:
        server.answers = lambda command: answer
        async with piped(server.url) as made:
            assert not made.up
            assert made.problem == "what answers at Redis' address is not Redis"


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    """One reply too many would give every later caller the answer of another."""
    async with fake() as server, piped(server.url) as made:
        server.answers = lambda command: b"+OK\r\n"
        first = server.connections[0]
        first.write(b"+SURPRISE\r\n")
        await becomes(lambda: made.problem == "Redis answered what nobody asked")
        await becomes(lambda: made.up)
        assert await made.execute(b"PING") == b"OK"


@pytest.mark.parametrize(
    "greeting",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
        b"-ERR max number of clients reached\r\n",
        b"-NOAUTH Authentication required.\r\n",
    ],
)
async def test_a_server_that_is_not_ready_is_not_up_until_it_is(greeting: bytes) -> None:
    async with fake() as server:
        server.answers = lambda command: greeting
        async with piped(server.url) as made:
            assert not made.up
            assert made.problem == greeting[1:-2].decode()
            server.answers = lambda command: b"+OK\r\n"
            await becomes(lambda: made.up)
            assert made.problem == ""


@pytest.mark.parametrize(
    "refusal", [b"-ERR unknown command 'SCRIPT'\r\n", b"-NOPERM no permissions\r\n"]
)
async def test_a_server_without_script_load_is_served_by_eval(refusal: bytes) -> None:
    def answers(command: list[bytes]) -> bytes:
        known = {b"SCRIPT": refusal, b"EVALSHA": b"-NOSCRIPT No matching script.\r\n"}
        return known.get(command[0], b"+DONE\r\n")

    async with fake() as server:
        server.answers = answers
        async with piped(server.url) as made:
            assert await made.run(COUNT, (b"k",), (1,)) == b"DONE"
            assert server.commands[-1] == [b"EVAL", TEXT, b"1", b"k", b"1"]


async def test_a_server_that_hangs_up_again_and_again_is_not_called_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pauses grow, with jitter, up to a maximum."""
    pauses: list[float] = []
    enough = asyncio.Event()
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        if seconds != pipe.WATCH_S:
            pauses.append(seconds)
            if len(pauses) >= 8:
                enough.set()
            seconds = 0.0
        await sleep(seconds)

    monkeypatch.setattr("proxy.redis.pipe.WATCH_S", 0.021)
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    monkeypatch.setattr("asyncio.sleep", counted)
    async with fake() as server:
        server.answers = lambda command: None
        async with piped(server.url), asyncio.timeout(PATIENCE_S):
            await enough.wait()
    assert pauses[:8] == [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5]


async def test_more_commands_than_may_wait_are_refused() -> None:
    """The bound is the worker's, shared out to its connections; what waits is still answered."""
    async with fake() as server, piped(server.url, connections=2, backlog_max=10) as made:
        waiting = [made.send(b"PING") for _ in range(10)]
        with pytest.raises(RedisDown, match="too many commands wait"):
            _ = made.send(b"PING")
        assert await asyncio.gather(*waiting) == [b"OK"] * 10
        assert await made.execute(b"PING") == b"OK"


async def test_the_commands_of_a_moment_leave_together_and_moments_go_round() -> None:
    async with fake() as server, piped(server.url, connections=4) as made:
        server.reads.clear()
        for _ in range(4):
            await asyncio.gather(*(made.execute(b"PING") for _ in range(10)))
        assert server.reads == [10, 10, 10, 10]
        assert {len(link.waiting) for link in made._ready} == {0}
        links = [made._in_turn() for _ in range(4)]
        assert len(set(map(id, links))) == 4


async def test_nobody_listening_is_told_and_does_not_hold_up_the_start(tmp_path: Path) -> None:
    async with piped(f"unix://{tmp_path}/none.sock") as made:
        assert not made.up
        assert "No such file" in made.problem
        assert "No such file" in await failing(made.execute(b"PING"))


async def test_an_impossible_host_name_is_told_and_does_not_hold_up_the_start() -> None:
    async with piped("redis://" + "a" * 70 + ".invalid") as made:
        assert not made.up
        assert made.problem


async def test_callers_are_told_when_the_pipe_stops() -> None:
    async with fake() as server:
        server.answers = lambda command: b"+OK\r\n" if is_greeting(command) else b""
        async with piped(server.url) as made:
            waiting = asyncio.create_task(failing(made.execute(b"PING")))
            await server.until(lambda: [b"PING"] in server.commands)
            await made.stop()
            assert await waiting == "the connection to Redis ended"
            assert not made.up


# Addresses -------------------------------------------------------------------------------

HARD = "p@s:s/w?o#r&d%25 +é"
URLS = (
    "redis://host",
    "redis://host:6380",
    "redis://host:6380/3",
    "redis://host/3?db=4",
    "redis://host?db=5",
    "redis://[::1]:6380/1",
    "redis://:pw@host",
    "redis://user@host",
    "redis://user:pw@host:1/2",
    f"redis://user:{quote(HARD, safe='')}@host",
    f"redis://us%40er:{quote(HARD, safe='')}@host",
    f"rediss://host?username=u&password={quote(HARD, safe='')}",
    "rediss://host:6380/0",
    "unix:///run/valkey.sock",
    f"unix:///run/valkey.sock?password={quote(HARD, safe='')}&db=3",
    "unix://user:pw@/run/a%20b.sock?db=1",
    "redis://:a@host?password=b",
)


@pytest.mark.parametrize("url", URLS)
def test_a_url_means_what_it_means_to_redis_py(url: str) -> None:
    """Both read the same setting, so they must not part ways over a special character."""
    ours, theirs = Address.parse(url), parse_url(url)  # type: ignore[no-untyped-call]
    assert (ours.user, ours.password) == (theirs.get("username", ""), theirs.get("password", ""))
    assert (ours.host, ours.port) == (theirs.get("host", ""), theirs.get("port", 6379))
    assert (ours.socket, ours.db) == (theirs.get("path", ""), theirs.get("db", 0))
    assert ours.tls is url.startswith("rediss:")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:6379",
        "http://host",
        "redis://",
        "redis:///0",
        "unix://",
        "unix://host",
        "redis://[::1",
        "redis://host:99999",
        "redis://host:port",
        "redis://host/x",
        "redis://host/-1",
        "redis://host/²",
        "redis://host?db=1.5",
        "redis://host/" + "9" * 50,
        "redis://:hunter2@host:hunter2",
        "redis://user:hunter2/hunter2@host",
        "redis://user:hunter2#hunter2@host",
        "redis://:hunter2℀@host",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as caught:
        Address.parse(url)
    assert "hunter2" not in str(caught.value)


def test_a_password_shows_in_no_repr() -> None:
    assert "hunter2" not in repr(Address.parse("redis://:hunter2@host"))


async def test_a_reply_that_came_in_the_moment_of_a_cancellation_is_not_lost() -> None:
    """Its caller never sees it, so whoever takes care of what it did has to hear of it."""
    reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    heard: list[Reply] = []
    caller = asyncio.create_task(replied(reply, heard.append))
    await asyncio.sleep(0)
    reply.set_result(7)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert heard == [7]


async def test_an_answer_that_waited_for_us_is_not_late(redis_url: str) -> None:
    """Whoever holds the loop for longer than the deadline finds the answer there afterwards."""
    loop = asyncio.get_running_loop()
    pipe = Pipe(redis_url, connections=1, timeout_ms=50)
    await pipe.start()
    here, there = socket.socketpair()

    def busy() -> None:
        """As a large body is, that has to be parsed."""
        here.recv(1)
        time.sleep(0.2)

    loop.add_reader(here, busy)
    try:
        for _ in range(3):
            answer = pipe.send(b"PING")
            there.send(b"x")
            assert await answer == b"PONG"
    finally:
        loop.remove_reader(here)
        here.close()
        there.close()
        await pipe.stop()
