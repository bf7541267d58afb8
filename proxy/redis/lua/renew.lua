-- renew: these requests still run; keeps their holds, notes what they have cost so far, and takes
-- more for those that ask.
-- call:  Shards.renew (proxy/redis/shards.py)
-- with:  holds, endings, levels
-- KEYS:  1 meta  2 hold  3 lease  4.. owners of the holds, records among them
-- ARGV:  1 lease_ms, then per request: rid, index of its key's record, of its organisation's,
--        checkpoint, extra
-- reply: {OK, answer...} per request: OK | GONE (no hold) | REVOKED | FUNDS (nothing more taken);
--        or {NOTREADY} | {BAD, what}

local meta, holds, leases = KEYS[1], KEYS[2], KEYS[3]
local lease_ms = amount(ARGV[1])

if redis.call('HEXISTS', meta, 'gen') == 0 then return { 'NOTREADY' } end
if not lease_ms or (#ARGV - 1) % 5 ~= 0 then return { 'BAD', 'arguments' } end
local now, owners = now_ms(), declared(4)
local ends = digits(now + lease_ms)

-- what earlier requests of this call take from a meter is not there for later ones
local taken = {}

local function is_money(item) return item.unit == 'pool' or item.unit == 'ucr' end

local function meter_name(item) return item.owner .. ':' .. item.meter end

local function window_of(item)
  if item.part then return '~' .. digits(item.width) end
  return item.from or ''
end

-- What a window that is over has counted is nobody's concern any more.
local function carries(hold, extra)
  for _, item in ipairs(hold.items) do
    if is_money(item) and not item.gone then
      local left = look_at(item.owner, item.meter, item.unit, window_of(item), '', now).left
      if not (left and left - (taken[meter_name(item)] or 0) - extra >= 0) then return false end
    end
  end
  return true
end

local function take(hold, extra)
  local more = {}
  for _, item in ipairs(hold.items) do
    if is_money(item) then
      taken[meter_name(item)] = (taken[meter_name(item)] or 0) + extra
      item.held = digits(tonumber(item.held) + extra)
      if not item.gone then more[#more + 1] = item end
    end
  end
  return more
end

local reply, kept = { 'OK' }, {}
for at = 2, #ARGV, 5 do
  local rid, key, org = ARGV[at], KEYS[tonumber(ARGV[at + 1])], KEYS[tonumber(ARGV[at + 2])]
  local checkpoint, extra = ARGV[at + 3], amount(ARGV[at + 4])
  local text = redis.call('HGET', holds, rid)
  local hold = text and read_hold(text)
  redis.call('ZSCORE', leases, rid)
  if not key or not org or not extra or not amount(checkpoint) then return { 'BAD', rid } end
  if text and not (hold and touchable(hold, owners)) then return { 'BAD', rid } end
  local answer, more = 'OK', {}
  if not hold then
    answer = 'GONE'
  elseif redis.call('HGET', key, 'st') ~= 'active' or redis.call('HGET', org, 'st') ~= 'active' then
    answer = 'REVOKED'
  elseif extra > 0 and not carries(hold, extra) then
    answer = 'FUNDS'
  elseif extra > 0 then
    more = take(hold, extra)
  end
  reply[#reply + 1] = answer
  -- a refused request keeps its hold until it has settled
  if hold then
    kept[#kept + 1] = { rid, hold_text(checkpoint, hold.items, hold.context), more, ARGV[at + 4] }
  end
end

-- writes only from here
for _, row in ipairs(kept) do
  for _, item in ipairs(row[3]) do
    if item.part then
      rolled_by(item, row[4])
    else
      redis.call('HINCRBY', item.owner, item.meter .. '.h', row[4])
    end
  end
  redis.call('HSET', holds, row[1], row[2])
  redis.call('ZADD', leases, ends, row[1])
end
return reply
