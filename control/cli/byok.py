"""`opscenter byok`: keys for providers that you or your organisation bring."""

from typing import Annotated

import typer

from control.cli.client import Answer, Api, api, part
from control.cli.output import Failed, Json, Misused, say, show_json, show_page
from control.cli.providers import secret_from_stdin, show, tell_test

app = typer.Typer(no_args_is_help=True, help="Keys of your own for providers (BYOK).")

PATH = "/api/v1/byok/keys"
COLUMNS = {
    "id": "id",
    "provider": "provider",
    "whose": "scope",
    "name": "name",
    "key": "key",
    "fallback": "fallback",
    "enabled": "enabled",
    "test": "test",
}

Which = Annotated[str, typer.Argument(help="Its id, or the provider it is for.")]
Fallback = Annotated[
    bool | None,
    typer.Option(help="Whether the platform's key may stand in when it fails, at its price."),
]


@app.command("list", epilog="Example: opscenter byok list")
def list_(json: Json = False) -> None:
    """List your keys and your organisation's; of each only the last four letters."""
    show_page(api().get(PATH), json, COLUMNS, "There is no key of your own yet.")


@app.command(
    epilog="Example: echo $KEY | opscenter byok add openai"
    "\n\nExample: echo $KEY | opscenter byok add azure --base-url "
    "https://acme.openai.azure.com/openai/v1 --model openai/gpt-4o=my-deployment"
)
def add(
    provider: Annotated[str, typer.Argument(help="Of `opscenter provider kinds`.")],
    name: Annotated[str, typer.Option(help="What you call it.")] = "",
    organisation: Annotated[
        bool, typer.Option("--organisation", help="For all members of your organisation.")
    ] = False,
    base_url: Annotated[str | None, typer.Option(help="Where it answers, if elsewhere.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="MODEL=NAME, what a model is called there; again.")
    ] = None,
    fallback: Fallback = False,
    json: Json = False,
) -> None:
    """Add a key, read from standard input: calls to its models go by it, for nothing."""
    wanted: dict[str, object] = {"provider": provider, "name": name, "fallback": bool(fallback)}
    wanted |= {"scope": "organisation" if organisation else "person", "models": _models(model)}
    if base_url is not None:
        wanted["base_url"] = base_url
    show(api().post(PATH, {**wanted, "key": secret_from_stdin()}), json, COLUMNS)


@app.command(epilog="Example: opscenter byok edit openai --no-enabled")
def edit(
    which: Which,
    name: Annotated[str | None, typer.Option(help="What you call it.")] = None,
    fallback: Fallback = None,
    enabled: Annotated[bool | None, typer.Option(help="Whether it is used.")] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Read another key from standard input.")
    ] = False,
    json: Json = False,
) -> None:
    """Change a key of your own."""
    given = {"name": name, "fallback": fallback, "enabled": enabled}
    wanted: dict[str, object] = {one: value for one, value in given.items() if value is not None}
    if new_key:
        wanted["key"] = secret_from_stdin()
    here = api()
    show(here.patch(f"{PATH}/{_id(here, which)}", wanted), json, COLUMNS)


@app.command("test", epilog="Example: opscenter byok test openai")
def try_(which: Which, json: Json = False) -> None:
    """Ask the provider whether a key works, by a call that costs nothing; 1 where it does not."""
    here = api()
    tell_test(here.post(f"{PATH}/{_id(here, which)}/test"), json)


@app.command(epilog="Example: opscenter byok remove openai")
def remove(which: Which, json: Json = False) -> None:
    """Remove a key; from the next request on the platform's is used again, at its price."""
    here = api()
    gone = here.delete(f"{PATH}/{_id(here, which)}")
    show_json(gone) if json else say(f"Removed the key {gone['removed']}.")


def _id(here: Api, which: str) -> str:
    rows: list[Answer] = here.get(PATH)["data"]
    found = [row["id"] for row in rows if which in (row["id"], row["provider"])]
    if len(found) != 1:
        told = "is none" if not found else "are several"
        raise Failed(f"There {told} of {which}. `opscenter byok list` tells their ids.")
    return part(found[0])


def _models(given: list[str] | None) -> dict[str, str]:
    found = dict(one.rpartition("=")[::2] for one in given or [])
    if not all(found) or not all(found.values()):
        raise Misused("Write --model as MODEL=NAME, such as openai/gpt-4o=my-deployment.")
    return found
