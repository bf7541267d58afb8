-- resync: makes pools what the ledger says, less what has been spent since.
-- call:  rebuild (control/books/rebuild.py), while the shard is fenced
-- KEYS:  1 meta  2 hold  3 usage  4.. owners
-- ARGV:  1 cursor (entries after it are not in these balances)
--        then per pool: index of its owner in KEYS, meter, balance
-- reply: {OK, sum of the absolute drift removed} | {BAD, what}

local holds, usage = KEYS[2], KEYS[3]
if (#ARGV - 1) % 3 ~= 0 then return { 'BAD', 'arguments' } end

local spent, held = spent_since(usage, ARGV[1]), held_now(holds)
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
