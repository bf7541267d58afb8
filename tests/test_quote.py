"""What a call would cost, told before it is made; and what each kind of call holds at most."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.costs import quote
from proxy.costs.hold import allowed, hold_of, input_max
from proxy.costs.price import Price, Tier
from proxy.costs.units import units_max
from proxy.door import _of_kind
from proxy.errors import FieldInvalid
from proxy.request import read
from proxy.settings import Settings
from proxy.types import Call, Model
from tests.door_stage import HELLO, door

MILLION = 1_000_000
SETTINGS = Settings(slice_tokens=100, output_assumed=50)
PRICE = Price(1, {"input": 2 * MILLION, "output": 10 * MILLION}, MILLION)
MODEL = Model("m", 1_000, 200, 0, (), PRICE)
SAID = {"model": "m", "messages": [{"role": "user", "content": "x" * 100}]}


def call(fields: dict[str, Any], kind: str = "chat") -> Call:
    return read(_of_kind(kind), "r", "/", orjson.dumps(fields), SETTINGS)


def priced(**rates: int) -> Price:
    return Price(1, {name: rate * MILLION for name, rate in rates.items()}, MILLION)


# Units ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "units"),
    [
        ("images", {"prompt": "x"}, {"images": 1}),
        ("images", {"prompt": "x", "n": 3, "size": "1024x1024"}, {"images/1024x1024": 3}),
        (
            "images",
            {"prompt": "x", "quality": "hd", "size": "1024x1792"},
            {"images/hd/1024x1792": 1},
        ),
        ("speech", {"input": "hällo", "voice": "v"}, {"characters": 5}),
        ("rerank", {"query": "q", "documents": ["a"] * 100}, {"searches": 1}),
        ("rerank", {"query": "q", "documents": ["a"] * 101}, {"searches": 2}),
        ("rerank", {"query": "q", "documents": ["a" * 50_000]}, {"searches": 2}),
        ("embeddings", {"input": "x"}, {}),
        ("moderation", {"input": "x"}, {}),
    ],
)
def test_each_kind_of_call_holds_what_it_may_use(
    kind: str, fields: dict[str, Any], units: dict[str, int]
) -> None:
    assert units_max(call({"model": "m", **fields}, kind), PRICE) == units


def test_a_price_per_request_is_held() -> None:
    by_request = priced(input=2, output=10, requests=7)
    asked = call({**SAID, "max_tokens": 1})
    plain, more = (hold_of(asked, MODEL, one, SETTINGS).amount_ucr for one in (PRICE, by_request))
    assert more == plain + 7


# Holds ----------------------------------------------------------------------------------


def test_a_hold_goes_by_the_dearest_tier_that_the_body_can_reach() -> None:
    tiers = tuple(
        Tier(above, {"input": 4 * MILLION, "output": 20 * MILLION}) for above in (50, 900)
    )
    tiered = Price(1, PRICE.rates, MILLION, tiers)
    asked = call({**SAID, "max_tokens": 10})
    assert 50 < len(asked.body) < 900
    assert hold_of(asked, MODEL, tiered, SETTINGS).amount_ucr == len(asked.body) * 4 + 200


@pytest.mark.parametrize(
    ("fields", "whole"),
    [
        (SAID, False),
        ({"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}, False),
        ({"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, True),
    ],
)
def test_what_is_no_text_may_fill_the_context(fields: dict[str, Any], whole: bool) -> None:
    assert (input_max(call(fields), MODEL) == MODEL.context_max) is whole


def test_no_estimate_goes_beyond_what_is_held() -> None:
    """Until a call is admitted nothing is held, and nothing bounds it."""
    asked = call({**SAID, "max_tokens": 10})
    assert min(asked.input_most, asked.output_most) > 10**18
    hold = hold_of(asked, MODEL, PRICE, SETTINGS)
    assert (hold.input_tokens, hold.output_tokens) == (len(asked.body), 10)
    asked.bound(hold.input_tokens, hold.output_tokens)
    assert (asked.input_most, asked.output_most) == (len(asked.body), 10)


def test_a_maximum_that_nobody_has_told_us_is_sent_along() -> None:
    """So that no answer is longer than what was held for it; the client's own goes first."""
    unknown = Model("m", 1_000, 200, 0, (), PRICE, output_assumed=True)
    sent = allowed(call({**SAID, "n": 2}), unknown, PRICE, 100)
    assert (sent.lowered_to, sent.output_max) == (200, 400)
    own = call({**SAID, "max_tokens": 9})
    assert allowed(own, unknown, PRICE, 100) is own
    plain = call(SAID)
    assert allowed(plain, MODEL, PRICE, 100) is plain


