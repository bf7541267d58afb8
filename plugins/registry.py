"""Finds plugins: built-ins by name, others' by entry point. Finding runs none of their code.

A plugin that cannot be used is found too, with its problem; it never stops the search.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

import pluggy

from plugins import PROJECT, spec
from plugins.context import PERMISSIONS, ROUTES

log = logging.getLogger("opscenter.plugins.registry")

GROUP = "opscenter.plugins"
PERMISSION_GROUP = "opscenter.permissions."  # and the permission's name
FOUND_MAX = 200
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class PluginInvalid(Exception):
    """What a distribution offers is no usable plugin; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin as its distribution describes it; nothing of it has run yet."""

    name: str
    version: str
    distribution: str  # "" for a built-in
    permissions: tuple[str, ...]
    entry: EntryPoint
    problem: str = ""  # why it cannot be used; "" when it can

    @property
    def builtin(self) -> bool:
        return not self.distribution

    def load(self) -> "Hooks":
        """Imports the plugin. This is the first moment at which its code runs."""
        if self.problem:
            raise PluginInvalid(self.problem)
        plugin = self.entry.load()
        return Hooks(self.name, plugin() if isinstance(plugin, type) else plugin)


class Hooks:
    """The hooks of one plugin, apart from every other's, so that none fails for another."""

    def __init__(self, name: str, plugin: object) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(spec)
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginInvalid(f"It does not fit this Ops-Center's hooks: {error}") from error
        if not self._manager.get_hookcallers(plugin):
            raise PluginInvalid(
                f"{plugin!r} has no hooks; mark its functions with "
                f'pluggy.HookimplMarker("{PROJECT}").'
            )

    def has(self, hook: str) -> bool:
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    def call(self, hook: str, **given: object) -> object:
        """What the plugin's function returns (an awaitable where it is async), None without one."""
        result: object = getattr(self._manager.hook, hook)(**given)
        return result


# Finding ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BuiltIn:
    name: str
    module: str
    permissions: tuple[str, ...] = ()


BUILT_IN = (BuiltIn("hello", "plugins.hello", (ROUTES,)),)


def find(*, third_party: bool = True) -> Mapping[str, Found]:
    """All plugins that are installed, by name. None of them is enabled by being found."""
    found = {one.name: _built_in(one) for one in BUILT_IN}
    if third_party:
        for one in _third_party():
            _add(found, one)
    return found


def allows_third_party(setting: str) -> bool:
    """Reads OPSCENTER_PLUGINS: `on` (or nothing), or `off` for the built-ins alone."""
    if setting.strip().lower() not in ("", "on", "off"):
        raise PluginInvalid(f"OPSCENTER_PLUGINS is {setting!r}; set it to on or off.")
    return setting.strip().lower() != "off"


def _built_in(one: BuiltIn) -> Found:
    entry = EntryPoint(one.name, one.module, GROUP)
    return Found(one.name, _own_version(), "", one.permissions, entry)


def _own_version() -> str:
    try:
        return version(PROJECT)
    except PackageNotFoundError:
        return "unreleased"


def _third_party() -> list[Found]:
    entries = sorted(entry_points(group=GROUP), key=lambda one: (one.name, one.value))
    if len(entries) > FOUND_MAX:
        log.error("%d plugins are installed, only the first %d are seen", len(entries), FOUND_MAX)
    return [_described(one) for one in entries[:FOUND_MAX]]


def _described(entry: EntryPoint) -> Found:
    distribution = entry.dist.name if entry.dist else "unknown"
    permissions = _permissions(entry)
    return Found(
        entry.name,
        entry.dist.version if entry.dist else "unknown",
        distribution,
        permissions,
        entry,
        _problem(entry.name, permissions),
    )


def _permissions(entry: EntryPoint) -> tuple[str, ...]:
    """A permission is declared by the plugin's name in the group opscenter.permissions.<it>."""
    declared: Iterable[EntryPoint] = entry.dist.entry_points if entry.dist else ()
    return tuple(
        sorted(
            one.group.removeprefix(PERMISSION_GROUP)
            for one in declared
            if one.group.startswith(PERMISSION_GROUP) and one.name == entry.name
        )
    )


def _problem(name: str, permissions: tuple[str, ...]) -> str:
    if not _NAME.fullmatch(name):
        return f"{name!r} is no name for a plugin: small letters, digits, - and _, at most 63."
    unknown = [one for one in permissions if one not in PERMISSIONS]
    if unknown:
        return (
            f"It asks for permissions that this Ops-Center does not know: {', '.join(unknown)}. "
            "Install a version of the plugin that fits."
        )
    return ""


def _add(found: dict[str, Found], one: Found) -> None:
    """Two that claim one name are both refused, but a built-in keeps its own."""
    rival = found.get(one.name)
    if rival is None:
        found[one.name] = one
        return
    if rival.builtin:
        problem = f"The name {one.name} is a built-in plugin's. Uninstall {one.distribution}."
        label = f"{one.name}@{one.distribution}"
        found[label] = _refused(one, label, problem)
    else:
        problem = (
            f"The name {one.name} is claimed by {rival.distribution} and {one.distribution}. "
            "Uninstall one of them."
        )
        found[one.name] = _refused(rival, one.name, problem)
    log.error("plugin %s: %s", one.name, problem)


def _refused(one: Found, name: str, problem: str) -> Found:
    return Found(name, one.version, one.distribution, one.permissions, one.entry, problem)
