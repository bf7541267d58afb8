-- reserve: holds credits of a pool that the ledger is about to take out of it.
-- call:  reserve (control/books/outflows.py)
-- with:  holds, levels
-- KEYS:  1 meta  2 hold  3 out  4 owner of the pool
-- ARGV:  1 name of the reservation, which says what it is for  2 meter  3 amount
-- reply: {OK, generation} the second time too | {NOTREADY} | {FUNDS, left} | {BAD, what}
-- layout: a reservation is a hold without a lease; out has when it was made

local meta, holds, out, owner = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, meter, want = ARGV[1], ARGV[2], amount(ARGV[3])

local state = redis.call('HMGET', meta, 'gen', 'fenced')
if not state[1] or state[2] then return { 'NOTREADY' } end
if not want then return { 'BAD', 'amount' } end
redis.call('ZSCORE', out, name)
local again = redis.call('HEXISTS', holds, name) == 1
local now = now_ms()
local left = look_at(owner, meter, 'pool', '', '', now).left
if not again and not (left and left - want >= 0) then return { 'FUNDS', digits(left or 0) } end
local items = { { owner = owner, meter = meter, unit = 'pool', held = ARGV[3] } }

-- writes only from here
if not again then
  redis.call('HINCRBY', owner, meter .. '.h', ARGV[3])
  redis.call('HSET', holds, name, hold_text('0', items, ''))
end
redis.call('ZADD', out, digits(now), name)
return { 'OK', state[1] }
