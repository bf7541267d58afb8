-- release: gives back what was reserved for an outflow that the ledger does not have, or that is
-- in the balance already.
-- call:  Outflows (control/books/outflows.py), which knows that nobody is about to book it
-- with:  holds, endings, ledger
-- KEYS:  1 meta  2 hold  3 out  4 owner of the pool
-- ARGV:  1 name of the reservation  2 adjseq, as it was when the ledger was asked
-- reply: {OK} | {NOTREADY} | {OLDER} Redis has lost changes since | {BAD, what}

local meta, holds, out = KEYS[1], KEYS[2], KEYS[3]
local name, known = ARGV[1], amount(ARGV[2])

local state = redis.call('HMGET', meta, 'gen', 'adjseq')
if not state[1] then return { 'NOTREADY' } end
local applied = amount(state[2] or '0')
if not known or not applied then return { 'BAD', 'adjseq' } end
if applied < known then return { 'OLDER' } end
redis.call('ZSCORE', out, name)
local text = redis.call('HGET', holds, name)
local hold = text and read_hold(text)
if text and not (hold and touchable(hold, declared(4))) then return { 'BAD', 'hold' } end

-- writes only from here
if hold then give_back(holds, name, hold) end
redis.call('ZREM', out, name)
return { 'OK' }
