"""Three ways to write a model's name mean the same; an exact id comes before every reading."""

import pytest

from proxy import route
from proxy.names import named
from proxy.types import Deployment, Model, Names, Snapshot
from proxy.who.rules import may_use


def model(id: str, provider: str = "", upstream: str = "") -> Model:
    owner, _, rest = id.partition("/")
    place = Deployment(1, id, provider or owner, "openai", "http://x", upstream or rest)
    return Model(id, 1000, 100, 0, (place,), None)


MODELS, NAMES = named(
    [
        model("openrouter/openai/gpt-4o"),
        model("openrouter/acme/large:free"),
        model("openai/gpt-4o"),
        model("openai/o1"),
        model("azure-eu/o1"),
        model("x-ai/grok", "xai", "grok"),
        model("o3", "openai", "o3"),
        model("openai/o3"),
    ]
)
WORLD = Snapshot(1, MODELS, {}, NAMES)


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("openai:gpt-4o", "openai/gpt-4o"),
        ("gpt-4o", "openai/gpt-4o"),
        ("openrouter:openai/gpt-4o", "openrouter/openai/gpt-4o"),
        ("acme/large:free", "openrouter/acme/large:free"),
        ("grok", "x-ai/grok"),
        ("xai/grok", "x-ai/grok"),
        ("x-ai:grok", "x-ai/grok"),
        ("o1", "azure-eu/o1"),
        ("o3", "o3"),
        ("openai/o3", "openai/o3"),
    ],
)
def test_a_model_is_found_by_each_of_its_names(name: str, id: str) -> None:
    """Where several could be meant, your own house comes first, then makers before routers."""
    assert route.find(name, WORLD).id == id


@pytest.mark.parametrize("listed", ["openai/gpt-4o", "openai:gpt-4o", "gpt-4o", "openai/*"])
def test_a_key_may_use_what_its_list_names_in_any_way(listed: str) -> None:
    allowed = Names.of([listed])
    assert may_use(allowed, MODELS["openai/gpt-4o"])
    assert not may_use(allowed, MODELS["openrouter/openai/gpt-4o"])