# Estimates ------------------------------------------------------------------------------


def test_an_estimate_says_low_expected_and_what_would_be_held() -> None:
    asked = call({**SAID, "max_tokens": 150})
    told = quote.of_call(asked, MODEL, PRICE, SETTINGS)
    likely = len(asked.body) // 4 + 1
    assert told["tokens"] == {
        **{"input": likely, "input_max": len(asked.body), "output": 50, "output_max": 150}
    }
    assert told["credits"] == {
        "low": f"0.{likely * 2:06d}",
        "expected": f"0.{likely * 2 + 500:06d}",
        "maximum": f"0.{len(asked.body) * 2 + 1500:06d}",
    }


def test_an_estimate_of_images_counts_them() -> None:
    by_image = priced(images=40)
    told = quote.of_call(
        call({"model": "m", "prompt": "x", "n": 3}, "images"), MODEL, by_image, SETTINGS
    )
    assert told["credits"] == dict.fromkeys(("low", "expected", "maximum"), "0.000120")


@pytest.mark.parametrize(
    ("said", "low", "expected", "maximum"),
    [
        ({"input": 100, "output": 10}, 300, 300, 300),
        (100, 200, 600, 1000),
        (0, 0, 0, 0),
    ],
)
def test_an_estimate_of_tokens_alone(said: Any, low: int, expected: int, maximum: int) -> None:
    told = quote.of_tokens(said, MODEL, PRICE)["credits"]
    assert told == {
        "low": f"0.{low:06d}",
        "expected": f"0.{expected:06d}",
        "maximum": f"0.{maximum:06d}",
    }


@pytest.mark.parametrize("said", [None, -1, True, 1.5, "5", {"input": 1}, [1], 10**9])
def test_an_estimate_of_nonsense_is_refused(said: Any) -> None:
    with pytest.raises(FieldInvalid):
        quote.of_tokens(said, MODEL, PRICE)


async def test_the_door_tells_what_it_would_hold_and_charges_nothing(
    home: Path, redis_url: str, database_url: str
) -> None:
    async with door(home, redis_url, database_url) as stage:
        auth = {"authorization": f"Bearer {stage.key}"}

        async def ask(fields: dict[str, Any], path: str = "/v1/estimate") -> Any:
            return await stage.http.post(path, content=orjson.dumps(fields), headers=auth)

        told = (await ask({**HELLO, "max_tokens": 9})).json()
        assert (told["model"], told["mode"]) == ("ops/echo", "platform")
        charged = float((await stage.chat({**HELLO, "max_tokens": 9})).headers["x-ops-cost"])
        assert charged <= float(told["credits"]["maximum"])
        by_tokens = await ask(
            {"model": "ops/echo", "estimated_tokens": 1000}, "/api/v1/llm/estimate"
        )
        assert by_tokens.json()["credits"]["expected"] == "1.500000"
        assert (await ask({"model": "none", "estimated_tokens": 1})).status_code == 404
        assert (await ask({**HELLO, "kind": "dance"})).status_code == 400
        assert (await ask({**HELLO, "kind": "images", "prompt": "x"})).status_code in (200, 400)
        assert (await stage.http.post("/v1/estimate", content=b"{}")).status_code == 401
        assert (await stage.http.get("/v1/estimate", headers=auth)).status_code == 405
