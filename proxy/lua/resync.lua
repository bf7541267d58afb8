-- resync: makes pools what the ledger says, less what has been spent since.
-- call:  Rebuild (control/drain.py), while the shard is fenced
-- KEYS:  1 meta  2 hold  3 usage  4.. owners
-- ARGV:  1 cursor (entries after it are not in these balances)
--        then per pool: index of its owner in KEYS, meter, balance
-- reply: {OK, sum of the absolute drift removed} | {BAD, what}

local holds, usage = KEYS[2], KEYS[3]
if (#ARGV - 1) % 3 ~= 0 then return { 'BAD', 'arguments' } end

-- what the stream has taken after the cursor, and what the living holds hold
local spent, held = {}, {}
for _, entry in ipairs(redis.call('XRANGE', usage, '(' .. ARGV[1], '+')) do
  local f = {}
  for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
  if f.l == '0' and f.p then spent[f.p] = (spent[f.p] or 0) + (amount(f.c) or 0) end
end
local all = redis.call('HGETALL', holds)
for i = 2, #all, 2 do
  local hold = read_hold(all[i])
  for _, item in ipairs(hold and hold.items or {}) do
    local name = item.owner .. ':' .. item.meter
    held[name] = (held[name] or 0) + tonumber(item.held)
  end
end

local drift, rows = 0, {}
for at = 2, #ARGV, 3 do
  local owner, meter, text = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  if not owner or not amount((string.gsub(text, '^-', ''))) then return { 'BAD', meter } end
  local name = owner .. ':' .. meter
  local balance = tonumber(text) - (spent[name] or 0)
  local before = redis.call('HGET', owner, meter .. '.b')
  if before and tonumber(before) ~= balance then
    drift = drift + math.abs(balance - (tonumber(before) or 0))
  end
  rows[#rows + 1] = { owner, meter, digits(balance), digits(held[name] or 0) }
end

-- writes only from here
for _, row in ipairs(rows) do
  redis.call('HSET', row[1], row[2] .. '.b', row[3], row[2] .. '.h', row[4])
end
return { 'OK', digits(drift) }
