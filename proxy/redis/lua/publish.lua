-- publish: a record as the control plane has it; an older one never overwrites a newer.
-- call:  Publisher (control/books/publish.py)
-- with:  ledger
-- KEYS:  1 record
-- ARGV:  1 version, then field, value...
-- reply: {OK} | {OLDER}

local record = KEYS[1]
local has, offered = tonumber(redis.call('HGET', record, 'ver') or '0'), amount(ARGV[1])
if not has or not offered or #ARGV % 2 == 0 then return { 'BAD', 'arguments' } end
if not (offered >= has) then return { 'OLDER' } end

-- writes only from here
redis.call('HSET', record, 'ver', ARGV[1], unpack(ARGV, 2))
forget_named(record)
return { 'OK' }
