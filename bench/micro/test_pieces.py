"""The pure pieces of a request, with values as they come."""

import orjson

from bench.micro.conftest import Measure
from proxy import request, route
from proxy.costs.hold import hold_of
from proxy.costs.pricing import cost_ucr, worst_ucr
from proxy.served import SERVED
from proxy.settings import Settings
from proxy.stream.sse import Splitter
from proxy.types import Deployment, Model, Price, Snapshot
from proxy.who import keys

RATES = {"input": 150_000_000, "output": 600_000_000, "cache_read": 75_000_000}
PRICE = Price(7, RATES, 1_250_000)
PLACES = tuple(
    Deployment(nth, "openai/gpt-4o-mini", "openai", "openai", "http://x/v1", "gpt-4o-mini")
    for nth in range(3)
)
MODELS = [Model(f"openai/m{nth}", 128_000, 16_384, 0, PLACES, PRICE) for nth in range(300)]
WORLD = Snapshot(1, {model.id: model for model in MODELS})
MODEL = MODELS[150]
SETTINGS = Settings()
KEY = keys.mint(7).text
USED = {"input": 1200, "cache_read": 512, "output": 340, "reasoning": 64}
CHAT = {
    "model": MODEL.id,
    "messages": [
        {"role": "system", "content": "You are exact. " * 20},
        {"role": "user", "content": 'A question with "quotes", and more. ' * 18},
    ],
    "max_tokens": 400,
    "user": "somebody",
}
BODY = orjson.dumps(CHAT)
CALL = request.read(SERVED[0], "r1", "/v1/chat/completions", BODY, SETTINGS)
EVENT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"four"}}]}\n\n'
CUT = len(EVENT) // 2


def test_key_parsed(measure: Measure) -> None:
    assert keys.parse(KEY) is not None
    measure(lambda: keys.parse(KEY))


def test_garbage_for_a_key_refused(measure: Measure) -> None:
    wrong = KEY[:-1] + ("a" if KEY[-1] != "a" else "b")
    assert keys.parse(wrong) is None
    measure(lambda: keys.parse(wrong))


def test_request_of_1_kb_read(measure: Measure) -> None:
    assert 1000 < len(BODY) < 1150
    measure(lambda: request.read(SERVED[0], "r1", "/v1/chat/completions", BODY, SETTINGS))


def test_route_found(measure: Measure) -> None:
    def found() -> object:
        model = route.find(MODEL.id, WORLD)
        return route.price_of(model), route.candidates(model)

    measure(found)


def test_hold_sized(measure: Measure) -> None:
    measure(lambda: hold_of(CALL, MODEL, PRICE, SETTINGS))


def test_cost_of_usage(measure: Measure) -> None:
    assert cost_ucr(USED, PRICE) > 0
    measure(lambda: cost_ucr(USED, PRICE))


def test_worst_case_priced(measure: Measure) -> None:
    measure(lambda: worst_ucr(1100, 400, PRICE))


def test_events_that_come_whole(measure: Measure) -> None:
    splitter = Splitter(SETTINGS.event_max_bytes)
    measure(lambda: splitter.feed(EVENT))
    assert splitter.rest() == b""


def test_events_that_come_cut(measure: Measure) -> None:
    splitter = Splitter(SETTINGS.event_max_bytes)

    def both() -> bytes:
        return splitter.feed(EVENT[:CUT]) + splitter.feed(EVENT[CUT:])

    assert both() == EVENT
    measure(both)


def test_fifty_events_in_one_piece(measure: Measure) -> None:
    splitter, block = Splitter(SETTINGS.event_max_bytes), EVENT * 50
    assert splitter.feed(block) == block
    measure(lambda: splitter.feed(block))
