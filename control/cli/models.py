"""`opscenter models`: what the door serves and what it costs."""

from typing import Annotated

import typer

from control.cli.client import Answer, api, part
from control.cli.output import Json, Misused, say, show_json, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="Models: their places and prices.")

PATH = "/api/v1/llm/admin/models"
COLUMNS = {
    "model": "id",
    "places": "places",
    "$ per 1M tokens": "prices",
    "context": "context_max",
    "output": "output_max",
    "thinks": "thinks",
    "enabled": "enabled",
    "BYOK": "byok_enabled",
}


@app.command("list", epilog="Example: opscenter models list")
def list_(json: Json = False) -> None:
    """List models with their prices in dollars per million tokens."""
    page = api().get(PATH)
    if not json:
        page["data"] = [_row(one) for one in page["data"]]
    show_page(page, json, COLUMNS, "There is no model yet.")


@app.command(
    epilog="Example: opscenter models add openai/gpt-4o-mini --provider openai "
    "--upstream-model gpt-4o-mini --input 0.15 --output 0.60 --price cache_read=0.075 "
    "--context-max 128000 --output-max 16384"
)
def add(
    model: Annotated[str, typer.Argument(help="What callers name.")],
    provider: Annotated[str, typer.Option(help="Where it can be had.")],
    upstream_model: Annotated[str, typer.Option(help="What the provider calls it.")],
    input: Annotated[str, typer.Option(help="Dollars per million tokens in.")],
    output: Annotated[str, typer.Option(help="Dollars per million tokens out.")],
    context_max: Annotated[int, typer.Option(min=1, help="Tokens of the context.")],
    output_max: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")],
    price: Annotated[
        list[str] | None, typer.Option(help="CLASS=DOLLARS, such as cache_read=0.075; repeat it.")
    ] = None,
    json: Json = False,
) -> None:
    """Add a model, a further place of one, or another price for requests from now on."""
    wanted = {
        "id": model,
        "provider": provider,
        "upstream_model": upstream_model,
        "prices": {"input": input, "output": output, **pairs(price or [])},
        "context_max": context_max,
        "output_max": output_max,
    }
    made = api().post(PATH, wanted)
    show_json(made) if json else show_rows(_row(made), COLUMNS)


@app.command(epilog="Example: opscenter models edit openai/o3 --thinks --output-max 100000")
def edit(
    model: Annotated[str, typer.Argument(help="What callers name.")],
    thinks: Annotated[
        bool | None, typer.Option(help="Whether it gives out tokens that no stream shows.")
    ] = None,
    context_max: Annotated[int | None, typer.Option(min=1, help="Tokens of the context.")] = None,
    output_max: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
    enabled: Annotated[bool | None, typer.Option(help="Whether it is served.")] = None,
    byok: Annotated[
        bool | None, typer.Option(help="Whether people's and organisations' own keys serve it.")
    ] = None,
    json: Json = False,
) -> None:
    """Change what a model can do, for requests from now on; its prices are set by `add`."""
    given = {
        "thinks": thinks,
        "context_max": context_max,
        "output_max": output_max,
        "enabled": enabled,
        "byok_enabled": byok,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise Misused("Say what to change, such as --thinks.")
    changed = api().patch(f"{PATH}/{part(model)}", wanted)
    show_json(changed) if json else show_rows(_row(changed), COLUMNS)


@app.command(epilog="Example: opscenter models remove openai/gpt-4o-mini")
def remove(
    model: Annotated[str, typer.Argument(help="What callers name.")],
    json: Json = False,
) -> None:
    """Serve a model no more; its usage stays on record."""
    gone = api().delete(f"{PATH}/{part(model)}")
    show_json(gone) if json else say(f"Removed the model {model}.")


def pairs(given: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    if not all(equals and value for _, equals, value in pairs):
        raise Misused("A price is CLASS=DOLLARS, such as cache_read=0.075.")
    return {name: value for name, _, value in pairs}


def _row(found: Answer) -> dict[str, object]:
    places = [f"{one['provider']}: {one['upstream_model']}" for one in found["deployments"]]
    return {**found, "places": places}
