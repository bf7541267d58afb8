"""The lists of models: what a key may use, in OpenAI's shape with our own facts added, and page by
page in Anthropic's for its clients. Pure.
"""

from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from proxy.costs.pricing import credits_text
from proxy.errors import FieldInvalid, ModelNotFound
from proxy.route import find
from proxy.types import Model, Snapshot
from proxy.who.rules import may_use

Wanted = Callable[[Model], bool] | None
PAGE, PAGE_MAX = 20, 1000  # models of a list in Anthropic's shape


def listing(
    snapshot: Snapshot,
    allowed: Container[str] | None,
    wanted: Wanted = None,
) -> Mapping[str, Any]:
    shown = _chosen(snapshot, allowed, wanted)
    return {"object": "list", "data": [_shape(m) for m in sorted(shown, key=lambda m: m.id)]}


def one(name: str, snapshot: Snapshot, allowed: Container[str] | None) -> Mapping[str, Any]:
    return _shape(_found(name, snapshot, allowed))


def _chosen(snapshot: Snapshot, allowed: Container[str] | None, wanted: Wanted) -> list[Model]:
    shown = [m for m in snapshot.models.values() if may_use(allowed, m)]
    return shown if wanted is None else [m for m in shown if wanted(m)]


def _found(name: str, snapshot: Snapshot, allowed: Container[str] | None) -> Model:
    model = find(name, snapshot)
    if not may_use(allowed, model):
        raise ModelNotFound("model", model=name)
    return model


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


# As Anthropic's clients read them ---------------------------------------------------------


def page(
    snapshot: Snapshot, allowed: Container[str] | None, wanted: Wanted, query: bytes
) -> Mapping[str, Any]:
    """A page of the list, the newest first; `limit`, `after_id` and `before_id` say which."""
    asked = dict(parse_qsl(query.decode("ascii", "replace")))
    shown = sorted(_chosen(snapshot, allowed, wanted), key=lambda m: (-m.created, m.id))
    limit, begin, end = _limit(asked.get("limit")), 0, len(shown)
    if after := asked.get("after_id"):
        begin = _place(shown, "after_id", after) + 1
        end = min(end, begin + limit)
        more = end < len(shown)
    elif before := asked.get("before_id"):
        end = _place(shown, "before_id", before)
        begin = max(0, end - limit)
        more = begin > 0
    else:
        end = min(end, limit)
        more = end < len(shown)
    data = [_anthropics(model) for model in shown[begin:end]]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": more, "first_id": first, "last_id": last}


def anthropics_one(
    name: str, snapshot: Snapshot, allowed: Container[str] | None
) -> Mapping[str, Any]:
    return _anthropics(_found(name, snapshot, allowed))


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    is_short = text.isascii() and text.isdigit() and len(text) <= len(str(PAGE_MAX))
    if not is_short or not 1 <= int(text) <= PAGE_MAX:
        raise FieldInvalid("limit", name="limit", why=f"it takes a number from 1 to {PAGE_MAX}")
    return int(text)


def _place(shown: list[Model], name: str, id: str) -> int:
    for nth, model in enumerate(shown):
        if model.id == id:
            return nth
    raise FieldInvalid(name, name=name, why="no model of this list has this id")


def _anthropics(model: Model) -> Mapping[str, Any]:
    created = datetime.fromtimestamp(model.created, UTC)
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.title or model.id,
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "max_input_tokens": model.context_max,
        "max_tokens": model.output_max,
        "capabilities": None,  # nobody says them of other providers' models
        "lifecycle": "active",
    }
