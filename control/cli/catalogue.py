"""`opscenter models catalogue`, `show`, `price`, `refresh`: what is known, and what it costs."""

from typing import Annotated

import typer

from control.cli.client import Answer, api, part
from control.cli.models import PATH as MODELS
from control.cli.models import pairs
from control.cli.output import Json, Misused, say, show_json, show_page, show_rows, show_table

PATH = "/api/v1/llm/admin/catalogue"
COLUMNS = {
    "model": "id",
    "kind": "kind",
    "$ per 1M": "told",
    "from": "source",
    "context": "context_max",
    "output": "output_max",
    "served": "served",
}
SHOWN = {
    "model": "id",
    "name": "name",
    "kind": "kind",
    "covers": "covers",
    "takes": "takes",
    "gives": "gives",
    "context": "context_max",
    "output": "output_max",
    "thinks": "thinks",
    "served": "served",
    "in its provider's list": "seen_at",
    "gone from it": "gone_at",
    "priced as": "same_as",
    "no price because": "why_unpriced",
}
LAYERS = {"from": "source", "since": "at", "$ per 1M": "told", "note": "note"}


def register(app: typer.Typer) -> None:
    """Beside the commands for models that are served."""
    for command, example in (
        (catalogue, "catalogue --provider openrouter --free"),
        (show, "show anthropic/claude-sonnet-4-5"),
        (price, "price acme/large input=0.15 output=0.6"),
        (refresh, "refresh openrouter"),
        (sources, "sources"),
    ):
        app.command(epilog=f"Example: opscenter models {example}")(command)


def catalogue(
    provider: Annotated[str | None, typer.Option(help="Of this one, such as openrouter.")] = None,
    search: Annotated[str | None, typer.Option(help="With this in the id or name.")] = None,
    free: Annotated[bool | None, typer.Option(help="That cost nothing, or that do.")] = None,
    priced: Annotated[bool | None, typer.Option(help="That have a price, or have none.")] = None,
    served: Annotated[bool | None, typer.Option(help="That can be had here, or cannot.")] = None,
    cursor: Annotated[str, typer.Option(help="The page after this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="Models on a page.")] = 100,
    json: Json = False,
) -> None:
    """List all models that are known, with what they cost and from where that is known."""
    asked: dict[str, object] = {"provider": provider, "search": search}
    for name, wanted in (("free", free), ("priced", priced), ("served", served)):
        asked[name] = None if wanted is None else str(wanted).lower()
    page = api().get(PATH, cursor=cursor, limit=limit, **asked)
    if not json:
        page["data"] = [{**one, **_layer(one["price"])} for one in page["data"]]
    show_page(page, json, COLUMNS, "No model of the catalogue is like that.")


def show(
    model: Annotated[str, typer.Argument(help="Its id in the catalogue.")], json: Json = False
) -> None:
    """Show a model with every layer of its price: which counts, from where, and since when."""
    found = api().get(f"{PATH}/models/{part(model)}")
    if json:
        show_json(found)
        return
    takes, gives = found["modalities"]["input"], found["modalities"]["output"]
    show_rows({**found, "takes": takes, "gives": gives}, SHOWN)
    for title, layers in (("Prices", found["layers"]), ("Charged by", found["versions"])):
        if layers:
            say(f"\n{title}, the first one counts:")
            show_table([_layer(one) for one in layers], LAYERS, "")


def price(
    model: Annotated[str, typer.Argument(help="A model that is served.")],
    prices: Annotated[
        list[str] | None,
        typer.Argument(help="CLASS=DOLLARS for a million, such as input=0.15 images=40000."),
    ] = None,
    catalogue_price: Annotated[
        bool, typer.Option("--catalogue", help="Take your price back: the catalogue's holds.")
    ] = False,
    json: Json = False,
) -> None:
    """Set all prices of a model, for requests from now on, or take them back."""
    if bool(prices) == catalogue_price:
        raise Misused("Say prices, such as input=0.15 output=0.6, or --catalogue.")
    wanted = {"catalogue_price": True} if catalogue_price else {"prices": pairs(prices or [])}
    changed = api().patch(f"{MODELS}/{part(model)}", wanted)
    show_json(changed) if json else show_rows(changed, {"model": "id", "$ per 1M": "prices"})


def refresh(
    provider: Annotated[str | None, typer.Argument(help="This one; without it all.")] = None,
    json: Json = False,
) -> None:
    """Ask providers for their own lists of models now."""
    told = api().post(f"{PATH}/refresh", {"provider": provider})
    columns = {"provider": "provider", "models": "models", "new": "new", "problem": "problem"}
    show_page(told, json, columns, "There is no provider to ask.")


def sources(json: Json = False) -> None:
    """List from where the catalogue is, and when it was taken from there."""
    columns = {"source": "name", "models": "models", "taken": "at", "note": "note"}
    show_page(api().get(f"{PATH}/sources"), json, columns, "Nothing has been taken yet.")


def _layer(found: Answer | None) -> dict[str, object]:
    if found is None:
        return {"told": "no price", "source": ""}
    above = [f"above {one['above']}: {_told(one['prices'])}" for one in found["tiers"]]
    return {**found, "told": "; ".join([_told(found["prices"]), *above])}


def _told(prices: dict[str, str]) -> str:
    return ", ".join(f"{name} {dollars}" for name, dollars in prices.items())
