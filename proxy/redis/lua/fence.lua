-- fence: closes a shard to be filled; whoever comes later with another fence finds this one.
-- call:  rebuild (control/books/rebuild.py)
-- KEYS:  1 meta
-- ARGV:  1 generation as it was read, empty for none  2 fence
-- reply: {OK} | {OTHER} the shard has been filled since it was read

local meta = KEYS[1]
if (redis.call('HGET', meta, 'gen') or '') ~= ARGV[1] then return { 'OTHER' } end

-- writes only from here
redis.call('HSET', meta, 'fenced', ARGV[2])
return { 'OK' }
