"""What a client reads from us: one shape for every error, money in credits, nothing said twice."""

from string import Formatter
from typing import Any

import orjson
import pytest

from proxy import answers, errors
from proxy.answers import Exchange, error_body, error_headers
from proxy.bounds.meters import Meter
from proxy.bounds.standing import caller_of
from proxy.errors import ClientGone, FieldInvalid, InsufficientCredits, OpsError, leaves
from proxy.metrics import in_memory
from proxy.relay import Headers
from proxy.types import KeyRecord, Model, OrganisationRecord, Price, Ticket

POOL = Meter(b"{s00}:o:o", b"pool", "pool", "organisation")
CALLER = caller_of(
    KeyRecord("k", 0, 1, b"", 1, "o", "p", None, ()), OrganisationRecord("o", 1, (POOL,))
)
STANDING = CALLER.standings.of(None, 0)
TICKET = Ticket(
    rid="rid",
    shard=0,
    caller=CALLER,
    model=Model("m", 1, 1, 0, (), None),
    price=Price(1, {}, 1_000_000),
    standing=STANDING,
    payment=STANDING.payments[0],
    context=b"{}",
    held_ucr=1_500_000,
    left_ucr=8_500_000,
)


class Client:
    """Writes down what reaches the client."""

    gone = False

    def __init__(self) -> None:
        self.got: list[tuple[Any, ...]] = []

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.got.append(("answer", status, dict(headers), body))

    async def head(self, status: int, headers: Headers) -> None:
        self.got.append(("head", status, dict(headers)))

    def chunk(self, data: bytes) -> None:
        self.got.append(("chunk", data))

    async def end(self, last: bytes) -> None:
        self.got += [("chunk", last), ("end",)]


def exchange() -> tuple[Exchange, Client]:
    client = Client()
    return Exchange("rid", client, in_memory()), client


async def test_an_error_before_the_answer_is_the_answer() -> None:
    made, client = exchange()
    await made.refuse(FieldInvalid("n", name="n", why="it is wrong"))
    ((kind, status, headers, body),) = client.got
    assert (kind, status) == ("answer", 400)
    assert headers[b"x-ops-request-id"] == headers[b"x-request-id"] == b"rid"
    assert orjson.loads(body)["error"] == {
        "message": "The field `n` is not usable: it is wrong.",
        "type": "invalid_request_error",
        "param": "n",
        "code": "field_invalid",
        "request_id": "rid",
        "docs": "/errors/field_invalid",
    }


async def test_an_error_inside_a_stream_is_its_last_event() -> None:
    made, client = exchange()
    await made.head(200, [])
    made.chunk(b"data: 1\n\n")
    await made.refuse(OpsError())
    kinds = [row[0] for row in client.got]
    assert kinds == ["head", "chunk", "chunk", "end"]
    event = client.got[2][1]
    assert event == b"data: " + error_body(OpsError(), "rid") + b"\n\n"


async def test_after_the_end_nothing_more_is_said() -> None:
    made, client = exchange()
    await made.answer(200, [], b"{}")
    await made.refuse(OpsError())
    assert len(client.got) == 1


async def test_to_a_client_who_has_left_nothing_is_said() -> None:
    made, client = exchange()
    await made.refuse(ClientGone())
    assert client.got == []


@pytest.mark.parametrize("leaf", list(leaves()), ids=lambda leaf: leaf.__name__)
def test_every_error_tells_cause_and_code_in_the_shape_of_the_sdks(leaf: type[OpsError]) -> None:
    """Each has a stable code, a status, a type, and a sentence that ends."""
    named = (name for _, name, _, _ in Formatter().parse(leaf.__doc__ or "") if name)
    detail: dict[str, Any] = dict.fromkeys(named, "{x}")
    made = (
        errors.UpstreamRefused(502, status=500, model="m", message="{x}.")
        if leaf is errors.UpstreamRefused
        else leaf(**detail)
    )
    error = orjson.loads(error_body(made, "rid"))["error"]
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]
    assert error["code"].replace("_", "").isalpha()
    assert 400 <= made.status < 600
    assert error["type"]
    assert dict(error_headers(made))[b"content-type"] == b"application/json"


def test_an_error_that_is_refused_for_ever_tells_the_sdk_not_to_try_again() -> None:
    """SDKs retry every 429; a lack of credits does not go away by that."""
    made = InsufficientCredits(needed="1.000000", left="0.000000")
    assert made.status == 402
    assert dict(error_headers(made))[b"x-should-retry"] == b"false"


def test_a_wait_is_told_in_seconds_and_a_lack_of_a_key_asks_for_one() -> None:
    assert dict(error_headers(errors.NotReady()))[b"retry-after"] == b"2"
    assert dict(error_headers(errors.KeyMissing()))[b"www-authenticate"] == b"Bearer"


@pytest.mark.parametrize(
    ("cost", "left"),
    [(0, "10.000000"), (1_500_000, "8.500000"), (1_500_001, "8.499999"), (11_000_000, "-1.000000")],
)
def test_what_is_left_is_what_was_there_less_the_cost(cost: int, left: str) -> None:
    """The hold goes back, the cost is taken; a provider may bill more than was held."""
    headers = dict(answers.cost_headers(TICKET, cost))
    assert headers[b"x-ops-credits-left"] == left.encode()
    assert answers.cost_comment(TICKET, cost).endswith(
        b"x-ops-credits-left=" + left.encode() + b"\n\n"
    )


def test_a_stream_tells_what_it_holds_and_is_not_buffered() -> None:
    headers = dict(answers.hold_headers(TICKET))
    assert headers[b"x-ops-held"] == b"1.500000"
    assert headers[b"x-ops-credits-left"] == b"8.500000"
    assert headers[b"x-accel-buffering"] == b"no"
