"""Every hook a plugin may implement. The docstrings are the documentation: docs/plugins.md is made
of them. A hook exists only together with a built-in plugin that uses it.

A hook takes of its arguments those that it needs, and may be a plain or an async function.
"""

from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from plugins import hookspec
from plugins.context import Context


@hookspec(firstresult=True)
def configuration() -> type[BaseModel]:  # type: ignore[empty-body]  # a spec has no body
    """Returns the pydantic model that the plugin's configuration must fit.

    Asked for first, before anything of the plugin runs. Without this hook the plugin takes no
    configuration. Every field should have a default, so that the plugin can be enabled before it
    is configured. Fields of type `SecretStr` are blotted out of every error that is shown.
    """


@hookspec(firstresult=True)
def routes(context: Context[Any]) -> APIRouter:  # type: ignore[empty-body]
    """Returns a router with what the plugin answers; needs the permission `routes`.

    Called once per life, before `start`: make the router here, reach for what `start` opened only
    inside the handlers. Each path begins with `/api/v1/` and is nobody else's; each route says who
    may call it, by `dependencies=[context.needs("viewer")]` or `[context.public()]`. Handlers have
    30 seconds and run where the plugin's hooks run.
    """


@hookspec(firstresult=True)
def start(context: Context[Any]) -> Awaitable[None] | None:
    """Opens what the plugin works with; keep it in `context.state`.

    Called when configuration and routes have been checked, and before the first request comes.
    Raise to refuse: the plugin is then not swapped in, what ran before goes on, and the sentence is
    shown to the administrator. When a plugin is configured anew, the new life starts before the
    old one stops, so both are there for a moment.
    """


@hookspec(firstresult=True)
def health(context: Context[Any]) -> Awaitable[str] | str:  # type: ignore[empty-body]
    """Returns an empty text when all is well, else one sentence that says what is wrong.

    Called every 10 seconds while the plugin runs. A sentence is shown beside the plugin, whose
    routes stay open; raising counts as a failure of the plugin.
    """


@hookspec(firstresult=True)
def stop(context: Context[Any]) -> Awaitable[None] | None:
    """Closes what `start` opened.

    Called when the plugin is no longer reachable: after it was disabled or replaced, after a start
    that failed, and when the process ends. It may find a `context.state` that is only half filled.
    """
