-- reap: ends holds whose lease is over, because whoever held them is dead; costs what was noted, and
-- gives calls and tokens back: whoever knows the truth tells it later.
-- call:  Reaper (control/books/reaper.py), which has read what expired and names the owners
-- with:  holds, endings
-- KEYS:  1 meta  2 hold  3 lease  4 tomb  5 usage  6.. owners of the holds
-- ARGV:  rids
-- reply: {OK, number ended} | {NOTREADY}

local meta, holds, leases, tombs, usage = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

if redis.call('HEXISTS', meta, 'gen') == 0 then return { 'NOTREADY' } end
local now, owners = now_ms(), declared(6)
redis.call('XLEN', usage)

local over, empty = {}, {}
for _, rid in ipairs(ARGV) do
  local ends = tonumber(redis.call('ZSCORE', leases, rid) or 'nan')
  local buried = redis.call('HEXISTS', tombs, rid) == 1
  if ends and ends <= now then
    local text = redis.call('HGET', holds, rid)
    local hold = text and read_hold(text)
    if not text then
      empty[#empty + 1] = rid
    elseif hold and not buried and touchable(hold, owners) then
      over[#over + 1] = { rid, hold }
    end
  end
end

-- writes only from here
for _, rid in ipairs(empty) do redis.call('ZREM', leases, rid) end
for _, pair in ipairs(over) do
  local rid, hold = pair[1], pair[2]
  local pool, held, budgets = payers(hold)
  redis.call('HSET', tombs, rid, '1')
  touchable(hold, owners) -- those before it have changed its counts
  end_hold(hold, { cost = hold.checkpoint, calls = '0', tokens = '0' })
  redis.call('HDEL', holds, rid)
  redis.call('ZREM', leases, rid)
  redis.call('XADD', usage, '*', 'r', rid, 'k', 'orphan', 'c', hold.checkpoint, 'p', pool,
    'b', budgets, 'h', held, 'l', '0', 'e', hold.context, 'q', '0', 'n', '0')
end
return { 'OK', #over }
