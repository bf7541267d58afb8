"""One life of one plugin: loaded, configured, checked, started; in the end stopped.

Whatever goes wrong before it has started is cleaned up here and told as a PluginRefused.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from control.hosting.fence import Fence, PluginError
from control.hosting.routes import Address, Misfit, Underway, check, fenced
from control.hosting.rows import Row
from plugins.context import DATABASE, ROUTES, Context, Database
from plugins.registry import Found, Hooks
from proxy.errors import CallerError

log = logging.getLogger("opscenter.control.hosting.living")

IMPORT_S = 5.0
ASK_S = 2.0  # configuration, routes, health
START_S = 10.0
STOP_S = 5.0
DRAIN_S = 5.0  # for the handlers that run when a life is to end
SENTENCE_MAX = 300  # characters of what a plugin says of its health
FAULTS_MAX = 10  # of a configuration, in one answer


class PluginRefused(CallerError):
    """The plugin {name} was left as it was: {why}"""

    status = 409
    code = "plugin_refused"
    retry = False


class PluginUnknown(CallerError):
    """There is no plugin {name} here. GET /api/v1/admin/plugins lists those that are installed."""

    status = 404
    code = "plugin_unknown"


class ConfigInvalid(CallerError):
    """The configuration does not fit the plugin {name}: {why}. Nothing was changed."""

    code = "plugin_config_invalid"


class NoConfiguration(BaseModel):
    """Of a plugin without the hook: it takes none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Living:
    """A plugin that has started; whether it is reachable is for who holds it to decide."""

    found: Found
    hooks: Hooks
    context: Context[Any]
    router: APIRouter
    addresses: frozenset[Address]
    fence: Fence
    underway: Underway
    threads_left: int  # of the fence when this life began

    @property
    def stranded(self) -> bool:
        """Its thread was abandoned, and with it whatever it had opened there."""
        return self.fence.threads_left != self.threads_left

    async def health(self) -> str:
        """The plugin's own word; "" when it has none or all is well."""
        if not self.hooks.has("health"):
            return ""
        said = await self.fence.call(
            "health", ASK_S, lambda: self.hooks.call("health", context=self.context)
        )
        if not isinstance(said, str):
            return f"health returned {type(said).__name__}; it must return a text."
        return said[:SENTENCE_MAX]

    async def stop(self) -> None:
        """Lets running handlers end, within DRAIN_S. Never raises."""
        await self.underway.over(DRAIN_S)
        await _stop(self.hooks, self.context, self.fence)


async def begin(
    found: Found,
    given: Mapping[str, object],
    fence: Fence,
    database: Database,
    taken: Mapping[Address, str],
) -> Living:
    """Loads, configures, checks and starts a plugin; raises when any of it fails."""
    hooks = await load(found, fence)
    config = await configure(found, hooks, given, fence)
    context = _context(found, config, database)
    threads_left = fence.threads_left
    try:
        router = await _router(found, hooks, context, fence)
        addresses = check(router, taken)
        await fence.call("start", START_S, lambda: hooks.call("start", context=context))
    except (PluginError, Misfit) as problem:
        await _stop(hooks, context, fence)
        raise PluginRefused(name=found.name, why=_why(problem)) from problem
    except BaseException:
        await _stop(hooks, context, fence)
        raise
    underway = Underway()
    served = fenced(router, fence, underway)
    return Living(found, hooks, context, served, addresses, fence, underway, threads_left)


async def _stop(hooks: Hooks, context: Context[Any], fence: Fence) -> None:
    try:
        await fence.call("stop", STOP_S, lambda: hooks.call("stop", context=context))
    except PluginError as problem:
        log.warning("%s", problem)


# Loading and configuring ----------------------------------------------------------


def usable(found: Found | None, row: Row) -> tuple[Found, Mapping[str, object]]:
    """What is installed and how it is configured; raises when either is missing."""
    if found is None:
        raise PluginRefused(name=row.name, why="it is not installed here. Install it first.")
    if row.config is None:
        why = "its configuration cannot be opened with today's root key. Configure it anew."
        raise PluginRefused(name=row.name, why=why)
    return found, row.config


async def load(found: Found, fence: Fence) -> Hooks:
    """Imports the plugin: the first moment at which its code runs."""
    if found.problem:
        raise PluginRefused(name=found.name, why=found.problem)
    try:
        return await fence.call("import", IMPORT_S, found.load)
    except PluginError as problem:
        raise PluginRefused(name=found.name, why=_why(problem)) from problem


async def configure(
    found: Found, hooks: Hooks, given: Mapping[str, object], fence: Fence
) -> BaseModel:
    """The plugin's own typed configuration."""
    try:
        model = await _model(hooks, fence)
        config: BaseModel | str = await fence.call(
            "configuration", ASK_S, lambda: _validated(model, given)
        )
    except (PluginError, Misfit) as problem:
        raise PluginRefused(name=found.name, why=_why(problem)) from problem
    if isinstance(config, str):
        raise ConfigInvalid(name=found.name, why=config)
    fence.hide(secrets_of(config))
    return config


async def _model(hooks: Hooks, fence: Fence) -> type[BaseModel]:
    model = await fence.call("configuration", ASK_S, lambda: hooks.call("configuration"))
    if model is None:
        return NoConfiguration
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise Misfit("The hook configuration must return a class derived from pydantic.BaseModel.")
    return model


def _validated(model: type[BaseModel], given: Mapping[str, object]) -> BaseModel | str:
    """The configuration, or the sentence that says what does not fit; it repeats no value."""
    try:
        return model.model_validate(dict(given))
    except ValidationError as problem:
        faults = problem.errors(include_input=False, include_url=False, include_context=False)
        told = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in faults]
        return "; ".join(told[:FAULTS_MAX])


def secrets_of(config: BaseModel) -> set[str]:
    """Every SecretStr in a configuration, however deep."""
    return set(_secrets(dict(config)))


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        yield from _secrets(dict(value))
    elif isinstance(value, Mapping):
        yield from _secrets(list(value.values()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for one in value:
            yield from _secrets(one)


def _context(found: Found, config: BaseModel, database: Database) -> Context[Any]:
    permissions = frozenset(found.permissions)
    return Context(
        name=found.name,
        config=config,
        log=logging.getLogger(f"opscenter.plugins.{found.name}"),
        permissions=permissions,
        opened=database if DATABASE in permissions else None,
    )


def _why(problem: Exception) -> str:
    return str(problem.detail["why"]) if isinstance(problem, PluginError) else str(problem)


# Checking -------------------------------------------------------------------------


async def _router(found: Found, hooks: Hooks, context: Context[Any], fence: Fence) -> APIRouter:
    router = await fence.call("routes", ASK_S, lambda: hooks.call("routes", context=context))
    if router is None:
        return APIRouter()
    if not isinstance(router, APIRouter):
        raise Misfit("The hook routes must return a fastapi.APIRouter.")
    if ROUTES not in found.permissions:
        raise Misfit(
            f"It brings routes without the permission {ROUTES!r}; its author adds it to the "
            f"entry-point group opscenter.permissions.{ROUTES}."
        )
    return router
