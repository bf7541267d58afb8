"""What may be added to Ops-Center without touching the rest: hooks, registry, built-in plugins.

A plugin of others needs none of these names: `pluggy.HookimplMarker("opscenter")` is `hookimpl`.
"""

import pluggy

PROJECT = "opscenter"

hookimpl = pluggy.HookimplMarker(PROJECT)
hookspec = pluggy.HookspecMarker(PROJECT)

__all__ = ["PROJECT", "hookimpl", "hookspec"]
