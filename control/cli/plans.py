"""`opscenter plan`: sets of limits that organisations are given."""

from typing import Annotated

import typer

from control.cli.client import Answer, api, part
from control.cli.output import Json, Misused, say, show_json, show_rows, show_table

app = typer.Typer(no_args_is_help=True, help="Plans: limits that many organisations have.")

PATH = "/api/v1/admin/plans"
COLUMNS = {
    "name": "name",
    "limits": "limits",
    "organisations": "organisations",
    "for new ones": "for_new",
    "BYOK": "byok",
    "note": "note",
    "created": "created_at",
}

Which = Annotated[str, typer.Argument(help="Its name: small letters, digits, - and _.")]


@app.command(epilog='Example: opscenter plan create starter --note "1,000 calls a month"')
def create(
    name: Which,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    byok: Annotated[bool, typer.Option(help="Whether it includes keys of one's own.")] = True,
    json: Json = False,
) -> None:
    """Make a plan; give it limits with `opscenter limit add --plan`, and give it to organisations
    with `opscenter org edit --plan`."""
    _show(api().post(PATH, {"name": name, "note": note, "byok": byok}), json)


@app.command("list", epilog="Example: opscenter plan list")
def list_(json: Json = False) -> None:
    """List the plans."""
    page = api().get(PATH)
    if json:
        show_json(page)
        return
    empty = "There is no plan, so none limits anybody; make one with `opscenter plan create`."
    show_table(page["data"], COLUMNS, empty)


@app.command(
    epilog='Example: opscenter plan edit starter --note "For small teams"\n\n'
    "Example: opscenter plan edit free --for-new"
)
def edit(
    name: Which,
    note: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    for_new: Annotated[
        bool | None,
        typer.Option(
            "--for-new/--not-for-new", help="New organisations are made with it, and no other."
        ),
    ] = None,
    byok: Annotated[
        bool | None, typer.Option(help="Whether it includes keys of one's own.")
    ] = None,
    json: Json = False,
) -> None:
    """Change the note of a plan, what it includes, or whose it is at first; its limits with
    `opscenter limit edit --plan`."""
    given = {"note": note, "for_new": for_new, "byok": byok}
    wanted = {field: value for field, value in given.items() if value is not None}
    if not wanted:
        raise Misused("Say what to change, such as --for-new.")
    _show(api().patch(f"{PATH}/{part(name)}", wanted), json)


@app.command(epilog="Example: opscenter plan remove starter")
def remove(name: Which, json: Json = False) -> None:
    """Remove a plan that no organisation has, with its limits."""
    done = api().delete(f"{PATH}/{part(name)}")
    show_json(done) if json else say(f"The plan {name} is removed.")


def _show(found: Answer, as_json: bool) -> None:
    show_json(found) if as_json else show_rows(found, COLUMNS)
