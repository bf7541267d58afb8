"""`opscenter provider`: where models can be had."""

import sys
from typing import Annotated

import typer

from control.cli.client import api, part
from control.cli.output import Json, Misused, say, show_json, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="Providers: their addresses and keys.")

PATH = "/api/v1/llm/admin/providers"
COLUMNS = {
    "name": "name",
    "adapter": "adapter",
    "base URL": "base_url",
    "key": "secret",
    "enabled": "enabled",
}

FromStdin = Annotated[
    bool, typer.Option("--secret-stdin", help="Read the provider's key from standard input.")
]


@app.command("list", epilog="Example: opscenter provider list")
def list_(json: Json = False) -> None:
    """List providers; of their keys only the last four letters."""
    show_page(api().get(PATH), json, COLUMNS, "There is no provider yet.")


@app.command(
    epilog="Example: echo $KEY | opscenter provider add openai https://api.openai.com/v1 "
    "--secret-stdin"
    "\n\nExample: opscenter provider add ollama http://localhost:11434/v1"
)
def add(
    name: Annotated[str, typer.Argument(help="What you call it: small letters, digits, - and _.")],
    base_url: Annotated[str, typer.Argument(help="Where it answers.")],
    adapter: Annotated[str, typer.Option(help="The dialect that it speaks.")] = "openai",
    secret_stdin: FromStdin = False,
    json: Json = False,
) -> None:
    """Add a provider. Its key is never an argument, where others could read it."""
    wanted: dict[str, object] = {"name": name, "base_url": base_url, "adapter": adapter}
    if secret_stdin:
        wanted["secret"] = _secret()
    made = api().post(PATH, wanted)
    show_json(made) if json else show_rows(made, COLUMNS)


@app.command(epilog="Example: echo $KEY | opscenter provider secret openai")
def secret(
    name: Annotated[str, typer.Argument(help="The provider.")],
    json: Json = False,
) -> None:
    """Give a provider another key, read from standard input."""
    made = api().put(f"{PATH}/{part(name)}/secret", {"secret": _secret()})
    show_json(made) if json else show_rows(made, COLUMNS)


@app.command(epilog="Example: opscenter provider remove ollama")
def remove(
    name: Annotated[str, typer.Argument(help="The provider.")],
    json: Json = False,
) -> None:
    """Remove a provider and its places of models."""
    gone = api().delete(f"{PATH}/{part(name)}")
    show_json(gone) if json else say(f"Removed the provider {name}.")


def _secret() -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        found = getpass("The provider's key: ")
    else:
        found = sys.stdin.readline().strip()
    if not found:
        raise Misused("No key came in; give it on standard input.")
    return found
