-- adjust: changes that the ledger has made (grants, refunds, corrections), in order.
-- call:  Pusher (control/books/pusher.py)
-- KEYS:  1 meta  2.. owners
-- ARGV:  1 generation  2 first seq  3 last seq, then per row: index of its owner in KEYS, field
--        (x.b of a pool, x.u of a budget), delta, and when its window began, or 0
-- reply: {OK} | {NOTREADY} | {GAP, seq that was applied last} | {BAD, what}

local meta = KEYS[1]

local state = redis.call('HMGET', meta, 'gen', 'adjseq')
if state[1] ~= ARGV[1] then return { 'NOTREADY' } end
local applied, first, last = amount(state[2] or '0'), amount(ARGV[2]), amount(ARGV[3])
if not (applied and first and last) or (#ARGV - 3) % 4 ~= 0 then return { 'BAD', 'arguments' } end
-- covers repetitions too: a row is applied exactly once, and none is left out
if not (first == applied + 1 and last >= first) then return { 'GAP', state[2] or '0' } end
for at = 4, #ARGV, 4 do
  local owner, field, delta = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  if not owner or not amount((string.gsub(delta, '^-', ''))) or delta == '-0' then return { 'BAD', field } end
  if not count(redis.call('HGET', owner, field), 0) or not amount(ARGV[at + 3]) then return { 'BAD', field } end
end

-- writes only from here
for at = 4, #ARGV, 4 do
  local owner, field, window = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 3]
  -- a window that is over has no count here any more
  if window == '0' or redis.call('HGET', owner, (string.gsub(field, '%.u$', '.w'))) == window then
    redis.call('HINCRBY', owner, field, ARGV[at + 2])
  end
end
redis.call('HSET', meta, 'adjseq', ARGV[3])
return { 'OK' }
