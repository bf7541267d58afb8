"""With which provider, and by whose key, a file lies. Pure."""

from dataclasses import replace
from typing import Any

import pytest

from proxy import route
from proxy.bounds.standing import caller_of
from proxy.errors import (
    BatchKeyNeeded,
    BatchNotFound,
    FileCreditsNeeded,
    FileNotFound,
    ModelNotAllowed,
    ModelNotFound,
    OpsError,
    OwnKeyUnusable,
    ProviderUnclear,
    RouteNotAllowed,
)
from proxy.kept import accounts
from proxy.kept.accounts import Place
from proxy.kept.names import Names
from proxy.kept.wish import Wish
from proxy.types import (
    Caller,
    Deployment,
    KeyRecord,
    Model,
    OrganisationRecord,
    OwnKey,
    Snapshot,
)
from proxy.types import Names as Listed
from proxy.who.keyfile import KeyFile, render

KEYS = KeyFile.parse(render({1: b"p" * 32}, {1: b"s" * 32}))
URL, ACME, ANN, BEN = "https://api.test/v1", "acme", "m:acme:ann", "m:acme:ben"
NAMES = Names(KEYS, ACME)
BATCH = {"input_file_id": "", "endpoint": "/v1/chat/completions"}


def deployment(provider: str, adapter: str) -> Deployment:
    return Deployment(7, f"{provider}/m", provider, adapter, URL, "m", f"sk-{provider}")


def snapshot(**providers: str) -> Snapshot:
    """Each with one model."""
    models = {
        f"{name}/m": Model(f"{name}/m", 9, 9, 0, (deployment(name, adapter),), None, places={})
        for name, adapter in providers.items()
    }
    return Snapshot(1, models)


def own(kind: str, owner: str = "o:acme", adapter: str = "openai", secret: str = "") -> OwnKey:
    sealed = KEYS.seal(f"{owner}:{kind}", URL, secret or f"sk-{kind}-{owner}")
    return OwnKey(f"{kind} of {owner}", kind, owner, adapter, URL, sealed)


def caller(*keys: OwnKey, **limits: Any) -> Caller:
    """Whoever the first personal key belongs to."""
    personal = tuple(key for key in keys if key.owner.startswith("m:"))
    key = KeyRecord("kid", 0, 1, b"", 1, ACME, "x", limits.pop("models", None), (), **limits)
    key = KeyRecord(**{name: getattr(key, name) for name in key.__slots__} | {"own": personal})
    others = tuple(key for key in keys if key.owner == "o:acme")
    return caller_of(key, OrganisationRecord(ACME, 1, (), others))


def chosen(who: Caller, world: Snapshot, provider: str = "", model: str = "") -> Place:
    wish = Wish("files", "list", provider=provider, model=model)
    return accounts.find(wish, who, world, KEYS)


def at(account: str, url: str = URL) -> str:
    """As ids name what lies in that account."""
    told = replace(deployment("x", "openai"), base_url=url)
    return Place(account, Model("x/files", 0, 0, 0, (told,), None)).sealed_as


def named(who: Caller, world: Snapshot, account: str, thing: str = "files") -> Place:
    id = NAMES.seal(thing, at(account), "theirs-1")  # type: ignore[arg-type]
    assert id is not None
    return accounts.find(Wish(thing, "get", id), who, world, KEYS)  # type: ignore[arg-type]


def secret(place: Place) -> str:
    return place.deployment.secret


ONE = snapshot(openai="openai", gpu="compatible", anthropic="anthropic", echo="echo")


def test_without_a_word_it_is_the_only_one_that_has_all_that_openai_has() -> None:
    place = chosen(caller(), ONE)
    assert (place.account, place.model.id, secret(place)) == (
        "p:openai",
        "openai/files",
        "sk-openai",
    )
    assert (place.model.context_max, place.model.output_max, place.deployment.id) == (0, 0, 0)


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (snapshot(), "none here"),
        (snapshot(gpu="compatible", anthropic="anthropic"), "none here"),
        (snapshot(openai="openai", azure="openai"), "azure, openai"),
    ],
)
def test_where_that_is_none_or_several_one_has_to_be_named(world: Snapshot, why: str) -> None:
    with pytest.raises(ProviderUnclear, match=why):
        chosen(caller(), world)


def test_a_name_or_a_model_says_which() -> None:
    for place in (chosen(caller(), ONE, "gpu"), chosen(caller(), ONE, model="gpu/m")):
        assert (place.account, secret(place)) == ("p:gpu", "sk-gpu")
    for nobody in ("anthropic", "echo", "nobody"):
        with pytest.raises(ProviderUnclear, match="gpu, openai"):
            chosen(caller(), ONE, nobody)
    with pytest.raises(ProviderUnclear, match="anthropic/m"):
        chosen(caller(), ONE, model="anthropic/m")
    with pytest.raises(ModelNotFound):
        chosen(caller(), ONE, model="nobody/m")
    with pytest.raises(ModelNotAllowed):
        chosen(caller(models=Listed.of(["openai/*"])), ONE, model="gpu/m")


def test_a_key_of_ones_own_comes_first_and_a_persons_before_his_organisations() -> None:
    """What lies in the organisation's account is reached by its key, also where he has one too."""
    both = caller(own("openai"), own("openai", ANN))
    assert secret(chosen(caller(own("openai")), ONE)) == "sk-openai-o:acme"
    assert secret(chosen(both, ONE)) == "sk-openai-m:acme:ann"
    assert chosen(both, ONE).account == "m:ann:openai"
    assert secret(named(both, ONE, "o:openai")) == "sk-openai-o:acme"
    assert secret(named(both, ONE, "p:openai")) == "sk-openai"
    assert secret(chosen(both, ONE, "gpu")) == "sk-gpu"
    other = caller(own("anthropic", adapter="anthropic"))
    assert secret(chosen(other, ONE)) == "sk-openai"  # which keeps nothing


