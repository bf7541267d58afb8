"""`opscenter provider`: where models can be had."""

from typing import Annotated

import typer

from control.cli.client import Answer, api, part
from control.cli.output import Json, Misused, complain, say, show_json, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="Providers: their addresses and keys.")

PATH = "/api/v1/llm/admin/providers"
COLUMNS = {
    "name": "name",
    "kind": "kind",
    "base URL": "base_url",
    "key": "secret",
    "from": "source",
    "enabled": "enabled",
    "test": "test",
}
KINDS = {
    "name": "name",
    "provider": "title",
    "base URL": "base_url",
    "adapter": "adapter",
    "variables": "variables",
    "is set": "variable_set",
}
GOOD = ("accepted", "limited")

Name = Annotated[str, typer.Argument(help="The provider.")]
FromStdin = Annotated[
    bool, typer.Option("--secret-stdin", help="Read the provider's key from standard input.")
]


@app.command("list", epilog="Example: opscenter provider list")
def list_(json: Json = False) -> None:
    """List providers; of their keys only the last four letters, and where they are from."""
    show_page(api().get(PATH), json, COLUMNS, "There is no provider yet.")


@app.command(epilog="Example: opscenter provider kinds")
def kinds(json: Json = False) -> None:
    """List the providers that are known, with their addresses and variables."""
    show_page(api().get(f"{PATH}/kinds"), json, KINDS, "There is none.")


@app.command(
    epilog="Example: echo $KEY | opscenter provider add openai --secret-stdin"
    "\n\nExample: opscenter provider add my-vllm http://gpu:8000/v1 --kind vllm"
)
def add(
    name: Annotated[str, typer.Argument(help="What you call it: small letters, digits, - and _.")],
    base_url: Annotated[
        str | None, typer.Argument(help="Where it answers; of a known provider its own address.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of `provider kinds`; without it, by the name.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="The dialect that it speaks; without it, as its kind does.")
    ] = None,
    secret_stdin: FromStdin = False,
    json: Json = False,
) -> None:
    """Add a provider. Its key is never an argument, where others could read it; without one, the
    usual variable of the environment is used, and who brings a key of his own needs none."""
    given = {"name": name, "kind": kind, "base_url": base_url, "adapter": adapter}
    wanted: dict[str, object] = {one: value for one, value in given.items() if value is not None}
    if secret_stdin:
        wanted["secret"] = secret_from_stdin()
    show(api().post(PATH, wanted), json)


@app.command(epilog="Example: echo $KEY | opscenter provider secret openai")
def secret(name: Name, json: Json = False) -> None:
    """Give a provider another key, read from standard input."""
    show(api().put(f"{PATH}/{part(name)}/secret", {"secret": secret_from_stdin()}), json)


@app.command(epilog="Example: opscenter provider edit my-vllm --base-url http://gpu2:8000/v1")
def edit(
    name: Name,
    base_url: Annotated[str, typer.Option(help="Where it answers from now on.")],
    secret_stdin: FromStdin = False,
    json: Json = False,
) -> None:
    """Give a provider another address. Its key is dropped: it was entered for the old one."""
    wanted: dict[str, object] = {"base_url": base_url}
    if secret_stdin:
        wanted["secret"] = secret_from_stdin()
    show(api().patch(f"{PATH}/{part(name)}", wanted), json)


@app.command("test", epilog="Example: opscenter provider test openai")
def try_(name: Name, json: Json = False) -> None:
    """Ask a provider whether its key works, by a call that costs nothing; 1 where it does not."""
    tell_test(api().post(f"{PATH}/{part(name)}/test"), json)


@app.command(epilog="Example: opscenter provider enable openai")
def enable(name: Name, json: Json = False) -> None:
    """Use a provider again."""
    show(api().patch(f"{PATH}/{part(name)}", {"enabled": True}), json)


@app.command(epilog="Example: opscenter provider disable openai")
def disable(name: Name, json: Json = False) -> None:
    """Use a provider no more, from the next request on; it keeps its key."""
    show(api().patch(f"{PATH}/{part(name)}", {"enabled": False}), json)


@app.command(epilog="Example: opscenter provider remove ollama")
def remove(name: Name, json: Json = False) -> None:
    """Remove a provider and its places of models."""
    gone = api().delete(f"{PATH}/{part(name)}")
    show_json(gone) if json else say(f"Removed the provider {name}.")


def show(made: Answer, json: bool, columns: dict[str, str] = COLUMNS) -> None:
    """What it has become, and what to look at again."""
    show_json(made) if json else show_rows(made, columns)
    for warning in made.get("warnings", ()):
        complain(warning)


def tell_test(found: Answer, json: bool) -> None:
    show_json(found) if json else say(f"{found['test']}: {found['test_said']}")
    if found["test"] not in GOOD:
        raise typer.Exit(1)


def secret_from_stdin() -> str:
    import sys

    if sys.stdin.isatty():
        from getpass import getpass

        found = getpass("The provider's key: ")
    else:
        found = sys.stdin.readline().strip()
    if not found:
        raise Misused("No key came in; give it on standard input.")
    return found
