"""The lists of models: what a key may use, in OpenAI's shape with our own facts added. Pure."""

from collections.abc import Callable, Container, Mapping
from typing import Any

from proxy.errors import ModelNotFound
from proxy.pricing import credits_text
from proxy.route import find
from proxy.rules import may_use
from proxy.types import Model, Snapshot


def listing(
    snapshot: Snapshot,
    allowed: Container[str] | None,
    wanted: Callable[[Model], bool] | None = None,
) -> Mapping[str, Any]:
    shown = [m for m in snapshot.models.values() if may_use(allowed, m)]
    if wanted is not None:
        shown = [m for m in shown if wanted(m)]
    return {"object": "list", "data": [_shape(m) for m in sorted(shown, key=lambda m: m.id)]}


def one(name: str, snapshot: Snapshot, allowed: Container[str] | None) -> Mapping[str, Any]:
    model = find(name, snapshot)
    if not may_use(allowed, model):
        raise ModelNotFound("model", model=name)
    return _shape(model)


def _shape(model: Model) -> Mapping[str, Any]:
    price = model.price
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.deployments[0].provider if model.deployments else "nobody",
        "name": model.title or model.id,
        "context_window": model.context_max,
        "max_output_tokens": model.output_max,
        "modalities": {"input": model.takes, "output": model.gives},
        "free": price is not None and not any(max(one.values()) for one in price.every),
        # credits per 1,000,000 of each class, before any markup
        "pricing": price and _shown(price.rates),
        "pricing_above": price and {str(one.above): _shown(one.rates) for one in price.tiers},
    }


def _shown(rates: Mapping[str, int]) -> dict[str, str]:
    return {name: credits_text(rate) for name, rate in rates.items()}
