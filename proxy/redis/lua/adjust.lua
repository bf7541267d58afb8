-- adjust: changes that the ledger has made (grants, moves, refunds, corrections), in order.
-- call:  Pusher (control/books/pusher.py)
-- with:  holds, endings, ledger
-- KEYS:  1 meta  2 hold  3 out  4.. owners
-- ARGV:  1 generation  2 first seq  3 last seq, then per row: index of its owner in KEYS, field
--        (x.b of a pool, x.u of a budget), delta, when its window began or 0, the reservation that
--        ends with it or empty
-- reply: {OK} | {NOTREADY} | {GAP, seq that was applied last} | {BAD, what}

local ROW = 5 -- arguments of each

local meta, holds, out = KEYS[1], KEYS[2], KEYS[3]

local state = redis.call('HMGET', meta, 'gen', 'adjseq')
if state[1] ~= ARGV[1] then return { 'NOTREADY' } end
local applied, first, last = amount(state[2] or '0'), amount(ARGV[2]), amount(ARGV[3])
if not (applied and first and last) or (#ARGV - 3) % ROW ~= 0 then return { 'BAD', 'arguments' } end
-- covers repetitions too: a row is applied exactly once, and none is left out
if not (first == applied + 1 and last >= first) then return { 'GAP', state[2] or '0' } end
local reserved, owners = {}, declared(4)
for at = 4, #ARGV, ROW do
  local owner, field, delta, name = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 4]
  if not owner or not amount((string.gsub(delta, '^-', ''))) or delta == '-0' then return { 'BAD', field } end
  if not count(redis.call('HGET', owner, field), 0) or not amount(ARGV[at + 3]) then return { 'BAD', field } end
  local text = name ~= '' and redis.call('HGET', holds, name)
  if text then
    local hold = read_hold(text)
    if not (hold and touchable(hold, owners)) then return { 'BAD', name } end
    redis.call('ZSCORE', out, name)
    reserved[name] = hold
  end
end

-- writes only from here
for at = 4, #ARGV, ROW do
  local owner, field, window = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 3]
  local meter = string.gsub(field, '%.u$', '')
  local begun = window == '0' and 0 or count(redis.call('HGET', owner, meter .. '.w'), 0) or 0
  -- a window that is over has no count here any more; one that was lost with the hold begins anew
  if begun < tonumber(window) then
    redis.call('HSET', owner, meter .. '.w', window, field, ARGV[at + 2], meter .. '.h', '0')
  elseif begun == tonumber(window) then
    redis.call('HINCRBY', owner, field, ARGV[at + 2])
  end
  forget_named(owner)
end
for name, hold in pairs(reserved) do
  give_back(holds, name, hold)
  redis.call('ZREM', out, name)
end
redis.call('HSET', meta, 'adjseq', ARGV[3])
return { 'OK' }
