"""The command `opscenter`: a file per noun. Speaks to the control API; only the processes, the
migrations and the doctor work by themselves. Imports nothing heavy until a command runs.
"""

import sys
from typing import Annotated

import typer

from control.cli import (
    byok,
    catalogue,
    credits,
    doctor,
    jobs,
    keys,
    ledger,
    limits,
    models,
    organisations,
    output,
    plans,
    plugins,
    processes,
    providers,
    secrets,
    services,
    session,
    status,
    teams,
    usage,
    users,
    vocabularies,
)

app = typer.Typer(
    name="opscenter",
    help="Ops-Center: one OpenAI-compatible door to every model, exact with money.",
    epilog="First steps: `opscenter up`, then `opscenter status`, then `opscenter key create app`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=status.version_option,
            help="Like `opscenter version`.",
        ),
    ] = False,
) -> None:
    """Options of the program itself; its help is the application's."""


for _part in (processes, status, doctor, session, vocabularies):
    _part.register(app)
app.add_typer(organisations.app, name="org")
app.add_typer(users.app, name="user")
app.add_typer(services.app, name="service")
app.add_typer(keys.app, name="key")
app.add_typer(limits.app, name="limit")
app.add_typer(teams.app, name="team")
app.add_typer(plans.app, name="plan")
app.add_typer(jobs.app, name="job")
app.add_typer(credits.app, name="credits")
app.add_typer(usage.app, name="usage")
app.add_typer(ledger.app, name="ledger")
app.add_typer(providers.app, name="provider")
app.add_typer(byok.app, name="byok")
catalogue.register(models.app)
app.add_typer(models.app, name="models")
app.add_typer(plugins.app, name="plugin")
app.add_typer(secrets.app, name="secrets")


def main() -> None:
    """The command's entry point: exit code 1 where something failed, 2 where it was misused."""
    try:
        app(prog_name="opscenter")
    except output.Misused as mistake:
        output.complain(str(mistake))
        sys.exit(2)
    except output.Failed as problem:
        output.complain(str(problem))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _forget_output()
        sys.exit(1)


def _forget_output() -> None:
    """The reader is gone (`| head`): nothing more can be written, not even at the exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
