"""The product's own scripts, run by Lua 5.1 in this process over a Memory. Stricter than Redis in
one thing: a key that was not declared is refused, as a slot that moves would refuse it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lupa.lua51 as lupa

from proxy.redis.scripts import SCRIPTS
from tests.simulation.memory import KEYLESS, Memory
from tests.simulation.values import RedisError, Reply

ENVIRONMENT = rb"""
local call = ...
local env = {
  redis = { call = call, pcall = call }, string = string, table = table, math = math,
  tonumber = tonumber, tostring = tostring, type = type, unpack = unpack, pairs = pairs,
  ipairs = ipairs, select = select, next = next, error = error, assert = assert,
}
setmetatable(env, {
  __index = function(_, name) error('global ' .. name .. ' does not exist') end,
  __newindex = function(_, name) error('script makes the global ' .. name) end,
})
return function(text, name)
  local chunk = assert(loadstring('local KEYS, ARGV = ...\n' .. text, name))
  setfenv(chunk, env)
  return chunk
end
"""


def product_texts() -> dict[str, bytes]:
    return {name: script.text for name, script in SCRIPTS.items()}


class Scripts:
    """Compiled once; each call names the memory that it works on."""

    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self._lua = lupa.LuaRuntime(
            encoding=None, unpack_returned_tuples=False, register_eval=False
        )
        self._memory: Memory | None = None
        self._declared: frozenset[bytes] = frozenset()
        compile_chunk = self._lua.execute(ENVIRONMENT, self._call)
        self._chunks = {n: compile_chunk(text, n.encode()) for n, text in texts.items()}
        self._table = self._lua.table_from

    def run(self, memory: Memory, name: str, keys: Sequence[bytes], args: Sequence[bytes]) -> Reply:
        """What Redis would answer; raises RedisError where Redis answers with an error."""
        self._memory, self._declared = memory, frozenset(keys)
        memory.begin()
        try:
            return _python(self._chunks[name](self._table(keys), self._table(args)))
        except lupa.LuaError as problem:
            raise RedisError(f"ERR {problem}") from None
        finally:
            memory.end()

    def _call(self, name: bytes, *args: Any) -> Any:
        assert self._memory is not None
        if name not in KEYLESS and args[0] not in self._declared:
            raise RedisError(f"ERR key {args[0]!r} was not declared")
        texts = [a if type(a) is bytes else b"%.17g" % a for a in args]
        reply = self._memory.call(name, *texts)
        if reply is None:
            return False  # a bulk reply of nothing
        return self._lua_table(reply) if type(reply) is list else reply

    def _lua_table(self, reply: list[Any]) -> Any:
        return self._table(
            [False if r is None else self._lua_table(r) if type(r) is list else r for r in reply]
        )


def _python(value: Any) -> Reply:
    """A Lua value as Redis sends it to its client."""
    if value is None or value is False:
        return None
    if value is True:
        return 1
    if isinstance(value, bytes):
        return value
    if isinstance(value, int | float):
        return int(value)
    reply, nth = [], 1
    while (item := value[nth]) is not None:
        reply.append(_python(item))
        nth += 1
    return reply
