-- resync: makes counts what the ledger says, and what has been spent since.
-- call:  rebuild (control/books/rebuild.py), behind its fence
-- KEYS:  1 meta  2 hold  3 usage  4.. owners
-- ARGV:  1 cursor (entries after it are not in these figures)  2 outseq (outbox rows that are)
--        3 fence, then per count: index of its owner in KEYS, meter, unit, figure (a pool's balance, a
--        budget's use)
-- reply: {OK, sum of the absolute drift removed} | {OTHER} fence | {BAD, what}

local meta, holds, usage = KEYS[1], KEYS[2], KEYS[3]
if (#ARGV - 3) % 4 ~= 0 or not amount(ARGV[2]) then return { 'BAD', 'arguments' } end
if redis.call('HGET', meta, 'fenced') ~= ARGV[3] then return { 'OTHER' } end

local spent, held = spent_since(usage, ARGV[1]), held_now(holds)
local drift, rows = 0, {}
for at = 4, #ARGV, 4 do
  local owner, meter, unit, text = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local figure = count(text)
  if not owner or not figure then return { 'BAD', meter } end
  local name = owner .. ':' .. meter
  local field = meter .. '.u'
  if unit == 'pool' then
    field, figure = meter .. '.b', figure - (spent[name] or 0)
  else
    figure = figure + (spent[name] or 0)
  end
  local before = redis.call('HGET', owner, field)
  if before and count(before) ~= figure then
    drift = drift + math.abs(figure - (count(before) or 0))
  end
  rows[#rows + 1] = { owner, field, digits(figure), meter .. '.h', digits(held[name] or 0) }
end

-- writes only from here
for _, row in ipairs(rows) do redis.call('HSET', unpack(row)) end
-- these figures hold the outbox up to there: it must not be applied again
redis.call('HSET', meta, 'adjseq', ARGV[2], 'cursor', ARGV[1])
return { 'OK', digits(drift) }
