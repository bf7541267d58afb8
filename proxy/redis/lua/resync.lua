-- resync: makes counts what the ledger says, and what has been spent since.
-- call:  rebuild (control/books/rebuild.py), behind its fence
-- with:  holds, endings, ledger
-- KEYS:  1 meta  2 hold  3 usage  4.. owners
-- ARGV:  1 cursor (entries after it are not in these figures)  2 outseq (outbox rows that are)
--        3 fence, then per count: index of its owner in KEYS, meter, unit, figure (a pool's balance, a
--        budget's use), when its newest window began that the ledger knows of, or 0
-- reply: {OK, sum of the absolute drift removed} | {OTHER} fence | {BAD, what}

local meta, holds, usage = KEYS[1], KEYS[2], KEYS[3]
if (#ARGV - 3) % 5 ~= 0 or not amount(ARGV[2]) then return { 'BAD', 'arguments' } end
if redis.call('HGET', meta, 'fenced') ~= ARGV[3] then return { 'OTHER' } end

local spent, held = spent_since(usage, ARGV[1]), held_now(holds)
local drift, rows = 0, {}

local function newest(unit, owner, meter, from)
  if unit == 'pool' then return from end
  local name = owner .. ':' .. meter .. '@' .. unit
  return newest_window(held, name, newest_window(spent, name, from))
end

for at = 4, #ARGV, 5 do
  local owner, meter, unit, text = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local figure, from = count(text), ARGV[at + 4]
  if not owner or not figure or not amount(from) then return { 'BAD', meter } end
  local window = newest(unit, owner, meter, from)
  if window ~= from then figure = 0 end
  local name = name_of(owner, meter, unit, window ~= '0' and window or nil)
  local field = meter .. '.u'
  if unit == 'pool' then
    field, figure = meter .. '.b', figure - (spent[name] or 0)
  else
    figure = figure + (spent[name] or 0)
  end
  local before = redis.call('HMGET', owner, field, meter .. '.w')
  if before[1] and (window == '0' or before[2] == window) and count(before[1]) ~= figure then
    drift = drift + math.abs(figure - (count(before[1]) or 0))
  end
  local row = { owner, field, digits(figure), meter .. '.h', digits(held[name] or 0) }
  if window ~= '0' then row[6], row[7] = meter .. '.w', window end
  rows[#rows + 1] = row
end

-- writes only from here
for _, row in ipairs(rows) do
  redis.call('HSET', unpack(row))
  forget_named(row[1])
end
-- these figures hold the outbox up to there: it must not be applied again
redis.call('HSET', meta, 'adjseq', ARGV[2], 'cursor', ARGV[1])
return { 'OK', digits(drift) }
