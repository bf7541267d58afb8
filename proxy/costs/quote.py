"""What a call would cost, before it is made: by the same reckoning as its hold. Pure."""

from collections.abc import Mapping
from typing import Any

from proxy.costs.hold import input_max, likely_input, output_max
from proxy.costs.price import Price
from proxy.costs.pricing import NOTHING, cost_ucr, credits_text, worst_ucr
from proxy.costs.units import units_max
from proxy.errors import FieldInvalid
from proxy.settings import Settings
from proxy.types import Call, Model

TOKENS_MAX = 100_000_000
TOKENS = "it takes a whole number of tokens, or an object with `input` and `output`"


def of_call(call: Call, model: Model, price: Price, settings: Settings) -> Mapping[str, Any]:
    """`low` is without an answer, `expected` with one of the length that is assumed, `maximum` is
    what is held for a plain answer. Of a provider's own tools only the last has any calls."""
    into, most = likely_input(call, model), output_max(call, model)
    units, out = units_max(call, price), min(most, settings.output_assumed)
    sure = NOTHING if call.kind == "chat" else units
    known = {**sure, "input": into} if "input" in price.charged else dict(sure)
    reach = input_max(call, model)
    costs = (
        cost_ucr(known, price),
        cost_ucr({**known, "output": out} if out else known, price),
        worst_ucr(reach, most, price.reached_by(reach), units),
    )
    tokens = {"input": into, "input_max": reach, "output": out, "output_max": most}
    return _told(model, call.kind, price, costs, tokens, units)


def of_tokens(said: Any, model: Model, price: Price) -> Mapping[str, Any]:
    """Of so many tokens, in and out or as a sum of which nobody knows how much is which."""
    into, out = _pair(said)
    if out is not None:
        cost = cost_ucr({"input": into, "output": out}, price)
        top = worst_ucr(into, out, price.reached_by(into))
        tokens = {"input": into, "output": out}
        return _told(model, "chat", price, (cost, cost, top), tokens, NOTHING)
    half = into // 2
    costs = (
        min(cost_ucr({"input": into}, price), cost_ucr({"output": into}, price)),
        cost_ucr({"input": into - half, "output": half}, price),
        max(worst_ucr(into, 0, price.reached_by(into)), worst_ucr(0, into, price)),
    )
    return _told(model, "chat", price, costs, {"sum": into}, NOTHING)


def by_own_key(model: Model, kind: str) -> Mapping[str, Any]:
    """Who brings a key of his own pays his provider, and nothing here."""
    free = {name: credits_text(0) for name in ("low", "expected", "maximum")}
    return {**_head(model, kind), "mode": "byok", "price_version": None, "credits": free}


def _pair(said: Any) -> tuple[int, int | None]:
    if isinstance(said, dict) and set(said) == {"input", "output"}:
        return _whole(said["input"]), _whole(said["output"])
    return _whole(said), None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TOKENS_MAX:
        raise FieldInvalid("estimated_tokens", name="estimated_tokens", why=TOKENS)
    return value


def _head(model: Model, kind: str) -> dict[str, Any]:
    return {"object": "estimate", "model": model.id, "kind": kind}


def _told(
    model: Model,
    kind: str,
    price: Price,
    costs: tuple[int, int, int],
    tokens: Mapping[str, int],
    units: Mapping[str, int],
) -> Mapping[str, Any]:
    low, expected, maximum = costs
    return {
        **_head(model, kind),
        "mode": "platform",
        "price_version": price.version,
        "tokens": tokens,
        "units": units,
        "credits": {
            "low": credits_text(min(low, expected)),
            "expected": credits_text(min(expected, maximum)),
            "maximum": credits_text(maximum),
        },
    }