def test_a_model_goes_by_the_key_by_which_its_calls_would() -> None:
    model = ONE.models["openai/m"]
    placed = Model("openai/m", 9, 9, 0, model.deployments, None, places={"openai": "m"})
    world = Snapshot(1, {**ONE.models, "openai/m": placed})
    keys = (own("openai"), own("groq", adapter="compatible"))
    assert secret(chosen(caller(*keys), world, model="openai/m")) == "sk-openai-o:acme"
    with pytest.raises(ProviderUnclear, match="openai/m"):
        chosen(caller(own("openai", adapter="anthropic")), world, model="openai/m")


@pytest.mark.parametrize("account", ["m:ben:openai", "o:groq", "p:nobody", "p:anthropic", "x", ""])
def test_what_lies_in_an_account_that_is_not_his_is_not_there(account: str) -> None:
    who = caller(own("openai"), own("openai", ANN))
    with pytest.raises(FileNotFound):
        named(who, ONE, account)
    with pytest.raises(BatchNotFound):
        named(who, ONE, account, "batches")


def begun(who: Caller, account: str) -> Place:
    fields = {**BATCH, "input_file_id": NAMES.seal("files", at(account), "theirs-1")}
    return accounts.find(Wish("batches", "create", fields=fields), who, ONE, KEYS)


def test_a_batch_goes_where_its_file_lies_by_a_key_of_ones_own() -> None:
    who = caller(own("openai"), own("openai", ANN))
    place = begun(who, "o:openai")
    assert (secret(place), place.theirs, place.model.id) == (
        "sk-openai-o:acme",
        "theirs-1",
        "openai/batches",
    )
    with pytest.raises(BatchKeyNeeded):
        begun(who, "p:openai")
    with pytest.raises(FileNotFound):
        begun(who, "m:ben:openai")
    for wish in (Wish("batches", "list"), Wish("batches", "list", provider="gpu")):
        with pytest.raises(BatchKeyNeeded):
            accounts.find(wish, caller(), ONE, KEYS)


def test_a_key_for_certain_paths_begins_batches_for_these_alone() -> None:
    routes = ["/v1/batches", "/v1/embeddings"]
    with pytest.raises(RouteNotAllowed, match=r"/v1/chat/completions"):
        begun(caller(own("openai"), routes=Listed.of(routes)), "o:openai")


def test_a_key_that_has_gone_or_changed_meanwhile_is_not_used() -> None:
    place, problems = chosen(caller(own("openai")), ONE), list[OpsError]()
    for later in (caller(), caller(own("openai", secret="sk-new"))):
        with pytest.raises(OwnKeyUnusable) as refused:
            accounts.check(place, later, place.model.deployments)
        problems.append(refused.value)
    assert all("openai of o:acme" in problem.sentence for problem in problems)
    ours = chosen(caller(), ONE)
    accounts.check(ours, caller(), ours.model.deployments)


def test_what_lies_with_the_organisations_key_is_reached_also_by_who_has_one_too() -> None:
    who = caller(own("openai"), own("openai", ANN))
    for account in ("o:openai", "m:ann:openai"):
        place = named(who, ONE, account)
        accounts.check(place, who, place.model.deployments)


@pytest.mark.parametrize("thing", ["files", "batches"])
def test_no_other_place_is_asked_whatever_keys_say_that_they_serve(thing: str) -> None:
    """Who answered in its place could name anything there, and it would be sealed for him."""
    models = {f"openai/{thing}": "x"}
    evil = replace(own("compatible", ANN, "compatible"), models=models, fallback=True)
    for who in (caller(evil), caller(own("openai"), evil)):
        for account in ("p:openai", "o:openai"):
            if account == "p:openai" and thing == "batches":
                continue
            if account == "o:openai" and not who.organisation.own:
                continue
            place = named(who, ONE, account, thing)
            offer = route.offer(place.model, who, KEYS)
            assert offer.deployments == (place.deployment,)
            assert offer.unpaid is None
            accounts.check(place, who, offer.deployments)
            his = route.by_own(place.model, evil, "x", KEYS)
            for others in ((his,), (place.deployment, his), ()):
                with pytest.raises(RuntimeError, match="another place"):
                    accounts.check(place, who, others)


def test_an_id_is_good_at_the_address_where_it_was_told() -> None:
    """Whoever answered at another one could have named what lies at this one."""
    who = caller(own("openai"))
    for account in ("p:openai", "o:openai"):
        for sealed_as in (account, at(account, "https://evil.test/v1"), f"{at(account)}0"):
            id = NAMES.seal("files", sealed_as, "theirs-1")
            assert id is not None
            with pytest.raises(FileNotFound):
                accounts.find(Wish("files", "get", id), who, ONE, KEYS)
        id = NAMES.seal("files", at(account, URL + "/"), "theirs-1")
        assert id is not None
        assert accounts.find(Wish("files", "get", id), who, ONE, KEYS).theirs == "theirs-1"


def test_files_lie_with_the_platform_for_those_who_have_credits() -> None:
    create, get = Wish("files", "create"), Wish("files", "get")
    ours, his = chosen(caller(), ONE), chosen(caller(own("openai")), ONE)
    for none in (0, -1):
        with pytest.raises(FileCreditsNeeded):
            accounts.require_credits(ours, create, none)
        accounts.require_credits(ours, get, none)
        accounts.require_credits(his, create, none)
    accounts.require_credits(ours, create, 1)
