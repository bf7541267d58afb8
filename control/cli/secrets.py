"""`opscenter secrets`: what is derived from the root key, and another root key."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from control.cli.client import api, settings
from control.cli.output import Failed, Json, say, show_json

if TYPE_CHECKING:
    from control.settings import ControlSettings

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="What is derived from the root key.")

ROTATE = "/api/v1/admin/secrets/rotate"
STANDING = "/api/v1/admin/secrets"


@app.command("proxy-file", epilog="Example: opscenter secrets proxy-file")
def proxy_file(json: Json = False) -> None:
    """Write the file that proxies read: peppers and the keys of provider secrets.

    Copy it to the machines of the proxies, readable for their user alone. It holds no root key.
    """
    from control.secrets import unlock

    wanted = settings()
    _done(unlock, wanted)
    path = str(wanted.proxy_keys)
    show_json({"file": path}) if json else say(f"The proxy key file lies at {path}.")


@app.command("new-root", epilog="Example: opscenter secrets new-root")
def new_root(json: Json = False) -> None:
    """Make another root key, and add its keys to the proxies' file. Run it where control runs.

    The former one stays readable. Back the file up, restart the proxies, then control; then
    `opscenter secrets rotate`.
    """
    from control.secrets import new_root

    wanted = settings()
    version = _done(new_root, wanted)
    if json:
        show_json({"version": version, "file": str(wanted.proxy_keys)})
        return
    say(f"Root key {version} was added to {wanted.root_key_path}: back it up.")
    say(f"1. Copy {wanted.proxy_keys} to every machine that runs proxies, and restart them.")
    say("2. Restart control (`opscenter up` restarts both).")
    say("3. Run `opscenter secrets rotate`.")


@app.command("rotate", epilog="Example: opscenter secrets rotate")
def rotate(json: Json = False) -> None:
    """Seal every stored secret anew under the newest root key, while all is served.

    Providers' keys, those of people and organisations (BYOK), and what plugins are configured
    with. If it is interrupted, run it again: it goes on with what is left.
    """
    speaker, moved, after = api(), 0, None
    while True:
        done = speaker.post(ROTATE, {"after": after} if after else {})
        moved, after = moved + done["moved"], done["next"]
        if after is None:
            break
    found = {"moved": moved, **speaker.get(STANDING)}
    if json:
        show_json(found)
        return
    say(f"{moved} secrets were sealed anew; root key {found['version']} seals all of them.")
    if found["left"]:
        raise Failed(f"{found['left']} were sealed by a former one meanwhile: run it once more.")
    if found["unreadable"]:
        say(f"No root key opens {found['unreadable']} of them: enter those keys again.")
    say("Then, on the machine of control: `opscenter secrets drop-old`.")


@app.command("drop-old", epilog="Example: opscenter secrets drop-old --yes")
def drop_old(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, json: Json = False
) -> None:
    """Forget former root keys, when nothing is left that one of them has sealed.

    Of each its pepper stays, without which the API keys of its time would die; they end when you
    rotate those keys. Ids of files and batches from its time end: their lists give new ones.
    """
    from control.secrets import drop_old

    found = api().get(STANDING)
    if found["left"]:
        raise Failed(f"{found['left']} secrets are left. Run `opscenter secrets rotate` first.")
    if not yes and not json:
        typer.confirm("Keys in older backups of the database will be lost. Go on?", abort=True)
    wanted = settings()
    gone = _done(lambda here: drop_old(here, found["version"]), wanted)
    if json:
        show_json({"dropped": gone, "file": str(wanted.proxy_keys)})
        return
    say(f"{gone} former root keys are gone from {wanted.root_key_path}.")
    say(f"Copy {wanted.proxy_keys} to the machines of the proxies; restart them and control.")


@app.command("rotate-tokens", epilog="Example: opscenter secrets rotate-tokens")
def rotate_tokens(json: Json = False) -> None:
    """Make a new key pair that signs tokens, in force within a minute.

    Tokens that the old one signed stay good until they end.
    """
    made = api().post("/api/v1/admin/token-keys/rotate")
    show_json(made) if json else say(f"Tokens will be signed by the key {made['kid']}.")


def _done(act: Callable[["ControlSettings"], T], wanted: "ControlSettings") -> T:
    from control.roots import SecretError

    try:
        return act(wanted)
    except SecretError as problem:
        raise Failed(str(problem)) from None
