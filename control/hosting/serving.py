"""The set of plugins that answer now. Replaced as a whole, by one assignment, never changed."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from fastapi import APIRouter

from control.hosting.living import Living, PluginRefused
from control.hosting.routes import Address, Misfit, addresses_of, refuse_shadows

OnChange = Callable[[Sequence[APIRouter]], None]


class Serving:
    """Which life of which plugin is reachable, and the application that is made of them."""

    def __init__(self, core: Sequence[APIRouter], on_change: OnChange) -> None:
        self._core = addresses_of(core, "Ops-Center's own")
        self._on_change = on_change
        self.living: Mapping[str, Living] = MappingProxyType({})

    def routers(self) -> Sequence[APIRouter]:
        return _routers(self.living)

    def taken(self, name: str) -> Mapping[Address, str]:
        """Where others than this plugin answer."""
        taken = dict(self._core)
        for other, one in self.living.items():
            if other != name:
                taken |= dict.fromkeys(one.addresses, f"the plugin {other}'s")
        return taken

    def swap(self, name: str, new: Living | None) -> None:
        """Before it the old life answers, after it the new one; when it raises, still the old."""
        living = {key: one for key, one in self.living.items() if key != name}
        if new is not None:
            try:  # again: another plugin may have come since the check
                refuse_shadows(new.addresses, self.taken(name))
            except Misfit as problem:
                raise PluginRefused(name=name, why=str(problem)) from None
            living[name] = new
        self._on_change(_routers(living))
        self.living = MappingProxyType(living)

    def clear(self) -> Sequence[Living]:
        """Nobody answers any more; the application is about to end."""
        living, self.living = self.living, MappingProxyType({})
        return list(living.values())


def _routers(living: Mapping[str, Living]) -> Sequence[APIRouter]:
    return [living[name].router for name in sorted(living)]
