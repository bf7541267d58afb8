"""Which keys a call goes by, and what it costs then: the caller's own before the platform's, for
nothing, and the platform's in their place only where their owners say so. Pure.
"""

from dataclasses import replace

import pytest
from cryptography.fernet import Fernet, MultiFernet

from proxy import route
from proxy.bounds.standing import caller_of
from proxy.costs.charge import charged_ucr, total_ucr
from proxy.costs.price import Price
from proxy.costs.pricing import worst_ucr
from proxy.errors import OwnKeyUnusable, PriceUnknown, UpstreamUnreachable
from proxy.types import (
    Caller,
    Deployment,
    KeyRecord,
    Model,
    Offer,
    OrganisationRecord,
    Outcome,
    OwnKey,
    Ticket,
    Usage,
)
from proxy.who.keyfile import KeyFile

KEYS = KeyFile({1: bytes(32)}, 1, MultiFernet([Fernet(Fernet.generate_key())]))
ORGANISATION, PERSON = "o:acme", "m:acme:ann"
PLATFORM = Deployment(
    7, "openai/gpt", "openai", "openai", "https://platform.test/v1", "gpt", "sk-p"
)
PRICE = Price(3, {"input": 1_000_000, "output": 2_000_000}, 1_250_000)
PLACES = {"openai": "gpt", "openrouter": "openai/gpt"}
GPT = Model("openai/gpt", 1000, 100, 0, (PLATFORM,), PRICE, places=PLACES)


def own(
    kind: str,
    owner: str = ORGANISATION,
    fallback: bool = False,
    url: str = "https://api.test/v1",
    sealed_for: str = "",
    adapter: str = "openai",
    models: dict[str, str] | None = None,
) -> OwnKey:
    sealed = KEYS.seal(f"{sealed_for or owner}:{kind}", "https://api.test/v1", f"sk-{kind}-{owner}")
    name = f"the {kind} key of {owner}"
    return OwnKey(name, kind, owner, adapter, url, sealed, fallback, models=models or {})


def caller(*keys: OwnKey) -> Caller:
    of_person = tuple(key for key in keys if key.owner == PERSON)
    key = KeyRecord("kid", 0, 1, b"", 1, "acme", "ann", None, (), own=of_person)
    others = tuple(key for key in keys if key.owner != PERSON)
    return caller_of(key, OrganisationRecord("acme", 1, (), others))


def offered(*keys: OwnKey, model: Model = GPT) -> Offer:
    return route.offer(model, caller(*keys), KEYS)


def secrets(offer: Offer) -> list[str]:
    return [one.secret for one in offer.deployments]


def test_without_a_key_of_ones_own_the_platforms_serves_at_its_price() -> None:
    assert offered() == Offer((PLATFORM,), PRICE)
    assert offered(own("groq")) == Offer((PLATFORM,), PRICE)  # serves another model


def test_the_models_own_provider_comes_first_whatever_was_entered_first() -> None:
    """An OpenRouter key serves every model that is listed there, but stands behind."""
    offer = offered(own("openrouter"), own("openai"))
    assert secrets(offer) == ["sk-openai-o:acme", "sk-openrouter-o:acme"]
    assert [one.upstream_model for one in offer.deployments] == ["gpt", "openai/gpt"]
    assert [one.provider for one in offer.deployments] == ["openai", "openrouter"]


def test_a_persons_key_stands_before_his_organisations() -> None:
    assert secrets(offered(own("openai"), own("openai", PERSON))) == ["sk-openai-m:acme:ann"]
    both = offered(own("openai"), own("openrouter", PERSON))
    assert secrets(both) == ["sk-openai-o:acme", "sk-openrouter-m:acme:ann"]


def test_no_key_of_ones_own_serves_a_model_that_is_kept_from_them() -> None:
    """Also where the key itself names the model: the platform's serves, at its price."""
    kept = replace(GPT, byok=False)
    mine = own("openai", models={"openai/gpt": "other"})
    assert offered(mine, model=kept) == Offer((PLATFORM,), PRICE)
    with pytest.raises(UpstreamUnreachable, match="switched on"):
        offered(mine, model=replace(kept, deployments=()))


