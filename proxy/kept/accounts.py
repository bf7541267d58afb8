"""With which provider, and by whose key, something is kept. Pure.

By the caller's own keys where he has any, by the platform's otherwise, as for calls; but what is
kept lies in one account, so no other key ever stands in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

from proxy import route
from proxy.costs.charge import FREE
from proxy.errors import (
    BatchKeyNeeded,
    BatchNotFound,
    FileCreditsNeeded,
    FileNotFound,
    ModelNotAllowed,
    OpsError,
    OwnKeyUnusable,
    ProviderUnclear,
    RouteNotAllowed,
)
from proxy.kept.names import Names, Thing
from proxy.kept.wish import Wish
from proxy.providers.catalog import ADAPTERS
from proxy.types import Caller, Deployment, Model, OwnKey, Snapshot
from proxy.who.keyfile import KeyFile
from proxy.who.rules import may_use

WHOLE = "openai"  # the adapter of providers that have all that OpenAI has
PLATFORM = "p"
MISSING: Mapping[Thing, type[OpsError]] = {"files": FileNotFound, "batches": BatchNotFound}


class Place(NamedTuple):
    account: str  # whose, and of which provider
    model: Model  # what the caller asks for, to admission and the ledger
    theirs: str = ""  # what the provider calls the thing

    @property
    def deployment(self) -> Deployment:
        return self.model.deployments[0]

    @property
    def is_platform(self) -> bool:
        return self.deployment.own is None

    @property
    def sealed_as(self) -> str:
        """As ids name it: what was told at one address is good at no other."""
        return f"{self.account}@{_address(self.deployment)}"


def find(wish: Wish, caller: Caller, snapshot: Snapshot, keys: KeyFile) -> Place:
    names = Names(keys, caller.key.organisation)
    routes, endpoint = caller.key.routes, wish.fields.get("endpoint")
    if endpoint is not None and routes is not None and endpoint not in routes:
        raise RouteNotAllowed(path=endpoint)
    thing, id = wish.thing, wish.id
    if wish.verb == "create" and thing == "batches":
        thing, id = "files", wish.fields["input_file_id"]
    elif wish.verb == "list":
        id = wish.fields.get("after", "")
    if id:
        opened = names.open(thing, id)
        found = opened and _known(opened[0], caller, snapshot)
        if not opened or not found:
            raise MISSING[thing]
        account, theirs = opened[0].partition("@")[0], opened[1]
    else:
        (account, found), theirs = _chosen(wish, caller, snapshot), ""
    if wish.thing == "batches" and not isinstance(found, OwnKey):
        raise BatchKeyNeeded
    return Place(account, _model(wish.thing, found, keys), theirs)


def check(place: Place, caller: Caller, admitted: Sequence[Deployment]) -> None:
    """After admission, which knows the newest: a key may have gone or changed meanwhile. Whoever
    else were asked could make ids of what lies there."""
    if tuple(admitted) != (place.deployment,):
        raise RuntimeError(f"{place.account} was admitted to another place")
    own = place.deployment.own
    if own is not None and own not in _own(caller, True).values():
        raise OwnKeyUnusable(name=own.name, why="it was changed or removed this moment")


def require_credits(place: Place, wish: Wish, left_ucr: int) -> None:
    """The platform pays for what lies there."""
    if place.is_platform and wish.verb == "create" and left_ucr <= 0:
        raise FileCreditsNeeded


def _chosen(wish: Wish, caller: Caller, snapshot: Snapshot) -> tuple[str, OwnKey | Deployment]:
    own = {account: key for account, key in _own(caller).items() if _stores(key.adapter)}
    ours = _platform(snapshot)
    if wish.provider:
        return _of_name(wish.provider, own, ours)
    if wish.model:
        return _of_model(wish.model, caller, snapshot, own)
    every: dict[str, OwnKey | Deployment] = {**own}
    if not own:
        every = {f"{PLATFORM}:{name}": deployment for name, deployment in ours.items()}
    usual = {account: one for account, one in every.items() if one.adapter == WHOLE}
    if len(usual) != 1:
        names = sorted(account.rpartition(":")[2] for account in usual)
        why = f"here there are {', '.join(names)}" if names else "none here is known to keep any"
        raise ProviderUnclear(why=why)
    [found] = usual.items()
    return found


def _of_name(
    name: str, own: Mapping[str, OwnKey], ours: Mapping[str, Deployment]
) -> tuple[str, OwnKey | Deployment]:
    for account, key in own.items():
        if key.kind == name:
            return account, key
    if name not in ours:
        known = sorted({key.kind for key in own.values()} | ours.keys())
        listed = f"here there are {', '.join(known)}" if known else "here there is none"
        raise ProviderUnclear(why=f"the one that is named keeps nothing here; {listed}")
    return f"{PLATFORM}:{name}", ours[name]


def _of_model(
    name: str, caller: Caller, snapshot: Snapshot, own: Mapping[str, OwnKey]
) -> tuple[str, OwnKey | Deployment]:
    """Of the provider by which a call of that model would go."""
    model = route.find(name, snapshot)
    if not may_use(caller.key.models, model):
        raise ModelNotAllowed("model", model=model.id)
    mine = [key for key, _ in route.own_keys(model, caller)]
    for account, key in own.items():
        if key in mine[:1]:
            return account, key
    for deployment in () if mine else model.deployments:
        if _stores(deployment.adapter):
            return f"{PLATFORM}:{deployment.provider}", deployment
    raise ProviderUnclear(why=f"the provider of {model.id} keeps nothing")


def _known(sealed_as: str, caller: Caller, snapshot: Snapshot) -> OwnKey | Deployment | None:
    """Where it is still at the address at which the id was told."""
    account, _, address = sealed_as.partition("@")
    whose, _, name = account.partition(":")
    every = _own(caller, True)
    found = _platform(snapshot).get(name) if whose == PLATFORM else every.get(account)
    return found if found is not None and _address(found) == address else None


def _address(one: OwnKey | Deployment) -> str:
    return blake2b(one.base_url.rstrip("/").encode(), digest_size=16).hexdigest()


def _own(caller: Caller, every: bool = False) -> dict[str, OwnKey]:
    """His keys by what ids call their accounts. A person's stands before his organisation's for the
    same provider; `every`: for what lies there already, that one counts too."""
    found = {}
    taken = set()
    for key in (*caller.key.own, *caller.organisation.own):
        whose, *rest = key.owner.split(":")
        if every or key.kind not in taken:
            found[":".join((whose, *rest[1:], key.kind))] = key
        taken.add(key.kind)
    return found


def _platform(snapshot: Snapshot) -> dict[str, Deployment]:
    """The platform's providers that can keep files; any deployment tells address and key."""
    return {one.provider: one for one in _storing(snapshot)}


def _storing(snapshot: Snapshot) -> Iterator[Deployment]:
    for model in snapshot.models.values():
        for deployment in model.deployments:
            if _stores(deployment.adapter):
                yield deployment


def _stores(adapter: str) -> bool:
    return adapter in ADAPTERS and "files" in ADAPTERS[adapter].native


def _model(thing: Thing, found: OwnKey | Deployment, keys: KeyFile) -> Model:
    """Under this name lists of models allow it and the ledger has it; it takes no tokens, and no
    key that says it serves a model of that name does."""
    provider = found.kind if isinstance(found, OwnKey) else found.provider
    model = Model(f"{provider}/{thing}", 0, 0, 0, (), FREE, byok=False)
    if isinstance(found, OwnKey):
        place = route.by_own(model, found, thing, keys)
    else:
        place = replace(found, id=0, model=model.id, upstream_model=thing)
    return replace(model, deployments=(place,))
