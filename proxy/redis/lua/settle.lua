-- settle: the request has ended; gives back its hold, takes its cost, tells the ledger.
-- call:  Shards.settle (proxy/redis/shards.py)
-- with:  holds, endings
-- KEYS:  1 meta  2 hold  3 lease  4 tomb  5 usage  6.. owners of the hold
-- ARGV:  1 rid  2 kind  3 cost_ucr  4 pool (owner:meter)  5 budgets (see name_of, by spaces)
--        6 held_ucr  7 event  8 calls  9 tokens that count
-- reply: {OK, late} | {NOTREADY} | {DUP} | {BAD, what}
-- layout: a stream entry is r rid, k kind, c cost, p pool, b budgets, h held, l late, e event,
--        q calls, n tokens

local meta, holds, leases, tombs, usage = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local rid, kind, cost, pool, budgets = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local held, event, used = ARGV[6], ARGV[7], { cost = cost, calls = ARGV[8], tokens = ARGV[9] }

if redis.call('HEXISTS', meta, 'gen') == 0 then return { 'NOTREADY' } end
if redis.call('HEXISTS', tombs, rid) == 1 then return { 'DUP' } end
if not (amount(cost) and amount(held) and amount(used.calls) and amount(used.tokens)) then return { 'BAD', 'amount' } end
redis.call('XLEN', usage)
redis.call('ZSCORE', leases, rid)

local text = redis.call('HGET', holds, rid)
local hold = text and read_hold(text)
if text and not (hold and touchable(hold, declared(6))) then return { 'BAD', 'hold' } end

-- writes only from here; a hold that has ended already is for the ledger to judge
local late = '1'
redis.call('HSET', tombs, rid, '1')
if hold then
  late = '0'
  -- whoever asked twice because an answer was lost may know other limits than those it counts on
  local paid, kept, counts = payers(hold)
  if paid ~= '' then pool, held, budgets = paid, kept, counts end
  end_hold(hold, used)
  redis.call('HDEL', holds, rid)
  redis.call('ZREM', leases, rid)
end
redis.call('XADD', usage, '*', 'r', rid, 'k', kind, 'c', cost, 'p', pool,
  'b', budgets, 'h', held, 'l', late, 'e', event, 'q', used.calls, 'n', used.tokens)
return { 'OK', late }