def test_the_platforms_key_is_never_behind_ones_own_unless_allowed() -> None:
    offer = offered(own("openai"))
    assert PLATFORM not in offer.deployments
    assert offer.unpaid is None
    assert PLATFORM not in offered(own("openai", fallback=True), own("openrouter")).deployments


def test_a_key_whose_owner_allows_it_is_backed_by_the_platforms_at_its_price() -> None:
    """Credits are held for it; where none carry it, the own keys serve alone."""
    offer = offered(own("openai", fallback=True))
    assert offer.deployments[-1] is PLATFORM
    assert (len(offer.deployments), offer.price) == (2, PRICE)
    assert offer.unpaid is not None
    assert offer.unpaid.deployments == offer.deployments[:1]
    assert worst_ucr(10**6, 10**6, offer.unpaid.price) == 0


def test_ones_own_key_serves_without_a_place_or_a_price_of_the_platforms() -> None:
    bare = Model("openai/new", 1000, 100, 0, (), None, places={"openai": "new"})
    offer = offered(own("openai", fallback=True), model=bare)
    assert secrets(offer) == ["sk-openai-o:acme"]
    assert worst_ucr(10**6, 10**6, offer.price) == 0
    with pytest.raises(PriceUnknown):
        offered(model=Model("openai/new", 1000, 100, 0, (PLATFORM,), None))


def test_a_model_without_a_key_of_the_platforms_is_listed_for_who_brings_one() -> None:
    bare = Model("openai/new", 1000, 100, 0, (), PRICE, places={"openai": "new"})
    assert not route.is_served(bare, caller(own("groq")))
    assert route.is_served(bare, caller(own("openai")))
    assert route.is_served(GPT, caller())
    with pytest.raises(UpstreamUnreachable, match="bring one of your own"):
        offered(own("groq"), model=bare)


def test_a_key_may_name_models_of_its_own() -> None:
    offer = offered(own("azure", models={"openai/gpt": "my-deployment"}), own("openai"))
    assert [one.upstream_model for one in offer.deployments] == ["my-deployment", "gpt"]


@pytest.mark.parametrize(
    "key",
    [
        own("openai", sealed_for="o:other"),
        own("openai", PERSON, sealed_for=ORGANISATION),
        own("openai", url="https://evil.test/v1"),
        own("openai", adapter="unknown"),
    ],
)
def test_a_key_that_was_entered_by_another_or_for_elsewhere_is_of_no_use(key: OwnKey) -> None:
    """A sealed key that was copied into another's record; an address that was changed beneath it.
    The platform's key does not step in."""
    with pytest.raises(OwnKeyUnusable, match="the openai key of"):
        offered(key)


@pytest.mark.parametrize("fallback", [True, False])
def test_what_ones_own_key_served_costs_nothing_and_what_the_platforms_did_its_price(
    fallback: bool,
) -> None:
    offer = offered(own("openai", fallback=fallback))
    tokens = {"input": 100, "output": 10}
    for deployment in offer.deployments:
        outcome = Outcome(deployment=deployment)
        ticket = Ticket.__new__(Ticket)
        object.__setattr__(ticket, "price", offer.price)
        expected = 150 if deployment is PLATFORM else 0
        assert charged_ucr(tokens, ticket, outcome) == expected


def test_each_usage_is_reckoned_once_and_another_one_anew() -> None:
    ticket, first = Ticket.__new__(Ticket), Usage({"input": 100, "output": 10})
    object.__setattr__(ticket, "price", PRICE)
    outcome = Outcome(deployment=PLATFORM, usage=first)
    assert total_ucr(ticket, outcome) == charged_ucr(first.tokens, ticket, outcome) == 150
    outcome.usage = Usage({"input": 200, "output": 20})
    assert total_ucr(ticket, outcome) == 300
    outcome.usage = first
    assert total_ucr(ticket, outcome) == 150
