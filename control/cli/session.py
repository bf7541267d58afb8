"""Signing in and out of a control API that is not on this machine's socket."""

import sys
from typing import Annotated

import typer

from control.cli import client
from control.cli.output import Failed, Json, Misused, say, show_json, show_rows


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example: OPSCENTER_CONTROL_URL=https://ops.example.com "
        "opscenter login me@example.com"
    )(login)
    app.command(epilog="Example: opscenter logout")(logout)
    app.command(epilog="Example: opscenter whoami")(whoami)
    app.command(
        epilog='Example: curl -H "Authorization: Bearer $(opscenter token)" '
        "http://127.0.0.1:8084/v1/models"
    )(token)


def login(
    email: Annotated[str, typer.Argument(help="Your e-mail.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    json: Json = False,
) -> None:
    """Sign in with e-mail and password; the session is kept in your home, readable by you alone.

    On the machine of the control API no sign-in is needed: its socket is proof enough.
    """
    wanted = client.settings()
    url = client.url_of(wanted)
    password = _password(password_stdin)
    made = client.Api(url).post("/api/v1/auth/login", {"email": email, "password": password})
    client.keep_token(wanted.home, url, made["token"])
    if json:
        show_json({"url": url, "expires_at": made["expires_at"]})
    else:
        say(f"Signed in at {url} until {made['expires_at'][:16].replace('T', ' ')} UTC.")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Misused("There is no terminal to ask for the password; use --password-stdin.")
    from getpass import getpass

    return getpass("Password: ")


def logout(json: Json = False) -> None:
    """End the session and forget it."""
    wanted = client.settings()
    url = client.url_of(wanted)
    token = client.tokens(wanted.home).get(url)
    if token is None:
        raise Failed(f"You are not signed in at {url}.")
    try:
        client.Api(url, token=token).post("/api/v1/auth/logout")
    except client.Refused as problem:
        if problem.status != 401:  # it has ended already
            raise
    finally:
        client.keep_token(wanted.home, url, None)
    show_json({"url": url}) if json else say(f"Signed out at {url}.")


def whoami(json: Json = False) -> None:
    """Who you are for the control API, and in which organisation."""
    me = client.api().get("/api/v1/auth/me")
    if json:
        show_json(me)
        return
    fields = ("actor", "email", "organisation", "role")
    show_rows(me, {name: name for name in fields})


def token(
    organisation: Annotated[
        str | None, typer.Option("--org", help="Organisation's id, when you belong to several.")
    ] = None,
    json: Json = False,
) -> None:
    """Print a token (JWT) that the door and the control API take for a short while.

    It can do what you can, and ends with your session. On the machine of the control API it is one
    of the first administrator.
    """
    wanted = {"organisation": organisation} if organisation else {}
    made = client.api().post("/api/v1/auth/token", wanted)
    show_json(made) if json else say(made["token"])
