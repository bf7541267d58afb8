-- open: the shard is filled; from now on it admits.
-- call:  rebuild (control/books/rebuild.py)
-- KEYS:  1 meta
-- ARGV:  1 fence  2 generation  3 run id of the server that holds it
-- reply: {OK} | {OTHER} somebody else is filling it, or has

local meta = KEYS[1]
if redis.call('HGET', meta, 'fenced') ~= ARGV[1] then return { 'OTHER' } end

-- writes only from here
redis.call('HDEL', meta, 'fenced')
redis.call('HSET', meta, 'gen', ARGV[2], 'run', ARGV[3])
return { 'OK' }
