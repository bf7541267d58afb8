-- prelude: what every script shares; the loader puts it before each of them.
-- Rules: read all, check all, then write all or nothing. Amounts are strings of digits and go
-- into HINCRBY as they came; a Lua number is only ever compared. The clock is the server's.

local AMOUNT_MAX = 9e15

-- An amount as a number, or nil: digits alone, no sign, no leading zero, at most AMOUNT_MAX.
local function amount(text)
  if not text or not string.match(text, '^%d+$') or #text > 16 then return nil end
  if #text > 1 and string.sub(text, 1, 1) == '0' then return nil end
  local value = tonumber(text)
  if not (value <= AMOUNT_MAX) then return nil end
  return value
end

-- A count as it lies in a hash: a whole number, `absent` where there is none, nil for rubbish.
local function count(text, absent)
  if not text then return absent end
  return string.match(text, '^-?%d+$') and tonumber(text)
end

-- Redis refuses '-0', so a zero stays as it is.
local function neg(text)
  if text == '0' then return text end
  if string.sub(text, 1, 1) == '-' then return string.sub(text, 2) end
  return '-' .. text
end

local function digits(value) return string.format('%.0f', value) end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- A hold is `checkpoint|items|context`; an item is `owner meter unit amount`, ended by a comma.
local function read_hold(text)
  local checkpoint, items, context = string.match(text, '^(%d+)|([^|]*)|(.*)$')
  if not checkpoint then return nil end
  local list = {}
  for owner, meter, unit, held in string.gmatch(items, '(%S+) (%S+) (%S+) (%d+),') do
    list[#list + 1] = { owner = owner, meter = meter, unit = unit, held = held }
  end
  return { checkpoint = checkpoint, items = list, text = items, context = context }
end

local function declared(from)
  local set = {}
  for i = from, #KEYS do set[KEYS[i]] = true end
  return set
end

-- True when every count that the hold touches can be changed: owner declared, numbers whole.
local function touchable(hold, owners)
  for _, item in ipairs(hold.items) do
    if not owners[item.owner] then return false end
    local field = item.unit == 'pool' and '.b' or '.u'
    local counts = redis.call('HMGET', item.owner, item.meter .. '.h', item.meter .. field)
    if not count(counts[1], 0) or not count(counts[2], 0) then return false end
  end
  return true
end

-- Ends a hold: gives back what it held and books what was used. Only after touchable().
local function end_hold(hold, spent)
  for _, item in ipairs(hold.items) do
    redis.call('HINCRBY', item.owner, item.meter .. '.h', neg(item.held))
    if item.unit == 'pool' then
      redis.call('HINCRBY', item.owner, item.meter .. '.b', neg(spent))
    elseif item.unit == 'ucr' then
      redis.call('HINCRBY', item.owner, item.meter .. '.u', spent)
    end
  end
end

-- What the stream has taken from each pool and budget after the cursor, and what living holds
-- hold of each.
local function spent_since(usage, cursor)
  local spent = {}
  for _, entry in ipairs(redis.call('XRANGE', usage, '(' .. cursor, '+')) do
    local f = {}
    for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
    if f.l == '0' and f.p then
      for name in string.gmatch(f.p .. ' ' .. (f.b or ''), '%S+') do
        spent[name] = (spent[name] or 0) + (amount(f.c) or 0)
      end
    end
  end
  return spent
end

local function held_now(holds)
  local held = {}
  local all = redis.call('HGETALL', holds)
  for i = 2, #all, 2 do
    local hold = read_hold(all[i])
    for _, item in ipairs(hold and hold.items or {}) do
      local name = item.owner .. ':' .. item.meter
      held[name] = (held[name] or 0) + tonumber(item.held)
    end
  end
  return held
end

-- What is left of a meter: of a pool balance - floor - held, of a limit limit - used - held; nil
-- where one of them is rubbish or the first is not there.
local function left_of(owner, meter, unit)
  local top, taken = '.l', '.u'
  if unit == 'pool' then top, taken = '.b', '.f' end
  local p = redis.call('HMGET', owner, meter .. top, meter .. taken, meter .. '.h')
  local a, b, c = count(p[1]), count(p[2], 0), count(p[3], 0)
  return a and b and c and a - b - c
end

-- Its limit, what was used and what is held, as they lie there; a pool has a balance in place of
-- the first two.
local function level_of(owner, meter, unit)
  local p = redis.call('HMGET', owner, meter .. '.l', meter .. '.u', meter .. '.h')
  if unit == 'pool' then return { '', '', p[3] or '0' } end
  return { p[1] or '', p[2] or '0', p[3] or '0' }
end

-- The pool that pays, what it holds, and the budgets that count with it.
local function payers(hold)
  local pool, held, budgets = '', '0', {}
  for _, item in ipairs(hold.items) do
    local name = item.owner .. ':' .. item.meter
    if item.unit == 'pool' then
      pool, held = name, item.held
    elseif item.unit == 'ucr' then
      budgets[#budgets + 1] = name
    end
  end
  return pool, held, table.concat(budgets, ' ')
end

local function hold_text(hold)
  local parts = {}
  for i, item in ipairs(hold.items) do
    parts[i] = item.owner .. ' ' .. item.meter .. ' ' .. item.unit .. ' ' .. item.held .. ','
  end
  return hold.checkpoint .. '|' .. table.concat(parts) .. '|' .. hold.context
end
