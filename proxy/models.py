"""The lists of models: what a key may use, in OpenAI's shape with our own facts added. Pure."""

from collections.abc import Container, Mapping
from typing import Any

from proxy.errors import ModelNotFound
from proxy.pricing import credits_text
from proxy.route import find
from proxy.types import Model, Snapshot


def listing(snapshot: Snapshot, allowed: Container[str] | None) -> Mapping[str, Any]:
    shown = [m for m in snapshot.models.values() if allowed is None or m.id in allowed]
    return {"object": "list", "data": [_shape(m) for m in sorted(shown, key=lambda m: m.id)]}


def one(name: str, snapshot: Snapshot, allowed: Container[str] | None) -> Mapping[str, Any]:
    model = find(name, snapshot)
    if allowed is not None and model.id not in allowed:
        raise ModelNotFound("model", model=name)
    return _shape(model)


def _shape(model: Model) -> Mapping[str, Any]:
    price = model.price
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.deployments[0].provider if model.deployments else "nobody",
        "context_window": model.context_max,
        "max_output_tokens": model.output_max,
        # credits per 1,000,000 tokens, before any markup
        "pricing": price and {name: credits_text(rate) for name, rate in price.rates.items()},
    }
