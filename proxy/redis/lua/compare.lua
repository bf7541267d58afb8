-- compare: what Redis says of counts, and what explains a difference to the ledger; changes nothing.
-- call:  control/books/verify.py
-- with:  holds, endings, ledger
-- KEYS:  1 meta  2 hold  3 usage  4.. owners
-- ARGV:  1 cursor of the ledger, then per count: index of its owner in KEYS, meter, unit, when its
--        window began, or 0
-- reply: {OK, adjseq, cursor, then per count: figure (balance or use; none: there is none; over: a
--        later window has begun), held, spent after the cursor, held by living holds}

local meta, holds, usage = KEYS[1], KEYS[2], KEYS[3]

local spent, held = spent_since(usage, ARGV[1]), held_now(holds)
local state = redis.call('HMGET', meta, 'adjseq', 'cursor')
local reply = { 'OK', state[1] or '0', state[2] or '0-0' }
for at = 2, #ARGV, 4 do
  local owner, meter, unit, from = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local name = name_of(owner, meter, unit, from ~= '0' and from or nil)
  local field = meter .. (unit == 'pool' and '.b' or '.u')
  local p = redis.call('HMGET', owner, field, meter .. '.h', meter .. '.w')
  local figure = p[1] or 'none'
  if from ~= '0' and p[3] ~= from then
    figure = p[3] and (count(p[3]) or 0) > tonumber(from) and 'over' or 'none'
  end
  for _, value in ipairs({ figure, p[2] or '0', digits(spent[name] or 0), digits(held[name] or 0) }) do
    reply[#reply + 1] = value
  end
end
return reply
