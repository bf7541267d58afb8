-- server: which run of which server keeps this shard; another one than before has lost its newest
-- writes, or is a replica that never had them. It changes nothing.
-- call:  control/books/rebuild.py
-- KEYS:  1 meta
-- ARGV:  none
-- reply: {OK, run id, run id that was noted before or empty, uptime in seconds}

local info = redis.call('INFO', 'server')
local run, uptime = string.match(info, 'run_id:(%x+)'), string.match(info, 'uptime_in_seconds:(%d+)')
return { 'OK', run or '', redis.call('HGET', KEYS[1], 'run') or '', uptime or '0' }
