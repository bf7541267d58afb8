-- compare: what Redis says of counts, and what explains a difference to the ledger; changes nothing.
-- call:  control/books/verify.py
-- KEYS:  1 meta  2 hold  3 usage  4.. owners
-- ARGV:  1 cursor of the ledger, then per count: index of its owner in KEYS, meter, unit
-- reply: {OK, adjseq, cursor, then per count: figure (balance or use), held, spent after the cursor,
--        held by living holds}

local meta, holds, usage = KEYS[1], KEYS[2], KEYS[3]

local spent, held = spent_since(usage, ARGV[1]), held_now(holds)
local state = redis.call('HMGET', meta, 'adjseq', 'cursor')
local reply = { 'OK', state[1] or '0', state[2] or '0-0' }
for at = 2, #ARGV, 3 do
  local owner, meter, unit = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  local name = owner .. ':' .. meter
  local p = redis.call('HMGET', owner, meter .. (unit == 'pool' and '.b' or '.u'), meter .. '.h')
  for _, value in ipairs({ p[1] or 'none', p[2] or '0', digits(spent[name] or 0), digits(held[name] or 0) }) do
    reply[#reply + 1] = value
  end
end
return reply
