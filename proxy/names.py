"""What models are called: `provider/model`, `provider:model` and the bare `model` mean the same.

An exact id comes before every reading of its parts. Where a bare name could be several models, it
is the one of the provider that comes first here; those of your own house come before all.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from proxy.types import Model

#: Makers before those who pass their models on.
ORDER = (
    *("openai", "anthropic", "google", "x-ai", "mistral", "cohere"),
    *("groq", "together", "huggingface", "openrouter"),
)


def named(models: Iterable[Model]) -> tuple[dict[str, Model], dict[str, Model]]:
    """Models by their ids, and by the other names that they alone bear."""
    every = {model.id: model for model in models}
    owners: dict[str, str] = {}
    for model in sorted(every.values(), key=_place):
        for name in _others(model):
            if name not in every:
                owners.setdefault(name, model.id)
    of_model: dict[str, set[str]] = {}
    for name, id in owners.items():
        of_model.setdefault(id, set()).add(name)
    known = {
        id: replace(model, names=frozenset(of_model[id])) if id in of_model else model
        for id, model in every.items()
    }
    return known, {name: known[id] for name, id in owners.items()}


def find(name: str, models: Mapping[str, Model], names: Mapping[str, Model]) -> Model | None:
    return models.get(name) or names.get(name) or models.get(name.replace(":", "/", 1))


def _others(model: Model) -> Iterator[str]:
    provider, slash, rest = model.id.partition("/")
    if slash and rest:
        yield f"{provider}:{rest}"
        yield rest
    for place in model.deployments:
        yield f"{place.provider}/{place.upstream_model}"
        yield f"{place.provider}:{place.upstream_model}"


def _place(model: Model) -> tuple[int, str]:
    provider = model.id.partition("/")[0]
    return (ORDER.index(provider) + 1 if provider in ORDER else 0, model.id)
