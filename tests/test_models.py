"""The lists of models: what a key may use, and nothing of what it may not."""

import pytest

from proxy import models
from proxy.errors import FieldInvalid, ModelNotFound
from proxy.types import Deployment, Model, Price, Snapshot

PLACE = Deployment(1, "b/x", "b", "openai", "http://secret-host/v1", "x", "sk-secret")
PRICE = Price(3, {"input": 2_500_000_000, "output": 1}, 1_250_000)
WORLD = Snapshot(
    1,
    {
        "b/x": Model("b/x", 8_000, 1_000, 5, (PLACE,), PRICE),
        "a/y": Model("a/y", 4_000, 500, 6, (), None),
    },
)


def names(allowed: frozenset[str] | None) -> list[str]:
    return [row["id"] for row in models.listing(WORLD, allowed)["data"]]


def test_a_key_without_a_list_sees_every_model_in_order() -> None:
    assert names(None) == ["a/y", "b/x"]


@pytest.mark.parametrize(
    ("allowed", "shown"), [({"b/x"}, ["b/x"]), ({"b/x", "gone"}, ["b/x"]), (set(), [])]
)
def test_a_key_with_a_list_sees_those_alone(allowed: set[str], shown: list[str]) -> None:
    assert names(frozenset(allowed)) == shown


def test_a_model_is_shown_in_openais_shape_with_its_price_in_credits() -> None:
    assert models.one("b:x", WORLD, None) == {
        "id": "b/x",
        "object": "model",
        "created": 5,
        "owned_by": "b",
        "name": "b/x",
        "context_window": 8_000,
        "max_output_tokens": 1_000,
        "modalities": {"input": ("text",), "output": ("text",)},
        "free": False,
        "pricing": {"input": "2500.000000", "output": "0.000001"},
        "pricing_above": {},
    }


def test_a_model_without_price_or_deployment_is_shown_as_such() -> None:
    shown = models.one("a/y", WORLD, None)
    assert (shown["pricing"], shown["owned_by"]) == (None, "nobody")


def test_where_a_model_runs_and_with_which_key_is_nobodys_business() -> None:
    assert "secret" not in str(models.listing(WORLD, None))
    assert "sk-secret" not in repr(WORLD)


@pytest.mark.parametrize("name", ["a/y", "a:y", "nothing"])
def test_a_model_that_is_not_allowed_is_told_like_one_that_does_not_exist(name: str) -> None:
    """Whether there is one is not told to who may not use it."""
    with pytest.raises(ModelNotFound) as caught:
        models.one(name, WORLD, frozenset({"b/x"}))
    assert caught.value.sentence == ModelNotFound("model", model=name).sentence


# As Anthropic's clients read them ---------------------------------------------------------

MANY = Snapshot(1, {f"m/{n}": Model(f"m/{n}", 9, 5, n, (PLACE,), PRICE) for n in range(45)})


def page(query: bytes) -> tuple[list[str], bool]:
    found = models.page(MANY, None, None, query)
    ids = [one["id"] for one in found["data"]]
    assert (found["first_id"], found["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, found["has_more"]


def test_a_page_has_the_newest_first_and_says_whether_there_are_more() -> None:
    newest = [f"m/{n}" for n in range(44, -1, -1)]
    assert page(b"") == (newest[:20], True)
    assert page(b"beta=true&limit=1000") == (newest, False)
    assert page(b"limit=30&after_id=m/15") == (newest[30:], False)
    assert page(b"limit=2&after_id=m%2F44") == (newest[1:3], True)
    assert page(b"limit=3&before_id=m/42") == (newest[:2], False)
    assert page(b"limit=2&before_id=m/40") == (newest[2:4], True)
    assert page(b"after_id=m/0") == ([], False)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (b"limit=0", "limit"),
        (b"limit=1001", "limit"),
        (b"limit=1" + b"0" * 5000, "limit"),
        (b"limit=-1", "limit"),
        (b"limit=010000", "limit"),
        (b"limit=\xc2\xb2", "limit"),
        (b"after_id=m/99", "after_id"),
        (b"before_id=secret", "before_id"),
    ],
)
def test_what_is_no_page_is_told(query: bytes, name: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        page(query)
    assert refused.value.param == name


def test_a_model_in_anthropics_shape() -> None:
    assert models.anthropics_one("b/x", WORLD, None) == {
        "type": "model",
        "id": "b/x",
        "display_name": "b/x",
        "created_at": "1970-01-01T00:00:05Z",
        "max_input_tokens": 8_000,
        "max_tokens": 1_000,
        "capabilities": None,
        "lifecycle": "active",
    }
    with pytest.raises(ModelNotFound):
        models.anthropics_one("b/x", WORLD, frozenset({"a/y"}))
