"""`opscenter org`: organisations."""

from typing import Annotated

import typer

from control.cli import given
from control.cli.client import Answer, api
from control.cli.lookup import some_organisation
from control.cli.output import Json, Misused, show_json, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="Organisations: who pays, and who is suspended.")

PATH = "/api/v1/admin/organisations"
COLUMNS = {
    "id": "id",
    "name": "name",
    "status": "status",
    "parallel": "parallel_max",
    "budget": "budget",
    "budget used": "budget_used",
    "plan": "plan",
    "platform": "platform",
    "created": "created_at",
}

Which = Annotated[str, typer.Argument(help="Its name or id.")]


@app.command("list", epilog="Example: opscenter org list --json")
def list_(
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    json: Json = False,
) -> None:
    """List the organisations that you may see."""
    show_page(api().get(PATH, cursor=cursor), json, COLUMNS, "There is no organisation yet.")


@app.command(epilog='Example: opscenter org create "Acme Ltd" --parallel 50')
def create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Requests at one time; without it: no limit.")
    ] = None,
    json: Json = False,
) -> None:
    """Make an organisation with an empty pool of credits."""
    _show(api().post(PATH, {"name": name, "parallel_max": parallel}), json)


@app.command(epilog="Example: opscenter org show Acme")
def show(organisation: Which, json: Json = False) -> None:
    """Show one organisation."""
    here = api()
    _show(here.get(f"{PATH}/{some_organisation(here, organisation)}"), json)


@app.command(epilog="Example: opscenter org suspend Acme")
def suspend(organisation: Which, json: Json = False) -> None:
    """Refuse every further request of an organisation, at once."""
    here = api()
    _show(here.post(f"{PATH}/{some_organisation(here, organisation)}/suspend"), json)


@app.command(epilog="Example: opscenter org resume Acme")
def resume(organisation: Which, json: Json = False) -> None:
    """Let a suspended organisation in again."""
    here = api()
    _show(here.post(f"{PATH}/{some_organisation(here, organisation)}/resume"), json)


@app.command(
    epilog="Example: opscenter org edit Acme --parallel 50 --budget 100000\n\n"
    "Example: opscenter org edit Acme --budget none"
)
def edit(
    organisation: Which,
    name: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    parallel: Annotated[str | None, typer.Option(help="Requests at one time, or `none`.")] = None,
    budget: Annotated[str | None, typer.Option(help="Credits in all, or `none`.")] = None,
    plan: Annotated[str | None, typer.Option(help="Whose limits it has, or `none`.")] = None,
    json: Json = False,
) -> None:
    """Change an organisation's name or limits, for the next request."""
    wanted: dict[str, object] = {}
    if name is not None:
        wanted["name"] = name
    if parallel is not None:
        wanted["parallel_max"] = given.whole(parallel)
    if budget is not None:
        wanted["budget"] = given.credits(budget)
    if plan is not None:
        wanted["plan"] = None if plan == given.NONE else plan
    if not wanted:
        raise Misused("Say what to change, such as --budget 500.")
    here = api()
    _show(here.patch(f"{PATH}/{some_organisation(here, organisation)}", wanted), json)


def _show(found: Answer, as_json: bool) -> None:
    show_json(found) if as_json else show_rows(found, COLUMNS)
