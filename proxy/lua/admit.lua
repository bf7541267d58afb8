-- admit: may this request run? Takes its hold on every meter, or takes nothing.
-- call:  Shards.admit (proxy/shards.py)
-- KEYS:  1 meta  2 hold  3 lease  4 usage  5 key record  6 organisation record  7.. further owners
-- ARGV:  1 rid  2 lease_ms  3 key version  4 organisation version  5 context  6 backlog_max
--        7 ceiling of the job, whose owner is then the last key; or empty
--        then per meter: index of its owner in KEYS, meter, unit, amount
-- reply: {OK, left...} per meter | {NOTREADY} | {STALE, key fields..., organisation fields...}
--        | {KEY} revoked or expired | {ORG} suspended 
--        | {LIMIT, nth meter, left, limit, used, held} as of limits
--        | {JOB, its ceiling} another one was set before | {BAD, what}
-- layout: see prelude for holds; a pool is x.b balance, x.f floor, x.h held; a limit is x.l, x.u, x.h

local JOB_LIFE_MS = 7 * 24 * 3600 * 1000 -- a job that is not heard of for so long is forgotten

local meta, holds, leases, usage, key, org = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local rid, lease_ms, context, ceiling = ARGV[1], amount(ARGV[2]), ARGV[5], ARGV[7]

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
local backlog_max = amount(ARGV[6])
if not lease_ms or not backlog_max or (#ARGV - 7) % 4 ~= 0 then return { 'BAD', 'arguments' } end

-- a request that holds already is answered as the first time
local again = redis.call('HEXISTS', holds, rid) == 1
redis.call('ZSCORE', leases, rid)
-- the ledger is too far behind: what it has not booked is bounded
if not again and redis.call('XLEN', usage) >= backlog_max then return { 'NOTREADY' } end

-- the first ceiling of a job stands
local job, job_is_new = KEYS[#KEYS], false
if ceiling ~= '' then
  local set = redis.call('HGET', job, 'bud.l')
  if not amount(ceiling) then return { 'BAD', 'ceiling' } end
  if set and set ~= ceiling then return { 'JOB', set } end
  job_is_new = not set
end

local reply, items = { 'OK' }, {}
for at = 8, #ARGV, 4 do
  local owner, meter, unit, text = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local want = amount(text)
  if not owner or not want then return { 'BAD', meter } end
  local left = left_of(owner, meter, unit)
  if job_is_new and owner == job and unit == 'ucr' then
    -- without a limit it may still have been used: it was filled anew from the ledger
    local p = redis.call('HMGET', job, meter .. '.u', meter .. '.h')
    left = tonumber(ceiling) - (count(p[1], 0) or 0) - (count(p[2], 0) or 0)
  end
  local nth = (at - 8) / 4 + 1
  if again then
    reply[nth + 1] = digits(left or 0)
  else
    -- the positive form, because a NaN makes every comparison false
    if not (left and left - want >= 0) then
      local level = level_of(owner, meter, unit)
      local limit = job_is_new and owner == job and ceiling or level[1]
      return { 'LIMIT', digits(nth), digits(left or 0), limit, level[2], level[3] }
    end
    reply[nth + 1] = digits(left - want)
    items[nth] = { owner = owner, meter = meter, unit = unit, held = text }
  end
end
if again then return reply end

-- writes only from here
if job_is_new then redis.call('HSET', job, 'bud.l', ceiling) end
if ceiling ~= '' then redis.call('PEXPIRE', job, JOB_LIFE_MS) end
for _, item in ipairs(items) do
  redis.call('HINCRBY', item.owner, item.meter .. '.h', item.held)
end
redis.call('HSET', holds, rid, hold_text({ checkpoint = '0', items = items, context = context }))
redis.call('ZADD', leases, digits(now + lease_ms), rid)
return reply
