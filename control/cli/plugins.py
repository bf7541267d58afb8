"""`opscenter plugin`: what is installed, what runs."""

from typing import Annotated

import typer

from control.cli.client import Answer, api, part
from control.cli.output import Json, show_json, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="Plugins: enabled and disabled without a restart.")

PATH = "/api/v1/admin/plugins"
COLUMNS = {
    "name": "name",
    "version": "version",
    "enabled": "enabled",
    "state": "state",
    "may": "permissions",
    "says": "error",
}

Name = Annotated[str, typer.Argument(help="The plugin.")]


@app.command("list", epilog="Example: opscenter plugin list")
def list_(json: Json = False) -> None:
    """List every plugin that is installed, what it may do and how it fares."""
    show_page(api().get(PATH), json, COLUMNS, "No plugin is installed.")


@app.command(epilog="Example: opscenter plugin enable hello")
def enable(name: Name, json: Json = False) -> None:
    """Start a plugin; if it does not start, nothing has changed."""
    _show(api().post(f"{PATH}/{part(name)}/enable"), json)


@app.command(epilog="Example: opscenter plugin disable hello")
def disable(name: Name, json: Json = False) -> None:
    """Stop a plugin and take its routes away; its configuration stays."""
    _show(api().post(f"{PATH}/{part(name)}/disable"), json)


@app.command(epilog="Example: opscenter plugin reload hello")
def reload(name: Name, json: Json = False) -> None:
    """Replace a running plugin by a new life of it."""
    _show(api().post(f"{PATH}/{part(name)}/reload"), json)


@app.command(epilog="Example: opscenter plugin configure hello --file hello.json")
def configure(
    name: Name,
    file: Annotated[
        typer.FileText, typer.Option(help="The whole configuration as JSON; - is standard input.")
    ],
    json: Json = False,
) -> None:
    """Replace a plugin's configuration; a running one goes on with the old if it is bad."""
    import json as jsonlib

    from control.cli.output import Misused

    try:
        config = jsonlib.load(file)
    except ValueError as problem:
        raise Misused(f"The configuration is not JSON: {problem}.") from None
    if not isinstance(config, dict):
        raise Misused("The configuration must be one JSON object.")
    _show(api().put(f"{PATH}/{part(name)}/config", config), json)


def _show(found: Answer, as_json: bool) -> None:
    show_json(found) if as_json else show_rows(found, COLUMNS)
