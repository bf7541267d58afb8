-- renew: these requests still run; keeps their holds and notes what they have cost so far.
-- call:  Shards.renew (proxy/shards.py)
-- KEYS:  1 meta  2 hold  3 lease  4.. records of their keys and organisations
-- ARGV:  1 lease_ms, then per request: rid, index of its key's record, of its organisation's, checkpoint
-- reply: {OK, answer...} per request: OK | GONE (no hold) | REVOKED; or {NOTREADY} | {BAD, what}

local meta, holds, leases = KEYS[1], KEYS[2], KEYS[3]
local lease_ms = amount(ARGV[1])

if redis.call('HEXISTS', meta, 'gen') == 0 then return { 'NOTREADY' } end
if not lease_ms or (#ARGV - 1) % 4 ~= 0 then return { 'BAD', 'arguments' } end
local ends = digits(now_ms() + lease_ms)

local reply, kept = { 'OK' }, {}
for at = 2, #ARGV, 4 do
  local rid, key, org, checkpoint = ARGV[at], KEYS[tonumber(ARGV[at + 1])], KEYS[tonumber(ARGV[at + 2])], ARGV[at + 3]
  local text = redis.call('HGET', holds, rid)
  local hold = text and read_hold(text)
  redis.call('ZSCORE', leases, rid)
  if not key or not org or not amount(checkpoint) then return { 'BAD', rid } end
  local answer = 'OK'
  if not hold then
    answer = 'GONE'
  elseif redis.call('HGET', key, 'st') ~= 'active' or redis.call('HGET', org, 'st') ~= 'active' then
    answer = 'REVOKED'
  end
  reply[#reply + 1] = answer
  -- a refused request keeps its hold until it has settled
  if hold then kept[#kept + 1] = { rid, checkpoint .. '|' .. hold.text .. '|' .. hold.context } end
end

-- writes only from here
for _, item in ipairs(kept) do
  redis.call('HSET', holds, item[1], item[2])
  redis.call('ZADD', leases, ends, item[1])
end
return reply
