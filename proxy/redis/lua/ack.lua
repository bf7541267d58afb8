-- ack: the ledger has these entries; forgets them and their tombstones.
-- call:  Streams (control/books/streams.py), after the commit
-- KEYS:  1 meta  2 usage  3 tomb
-- ARGV:  1 generation  2 cursor (id of the last entry in the ledger)  3 first id to keep  4.. rids
-- reply: {OK} | {NOTREADY}

local meta, usage, tombs = KEYS[1], KEYS[2], KEYS[3]

if redis.call('HGET', meta, 'gen') ~= ARGV[1] then return { 'NOTREADY' } end
redis.call('XLEN', usage)
redis.call('HLEN', tombs)

-- writes only from here
for at = 4, #ARGV, 500 do
  redis.call('HDEL', tombs, unpack(ARGV, at, math.min(at + 499, #ARGV)))
end
redis.call('XTRIM', usage, 'MINID', ARGV[3])
redis.call('HSET', meta, 'cursor', ARGV[2])
return { 'OK' }
