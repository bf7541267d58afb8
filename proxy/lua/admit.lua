-- admit: may this request run? Takes its hold on every meter, or takes nothing.
-- call:  Shards.admit (proxy/shards.py)
-- KEYS:  1 meta  2 hold  3 lease  4 key record  5 organisation record  6.. further owners
-- ARGV:  1 rid  2 lease_ms  3 key version  4 organisation version  5 context
--        then per meter: index of its owner in KEYS, meter, unit, amount
-- reply: {OK, left...} per meter | {NOTREADY} | {STALE, key fields..., organisation fields...}
--        | {KEY} revoked or expired | {ORG} suspended | {LIMIT, nth meter, left} | {BAD, what}
-- layout: see prelude for holds; a pool is x.b balance, x.f floor, x.h held; a limit is x.l, x.u, x.h

local meta, holds, leases, key, org = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local rid, lease_ms, context = ARGV[1], amount(ARGV[2]), ARGV[5]

local state = redis.call('HMGET', meta, 'gen', 'fenced')
if not state[1] or state[2] then return { 'NOTREADY' } end

local k = redis.call('HMGET', key, 'ver', 'st', 'body', 'digest', 'exp')
local o = redis.call('HMGET', org, 'ver', 'st', 'body')
if k[1] ~= ARGV[3] or o[1] ~= ARGV[4] then
  return { 'STALE', k[1], k[2], k[3], k[4], k[5], o[1], o[2], o[3] }
end
local now = now_ms()
if k[2] ~= 'active' then return { 'KEY' } end
if k[5] and k[5] ~= '0' and not (now < (tonumber(k[5]) or 0)) then return { 'KEY' } end
if o[2] ~= 'active' then return { 'ORG' } end
if not lease_ms or (#ARGV - 5) % 4 ~= 0 then return { 'BAD', 'arguments' } end

-- a request that holds already is answered as the first time
local again = redis.call('HEXISTS', holds, rid) == 1
redis.call('ZSCORE', leases, rid)

local reply, items = { 'OK' }, {}
for at = 6, #ARGV, 4 do
  local owner, meter, unit, text = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local want = amount(text)
  if not owner or not want then return { 'BAD', meter } end
  -- what is left of a pool: balance - floor - held; of a limit: limit - used - held
  local top, taken = '.l', '.u'
  if unit == 'pool' then top, taken = '.b', '.f' end
  local p = redis.call('HMGET', owner, meter .. top, meter .. taken, meter .. '.h')
  local a, b, c = count(p[1]), count(p[2], 0), count(p[3], 0)
  local left = a and b and c and a - b - c
  local nth = (at - 6) / 4 + 1
  if again then
    reply[nth + 1] = digits(left or 0)
  else
    -- the positive form, because a NaN makes every comparison false
    if not (left and left - want >= 0) then
      return { 'LIMIT', digits(nth), digits(left or 0) }
    end
    reply[nth + 1] = digits(left - want)
    items[nth] = { owner, meter, unit, text }
  end
end
if again then return reply end

-- writes only from here
local parts = {}
for i, item in ipairs(items) do
  redis.call('HINCRBY', item[1], item[2] .. '.h', item[4])
  parts[i] = table.concat(item, ' ') .. ','
end
redis.call('HSET', holds, rid, '0|' .. table.concat(parts) .. '|' .. context)
redis.call('ZADD', leases, digits(now + lease_ms), rid)
return reply
