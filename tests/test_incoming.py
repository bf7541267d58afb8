"""An answer's pieces on their way through: at once where nobody waits, one after the other where
somebody does, and none for who has gone.
"""

import asyncio

import pytest

from proxy.errors import UpstreamBroken
from proxy.reach.incoming import Answer, Bounds, Broken, Waits
from proxy.reach.parser import Parser

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Line:
    """A connection that does what it is told, and nothing else."""

    bounds = Bounds(60, 60, 60, 1024)
    served = 0

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = False

    def pause(self) -> bool:
        return True

    def resume(self) -> None:
        """Nothing was stopped."""

    def close(self) -> None:
        self.ended = True

    def done(self, keep: bool) -> None:
        self.ended = True


def part(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def began() -> Answer:
    answer = Answer(Line(), Parser())
    answer.feed(HEAD)
    return answer


async def test_a_piece_goes_on_before_the_loop_turns() -> None:
    answer, seen = began(), list[bytes]()
    poured = asyncio.ensure_future(answer.pour(seen.append))
    await asyncio.sleep(0)
    for data in (b"one", b"two"):
        answer.feed(part(data))
        assert seen[-1] == data
    answer.feed(END)
    await poured
    assert seen == [b"one", b"two"]


async def test_what_comes_while_somebody_waits_comes_after_him_and_in_order() -> None:
    answer, seen, room = began(), list[bytes](), asyncio.Event()

    async def waiting() -> None:
        await room.wait()
        seen.append(b"(room)")

    def step(data: bytes) -> Waits:
        seen.append(data)
        return waiting if data.startswith(b"full") else None

    poured = asyncio.ensure_future(answer.pour(step))
    await asyncio.sleep(0)
    answer.feed(part(b"full"))
    answer.feed(part(b"later"))
    answer.feed(part(b"last") + END)
    await asyncio.sleep(0)
    assert seen == [b"full"]
    room.set()
    await poured
    assert seen == [b"full", b"(room)", b"later", b"last"]


async def test_what_a_step_raises_is_raised_where_it_is_awaited() -> None:
    answer = began()

    def step(data: bytes) -> None:
        raise UpstreamBroken(model="m", why="of a reason")

    poured = asyncio.ensure_future(answer.pour(step))
    await asyncio.sleep(0)
    answer.feed(part(b"one"))
    answer.feed(part(b"two"))
    with pytest.raises(UpstreamBroken):
        await poured


async def test_nothing_goes_on_for_who_has_been_cancelled() -> None:
    answer, seen = began(), list[bytes]()
    poured = asyncio.ensure_future(answer.pour(seen.append))
    await asyncio.sleep(0)
    poured.cancel()
    answer.feed(part(b"too late"))
    with pytest.raises(asyncio.CancelledError):
        await poured
    assert seen == []


async def test_an_answer_that_breaks_off_has_given_out_all_that_came() -> None:
    answer, seen = began(), list[bytes]()
    poured = asyncio.ensure_future(answer.pour(seen.append))
    await asyncio.sleep(0)
    answer.feed(part(b"one"))
    answer.lost()
    with pytest.raises(Broken):
        await poured
    assert seen == [b"one"]
