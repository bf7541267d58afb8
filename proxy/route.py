"""Route: which upstreams serve this call, in which order. Pure: values in, values out."""

from collections.abc import Iterator

from proxy import names
from proxy.costs.charge import free
from proxy.costs.price import Kind
from proxy.errors import ModelNotFound, OwnKeyUnusable, PriceUnknown, UpstreamUnreachable
from proxy.providers.catalog import ADAPTERS
from proxy.types import Caller, Deployment, Model, Offer, OwnKey, Price, Snapshot
from proxy.who.keyfile import KeyFile


def find(name: str, snapshot: Snapshot) -> Model:
    """The model of that name, in whichever way it is written."""
    model = names.find(name, snapshot.models, snapshot.names)
    if model is None:
        raise ModelNotFound("model", model=name)
    return model


def price_of(model: Model, kind: Kind = "chat") -> Price:
    """No price, no call: what cannot be charged exactly is not sold."""
    if model.price is None or not model.price.covers(kind):
        raise PriceUnknown("model", model=model.id)
    return model.price


def candidates(model: Model) -> tuple[Deployment, ...]:
    """A caller who names a model gets that model: the deployments of it, best first."""
    if not model.deployments and model.places and model.byok:
        why = "there is no key for it here; bring one of your own with `opscenter byok add`"
        raise UpstreamUnreachable(model=model.id, why=why)
    if not model.deployments:
        raise UpstreamUnreachable(model=model.id, why="it has no deployment that is switched on")
    return model.deployments


def offer(model: Model, caller: Caller, keys: KeyFile, kind: Kind = "chat") -> Offer:
    """By the caller's own keys where he has any for this model, and by nothing else unless the
    owners of all of them allow it; by the platform's otherwise."""
    if not (caller.key.own or caller.organisation.own):
        return Offer(candidates(model), price_of(model, kind))
    mine = tuple(by_own(model, one, name, keys) for one, name in own_keys(model, caller))
    if not mine:
        return Offer(candidates(model), price_of(model, kind))
    alone = Offer(mine, free(model.price))
    if not all(one.own is not None and one.own.fallback for one in mine):
        return alone
    price = model.price
    if not model.deployments or price is None or not price.covers(kind):
        return alone
    return Offer((*mine, *model.deployments), price, alone)


def goes_by_own(model: Model, caller: Caller) -> bool:
    return next(own_keys(model, caller), None) is not None


def is_served(model: Model, caller: Caller) -> bool:
    """Whether he can have it: by the platform's key or by one of his own."""
    return bool(model.deployments) or goes_by_own(model, caller)


def own_keys(model: Model, caller: Caller) -> Iterator[tuple[OwnKey, str]]:
    """His keys that serve the model, and what it is called there: the model's own provider first. A
    person's key stands before his organisation's for the same provider."""
    if not model.byok:
        return
    found = {one.kind: one for one in (*caller.organisation.own, *caller.key.own)}
    for one in found.values():
        if model.id in one.models:
            yield one, one.models[model.id]
    for kind, name in model.places.items():
        if kind in found and model.id not in found[kind].models:
            yield found[kind], name


def by_own(model: Model, own: OwnKey, name: str, keys: KeyFile) -> Deployment:
    """The place that such a key opens."""
    if own.adapter not in ADAPTERS:
        raise OwnKeyUnusable(name=own.name, why=f"this worker does not speak {own.adapter}")
    try:
        secret = keys.open(f"{own.owner}:{own.kind}", own.base_url, own.sealed)
    except ValueError:
        why = "it cannot be opened as what was entered"
        raise OwnKeyUnusable(name=own.name, why=why) from None
    return Deployment(
        id=0,
        model=model.id,
        provider=own.kind,
        adapter=own.adapter,
        base_url=own.base_url,
        upstream_model=name,
        secret=secret,
        quirks=own.quirks,
        own=own,
    )
