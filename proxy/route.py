"""Route: which upstreams serve this call, in which order. Pure: values in, values out."""

from proxy.errors import ModelNotFound, PriceUnknown, UpstreamUnreachable
from proxy.price import Kind
from proxy.types import Deployment, Model, Price, Snapshot


def find(name: str, snapshot: Snapshot) -> Model:
    """The model of that name; `provider:model` is another way to write `provider/model`."""
    model = snapshot.models.get(name) or snapshot.models.get(name.replace(":", "/", 1))
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
    if not model.deployments:
        raise UpstreamUnreachable(model=model.id, why="it has no deployment that is switched on")
    return model.deployments
