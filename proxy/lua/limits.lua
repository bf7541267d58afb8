-- limits: how full are these meters now? changes nothing.
-- call:  Shards.levels (proxy/shards.py)
-- KEYS:  1 meta  2 key record  3 organisation record  4.. further owners
-- ARGV:  1 key version  2 organisation version, then per meter: index of its owner in KEYS, meter, unit
-- reply: {OK, then per meter: limit, used, held, left} the first two empty of a pool, the first of a
--        job that has no ceiling | {NOTREADY} | {STALE, key fields..., organisation fields...}
--        | {KEY} | {ORG} | {BAD, what}, as of admit

local meta, key, org = KEYS[1], KEYS[2], KEYS[3]

local state = redis.call('HMGET', meta, 'gen', 'fenced')
if not state[1] or state[2] then return { 'NOTREADY' } end
local k = redis.call('HMGET', key, 'ver', 'st', 'body', 'digest', 'exp')
local o = redis.call('HMGET', org, 'ver', 'st', 'body')
if k[1] ~= ARGV[1] or o[1] ~= ARGV[2] then
  return { 'STALE', k[1], k[2], k[3], k[4], k[5], o[1], o[2], o[3] }
end
if k[2] ~= 'active' then return { 'KEY' } end
if k[5] and k[5] ~= '0' and not (now_ms() < (tonumber(k[5]) or 0)) then return { 'KEY' } end
if o[2] ~= 'active' then return { 'ORG' } end
if (#ARGV - 2) % 3 ~= 0 then return { 'BAD', 'arguments' } end

local reply = { 'OK' }
for at = 3, #ARGV, 3 do
  local owner, meter, unit = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  if not owner then return { 'BAD', meter } end
  local level = level_of(owner, meter, unit)
  for i = 1, 3 do reply[#reply + 1] = level[i] end
  reply[#reply + 1] = digits(left_of(owner, meter, unit) or 0)
end
return reply
