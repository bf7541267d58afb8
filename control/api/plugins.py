"""Plugins: listed with what they may and how they fare, enabled, disabled, configured."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Request, Response

from control.api.shapes import NAME, Output, PlatformAdmin
from control.api.write import Act, Done, write
from control.database import Connection
from control.lifecycle import lifecycle_of

router = APIRouter(prefix="/api/v1/admin/plugins", tags=["plugins"])

FIELDS_AUDITED_MAX = 100

Name = Annotated[str, Path(pattern=NAME)]


class Plugin(Output):
    name: str
    version: str
    enabled: bool
    state: str  # found, running, unwell, failing, broken, missing
    error: str
    permissions: list[str]
    seconds: float


class Plugins(Output):
    data: list[Plugin]


@router.get("")
async def listed(request: Request, caller: PlatformAdmin) -> Plugins:
    """Every plugin that is installed, with its permissions; nothing of it has to run for that."""
    lifecycle = lifecycle_of(request)
    await lifecycle.refresh()
    return Plugins(data=[Plugin.model_validate(one) for one in lifecycle.list()])


@router.post("/{name}/enable", response_model=Plugin)
async def enable(request: Request, caller: PlatformAdmin, name: Name) -> Response:
    """Starts the plugin; when it does not start, nothing has changed and the answer says why."""

    async def effect(conn: Connection) -> Done:
        return Done(Plugin.model_validate(await lifecycle_of(request).enable(name, conn)))

    return await write(request, caller, _act("plugin.enable", name), effect)


@router.post("/{name}/disable", response_model=Plugin)
async def disable(request: Request, caller: PlatformAdmin, name: Name) -> Response:
    """Stops the plugin and takes its routes away; its configuration stays."""

    async def effect(conn: Connection) -> Done:
        return Done(Plugin.model_validate(await lifecycle_of(request).disable(name, conn)))

    return await write(request, caller, _act("plugin.disable", name), effect)


@router.post("/{name}/reload", response_model=Plugin)
async def reload(request: Request, caller: PlatformAdmin, name: Name) -> Response:
    """Replaces a running plugin by a new life of it, without a moment between them."""

    async def effect(conn: Connection) -> Done:
        return Done(Plugin.model_validate(await lifecycle_of(request).reload(name, conn)))

    return await write(request, caller, _act("plugin.reload", name), effect)


@router.put("/{name}/config", response_model=Plugin)
async def configure(
    request: Request,
    caller: PlatformAdmin,
    name: Name,
    config: Annotated[dict[str, Any], Body()],
) -> Response:
    """Replaces the whole configuration; a running plugin goes on with the old one if it is bad."""

    async def effect(conn: Connection) -> Done:
        return Done(
            Plugin.model_validate(await lifecycle_of(request).configure(name, config, conn))
        )

    # Names only: values may be secrets.
    act = _act("plugin.configure", name, fields=sorted(config)[:FIELDS_AUDITED_MAX])
    return await write(request, caller, act, effect)


def _act(action: str, name: str, **detail: object) -> Act:
    return Act(action, f"plugin:{name}", detail=detail)
