"""`opscenter team`: teams of an organisation, whose members count on its limits together."""

from typing import Annotated

import typer

from control.cli.client import Answer, Api, api
from control.cli.lookup import here_id, team, user
from control.cli.output import Json, say, show_json, show_rows, show_table

app = typer.Typer(no_args_is_help=True, help="Teams, whose members share limits.")

ORGANISATIONS = "/api/v1/admin/organisations"
COLUMNS = {"id": "id", "name": "name", "members": "members", "created": "created_at"}
MEMBERS = {"id": "id", "email": "email", "name": "name", "role": "role"}

Which = Annotated[str, typer.Argument(help="Its name or id.")]
Who = Annotated[str, typer.Argument(help="E-mail or id.")]
Organisation = Annotated[
    str | None, typer.Option("--organisation", "--org", help="Name or id; without it, your own.")
]


@app.command(epilog="Example: opscenter team create search --org Acme")
def create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    organisation: Organisation = None,
    json: Json = False,
) -> None:
    """Make a team without members; limit it with `opscenter limit add --team`."""
    here = api()
    _show(here.post(_teams(here, organisation), {"name": name}), json)


@app.command("list", epilog="Example: opscenter team list --org Acme")
def list_(organisation: Organisation = None, json: Json = False) -> None:
    """List the teams of an organisation."""
    here = api()
    rows = list(here.pages(_teams(here, organisation)))
    if json:
        show_json({"data": rows})
        return
    show_table(rows, COLUMNS, "There is no team yet; make one with `opscenter team create`.")


@app.command(epilog="Example: opscenter team show search --org Acme")
def show(name: Which, organisation: Organisation = None, json: Json = False) -> None:
    """List the members of a team."""
    here = api()
    rows = list(here.pages(_one(here, organisation, name) + "/members"))
    if json:
        show_json({"data": rows})
        return
    show_table(rows, MEMBERS, "Nobody is in this team yet; add somebody with `opscenter team add`.")


@app.command(epilog="Example: opscenter team add search ann@example.com --org Acme")
def add(name: Which, who: Who, organisation: Organisation = None, json: Json = False) -> None:
    """Put a member of the organisation into a team, out of any other, for the next request."""
    here = api()
    path = _one(here, organisation, name)
    _show(here.put(f"{path}/members/{user(here, who)['id']}", {}), json)


@app.command(epilog="Example: opscenter team remove search ann@example.com --org Acme")
def remove(
    name: Which,
    who: Annotated[
        str | None, typer.Argument(help="E-mail or id; without it, the whole team goes.")
    ] = None,
    organisation: Organisation = None,
    json: Json = False,
) -> None:
    """Take a member out of a team; or remove the team with its limits."""
    here = api()
    path = _one(here, organisation, name)
    if who is not None:
        _show(here.delete(f"{path}/members/{user(here, who)['id']}"), json)
        return
    done = here.delete(path)
    show_json(done) if json else say(f"The team {name} is removed.")


@app.command(epilog="Example: opscenter team rename search discovery --org Acme")
def rename(
    name: Which,
    new: Annotated[str, typer.Argument(help="What it is called from now on.")],
    organisation: Organisation = None,
    json: Json = False,
) -> None:
    """Give a team another name."""
    here = api()
    _show(here.patch(_one(here, organisation, name), {"name": new}), json)


def _teams(here: Api, organisation: str | None) -> str:
    return f"{ORGANISATIONS}/{here_id(here, organisation)}/teams"


def _one(here: Api, organisation: str | None, name: str) -> str:
    within = here_id(here, organisation)
    return f"{ORGANISATIONS}/{within}/teams/{team(here, within, name)}"


def _show(found: Answer, as_json: bool) -> None:
    show_json(found) if as_json else show_rows(found, COLUMNS)
