"""Route: a name and the snapshot give a model, its price and its deployments; nothing else does."""

import pytest

from proxy import route
from proxy.errors import ModelNotFound, PriceUnknown, UpstreamUnreachable
from proxy.types import Deployment, Model, Price, Snapshot


def model(id: str, *places: Deployment, price: Price | None = None) -> Model:
    return Model(id, 1000, 100, 0, places, price)


def place(id: int) -> Deployment:
    return Deployment(id, "openai/gpt", "openai", "openai", "http://x", "gpt")


GPT = model("openai/gpt", place(2), place(1), price=Price(1, {"input": 1, "output": 1}, 1_000_000))
TAGGED = model("local/llama:8b", place(3))
PLAIN = model("local:x", place(4))
SHADOW = model("local/x", place(5))
WORLD = Snapshot(1, {m.id: m for m in (GPT, TAGGED, PLAIN, SHADOW)})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("openai/gpt", GPT),
        ("openai:gpt", GPT),
        ("local/llama:8b", TAGGED),
        ("local:llama:8b", TAGGED),
        ("local:x", PLAIN),
        ("local/x", SHADOW),
    ],
)
def test_provider_and_model_are_parted_by_a_slash_or_a_colon(name: str, found: Model) -> None:
    """A model that bears exactly the name comes before the other way to write it."""
    assert route.find(name, WORLD) is found


@pytest.mark.parametrize("name", ["gpt", "OPENAI/GPT", "openai/gpt ", "", ":", "a" * 256, "\0"])
def test_an_unknown_name_is_an_error_that_repeats_it(name: str) -> None:
    """No guess and no nearest match: who names a model gets that model or a 404."""
    with pytest.raises(ModelNotFound) as caught:
        route.find(name, WORLD)
    assert caught.value.status == 404
    assert caught.value.param == "model"
    assert name in caught.value.sentence


def test_a_name_with_braces_is_repeated_and_not_filled_in() -> None:
    """Nothing that a client writes is taken for a place holder of a sentence."""
    with pytest.raises(ModelNotFound) as caught:
        route.find("{model} {0} %s", WORLD)
    assert "`{model} {0} %s`" in caught.value.sentence


@pytest.mark.parametrize(
    "price",
    [None, Price(1, {}, 1_000_000), Price(1, {"input": 5}, 1_000_000), Price(1, {"a": 1}, 1)],
)
def test_a_model_without_a_complete_price_is_not_sold(price: Price | None) -> None:
    """What cannot be charged exactly is refused before anything is held."""
    with pytest.raises(PriceUnknown):
        route.price_of(model("m", price=price))


def test_a_free_model_has_a_price_of_zero() -> None:
    free = Price(1, {"input": 0, "output": 0}, 1_000_000)
    assert route.price_of(model("m", price=free)) is free


def test_the_deployments_keep_the_order_that_was_published() -> None:
    assert [d.id for d in route.candidates(GPT)] == [2, 1]


def test_a_model_whose_deployments_are_all_off_is_told_as_such() -> None:
    with pytest.raises(UpstreamUnreachable, match="no deployment that is switched on"):
        route.candidates(model("m"))
