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

-- Windows. A meter x without one has x.l limit, x.u used, x.h held. With a calendar's, x.w is when it
-- began: counts of an earlier one are over. With a rolling one, x.w is the number of its newest
-- part, x.<n> what each of the last RING parts has counted and x.u their sum: the whole of the
-- oldest part counts, so that no span of that length ever sees more than the limit.

local RING = 61 -- 60 parts fill the window, and one has begun

-- By how much a server's clock may stand behind what has begun; beyond, what has begun was an error.
local BEHIND_MAX_MS = 3600000

local function part_of(width, now) return math.floor(now / width) end

local function place(meter, part) return meter .. '.' .. digits(part % RING) end

-- What the parts before `part - 60` have counted, and their fields.
local function faded(owner, meter, newest, part)
  local fields = {}
  for old = math.max(newest - RING + 1, 0), math.min(newest, part - RING) do
    fields[#fields + 1] = place(meter, old)
  end
  if #fields == 0 then return 0, fields end
  local sum = 0
  for i, text in ipairs(redis.call('HMGET', owner, unpack(fields))) do
    local counted = count(text, 0)
    sum = sum and counted and sum + counted
  end
  return sum, fields
end

-- A hold is `checkpoint|items|context`; an item is `owner meter unit amount`, ended by a comma;
-- with a window the unit is followed by `@` and when that began, or by `~`, the width of a part in ms,
-- `:` and the number of the part that counts it.
local function read_hold(text)
  local checkpoint, items, context = string.match(text, '^(%d+)|([^|]*)|(.*)$')
  if not checkpoint then return nil end
  local list = {}
  for owner, meter, unit, held in string.gmatch(items, '(%S+) (%S+) (%S+) (%d+),') do
    local item = { owner = owner, meter = meter, unit = unit, held = held }
    local kind, from, part = string.match(unit, '^%a+([@~])(%d+):?(%d*)$')
    if kind then
      item.unit = string.match(unit, '^%a+')
      item.at = string.sub(unit, #item.unit + 1)
      if kind == '@' then item.from = from else item.width, item.part = tonumber(from), tonumber(part) end
    end
    list[#list + 1] = item
  end
  return { checkpoint = checkpoint, items = list, text = items, context = context }
end

local function declared(from)
  local set = {}
  for i = from, #KEYS do set[KEYS[i]] = true end
  return set
end

-- True when every count that the hold touches can be changed: owner declared, numbers whole. Notes
-- which of its windows are still there.
local function touchable(hold, owners)
  for _, item in ipairs(hold.items) do
    if not owners[item.owner] then return false end
    local field = item.unit == 'pool' and '.b' or '.u'
    local held = item.part and place(item.meter, item.part) or item.meter .. '.h'
    local counts = redis.call('HMGET', item.owner, held, item.meter .. field, item.meter .. '.w')
    if not count(counts[1], 0) or not count(counts[2], 0) then return false end
    item.counted = count(counts[1], 0)
    if item.from then
      item.gone = counts[3] ~= item.from
    elseif item.part then
      local newest = count(counts[3], 0)
      item.gone = not newest or item.part <= newest - RING or item.part > newest
    end
  end
  return true
end

-- Of what was used, what counts on this meter.
local function counted(unit, used)
  if unit == 'call' then return used.calls end
  if unit == 'tok' then return used.tokens end
  if unit == 'slot' then return '0' end
  return used.cost
end

local function rolled_by(item, text)
  redis.call('HINCRBY', item.owner, place(item.meter, item.part), text)
  redis.call('HINCRBY', item.owner, item.meter .. '.u', text)
end

-- Ends a hold: gives back what it held and books what was used (cost, calls, tokens). Only after
-- touchable().
local function end_hold(hold, used)
  for _, item in ipairs(hold.items) do
    local text = counted(item.unit, used)
    if item.gone then -- its window is over
    elseif item.part then
      -- where a clock has jumped the part may have begun anew
      local rest = math.max(tonumber(text) - tonumber(item.held), -item.counted)
      if rest ~= 0 then rolled_by(item, digits(rest)) end
    else
      -- there too a window may have begun anew, without this hold
      if item.from and tonumber(item.held) > item.counted then item.held = digits(math.max(item.counted, 0)) end
      redis.call('HINCRBY', item.owner, item.meter .. '.h', neg(item.held))
      if item.unit == 'pool' then
        redis.call('HINCRBY', item.owner, item.meter .. '.b', neg(text))
      elseif text ~= '0' then
        redis.call('HINCRBY', item.owner, item.meter .. '.u', text)
      end
    end
  end
end

-- What ends with its last request: 40 days are longer than any window.
local NAMED_MS = '3456000000'

-- Owners that exist because requests name them are forgotten, also those that the ledger brought back; not
-- so a job that the API has made, until it is closed.
local function forget_named(owner)
  if not string.find(owner, '}:w:[ej]:') then return end
  if redis.call('HGET', owner, 'st') == 'active' then
    redis.call('PERSIST', owner)
  else
    redis.call('PEXPIRE', owner, NAMED_MS)
  end
end

-- Ends a reservation: what it held is free again, or in the balance. Only after touchable().
local function give_back(holds, name, hold)
  for _, item in ipairs(hold.items) do
    redis.call('HINCRBY', item.owner, item.meter .. '.h', neg(item.held))
  end
  redis.call('HDEL', holds, name)
end

-- What a budget is called in the stream: with its unit and the beginning of its window, but for
-- credits without one.
local function name_of(owner, meter, unit, from)
  local name = owner .. ':' .. meter
  if unit == 'pool' or (unit == 'ucr' and not from) then return name end
  return name .. '@' .. unit .. '@' .. (from or '0')
end

-- The newest of a meter's windows that `found` knows of, by name without the window.
local function newest_window(found, name, from)
  local windows = found.windows[name]
  if windows and tonumber(windows) > tonumber(from) then return windows end
  return from
end

local function note(found, name, value)
  found[name] = (found[name] or 0) + value
  local base, from = string.match(name, '^(.*)@(%d+)$')
  if base and tonumber(from) > tonumber(found.windows[base] or '0') then found.windows[base] = from end
end

-- What the stream has taken from each pool and budget after the cursor, and what living holds
-- hold of each.
local function spent_since(usage, cursor)
  local spent = { windows = {} }
  for _, entry in ipairs(redis.call('XRANGE', usage, '(' .. cursor, '+')) do
    local f = {}
    for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
    if f.l == '0' and f.p then
      local used = { cost = f.c, calls = f.q or '0', tokens = f.n or '0' }
      for name in string.gmatch(f.p .. ' ' .. (f.b or ''), '%S+') do
        local unit = string.match(name, '@(%a+)@%d+$')
        note(spent, name, amount(counted(unit, used)) or 0)
      end
    end
  end
  return spent
end

local function held_now(holds)
  local held = { windows = {} }
  local all = redis.call('HGETALL', holds)
  for i = 2, #all, 2 do
    local hold = read_hold(all[i])
    for _, item in ipairs(hold and hold.items or {}) do
      if item.unit == 'slot' then
        note(held, item.owner .. ':' .. item.meter, tonumber(item.held))
      elseif not item.part then
        note(held, name_of(item.owner, item.meter, item.unit, item.from), tonumber(item.held))
      end
    end
  end
  return held
end

-- How full a meter is, and what has to be written before it counts: {left, limit, used, held, kind,
-- from, width, part, faded fields, faded sum}; left is nil where a count is rubbish or the limit is not
-- there. `window` is empty, `from:to` in ms, or `~` and the width of a part; `limit` is empty where it
-- lies beside the counts.
local function look(owner, meter, unit, window, limit, now)
  if unit == 'pool' then
    local p = redis.call('HMGET', owner, meter .. '.b', meter .. '.f', meter .. '.h')
    local a, b, c = count(p[1], 0), count(p[2], 0), count(p[3], 0)
    return { left = a and b and c and a - b - c, limit = '', used = '', held = p[3] or '0' }
  end
  local p = redis.call('HMGET', owner, meter .. '.l', meter .. '.u', meter .. '.h', meter .. '.w')
  local level = { limit = limit ~= '' and limit or p[1] or '', used = p[2] or '0', held = p[3] or '0' }
  if window == '' then -- none
  elseif string.sub(window, 1, 1) == '~' then
    level.width = tonumber(string.sub(window, 2))
    local newest = count(p[4], 0)
    local part = part_of(level.width, now)
    -- a server whose clock stands behind counts on with the newest part
    level.part = newest and newest * level.width <= now + BEHIND_MAX_MS and math.max(part, newest) or newest and part
    if newest and newest ~= level.part then
      level.rolls = true
      level.faded, level.fields = faded(owner, meter, newest, newest < part and part or newest + RING)
      local used = count(p[2], 0)
      level.used = used and level.faded and digits(used - level.faded)
    end
  else
    level.from = string.match(window, '^%d+')
    local newest = count(p[4], 0)
    -- here too the window that has begun goes on
    if newest and newest > tonumber(level.from) and newest <= now + BEHIND_MAX_MS then level.from = p[4] end
    if p[4] ~= level.from then level.rolls, level.used, level.held = true, '0', '0' end
  end
  local a, b, c = amount(level.limit), count(level.used or 'x', 0), count(level.held, 0)
  if level.width then c = level.part and 0 end
  level.left = a and b and c and a - b - c
  return level
end

-- Begins a window anew, or moves a rolling one on.
local function roll(owner, meter, level)
  if level.from then
    redis.call('HSET', owner, meter .. '.w', level.from, meter .. '.u', '0', meter .. '.h', '0')
    return
  end
  if level.faded and level.faded ~= 0 then
    redis.call('HINCRBY', owner, meter .. '.u', digits(-level.faded))
  end
  if #level.fields > 0 then redis.call('HDEL', owner, unpack(level.fields)) end
  redis.call('HSET', owner, meter .. '.w', digits(level.part))
end

-- When a rolling window has room for `want` again, in ms; empty when it never has.
local function room_at(owner, meter, level, want)
  local lacks, oldest, fields = want - level.left, level.part - RING + 1, {}
  if not (tonumber(level.limit) >= want) then return '' end
  for i = 1, RING do fields[i] = place(meter, oldest + i - 1) end
  for i, text in ipairs(redis.call('HMGET', owner, unpack(fields))) do
    lacks = lacks - (count(text, 0) or 0)
    if lacks <= 0 then return digits((oldest + i - 1 + RING) * level.width) end
  end
  return ''
end

-- The pool that pays, what it holds, and the budgets that count with it.
local function payers(hold)
  local pool, held, budgets = '', '0', {}
  for _, item in ipairs(hold.items) do
    if item.unit == 'pool' then
      pool, held = item.owner .. ':' .. item.meter, item.held
    elseif item.unit ~= 'slot' and not item.part then
      budgets[#budgets + 1] = name_of(item.owner, item.meter, item.unit, item.from)
    end
  end
  return pool, held, table.concat(budgets, ' ')
end

local function hold_text(hold)
  local parts = {}
  for i, item in ipairs(hold.items) do
    parts[i] = item.owner .. ' ' .. item.meter .. ' ' .. item.unit .. (item.at or '') .. ' ' .. item.held .. ','
  end
  return hold.checkpoint .. '|' .. table.concat(parts) .. '|' .. hold.context
end
