-- limits: how full are these meters now? changes nothing.
-- call:  Shards.levels (proxy/redis/shards.py)
-- with:  holds, levels
-- KEYS:  1 meta  2 key record  3 organisation record  4.. further owners
-- ARGV:  1 key version  2 organisation version, then per meter: index of its owner in KEYS, meter, unit,
--        window, limit, as of admit
-- reply: {OK, then per meter: limit, used, held, left, ms when a rolling window has room for all} the
--        first two empty of a pool, the first of a job that has no ceiling | {NOTREADY} | {CLOCK, ms}
--        | | {STALE, key fields..., organisation fields...}
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
if (#ARGV - 2) % 5 ~= 0 then return { 'BAD', 'arguments' } end

local now, reply = now_ms(), { 'OK' }
for at = 3, #ARGV, 5 do
  local owner, meter, unit = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  local window, limit = ARGV[at + 3], ARGV[at + 4]
  if not owner then return { 'BAD', meter } end
  local from, to = string.match(window, '^(%d+):(%d+)$')
  if from and not (tonumber(from) <= now and now < tonumber(to)) then return { 'CLOCK', digits(now) } end
  local level = look_at(owner, meter, unit, window, limit, now)
  local room = level.width and level.left and room_at(owner, meter, level, tonumber(level.limit)) or to or ''
  for _, value in ipairs({ level.limit, level.used or '0', level.held, digits(level.left or 0), room }) do
    reply[#reply + 1] = value
  end
end
return reply
