-- levels: how full a meter is, and its windows.
-- A meter x without a window has x.l limit, x.u used, x.h held. With a calendar's, x.w is when it
-- began: counts of an earlier one are over. With a rolling one, x.w is the number of its newest
-- part, x.<n> what each of the last RING parts has counted and x.u their sum: the whole of the
-- oldest part counts, so that no span of that length ever sees more than the limit. A pool is x.b
-- balance, x.f floor, x.h held.

-- By how much a server's clock may stand behind what has begun; beyond, what has begun was an error.
local BEHIND_MAX_MS = 3600000

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

-- Asks for a meter's fields behind those that its owner is asked for anyhow; where they begin.
local function ask(fields, meter, unit, window)
  local n = #fields
  if unit == 'pool' then
    fields[n + 1], fields[n + 2], fields[n + 3] = meter .. '.b', meter .. '.f', meter .. '.h'
  else
    fields[n + 1], fields[n + 2], fields[n + 3] = meter .. '.l', meter .. '.u', meter .. '.h'
    if window ~= '' then fields[n + 4] = meter .. '.w' end
  end
  return n + 1
end

-- How full a meter is, and what has to be written before it counts: {left, limit, used, held, at, from,
-- width, part, rolls, faded fields, faded sum}; left is nil where a count is rubbish or the limit is
-- not there. `p` has its fields, from `nth` on. `window` is empty, `from:to` in ms, or `~` and the width
-- of a part; `limit` is empty where it lies beside the counts.
local function look(p, nth, owner, meter, unit, window, limit, now)
  if unit == 'pool' then
    local a, b, c = count(p[nth], 0), count(p[nth + 1], 0), count(p[nth + 2], 0)
    return {
      owner = owner, meter = meter, unit = unit, limit = '', used = '', held = p[nth + 2] or '0',
      left = a and b and c and a - b - c,
    }
  end
  local level = {
    owner = owner, meter = meter, unit = unit, left = nil,
    limit = limit ~= '' and limit or p[nth] or '', used = p[nth + 1] or '0', held = p[nth + 2] or '0',
  }
  if window == '' then -- none
  elseif sub(window, 1, 1) == '~' then
    level.width = tonumber(sub(window, 2))
    local newest = count(p[nth + 3], 0)
    local part = math.floor(now / level.width)
    -- a server whose clock stands behind counts on with the newest part
    level.part = newest and newest * level.width <= now + BEHIND_MAX_MS and math.max(part, newest) or newest and part
    if newest and newest ~= level.part then
      level.rolls = true
      level.faded, level.fields = faded(owner, meter, newest, newest < part and part or newest + RING)
      local used = count(p[nth + 1], 0)
      level.used = used and level.faded and digits(used - level.faded)
    end
    level.at = level.part and window .. ':' .. digits(level.part)
  else
    level.from = match(window, '^%d+')
    local newest, begun = count(p[nth + 3], 0), p[nth + 3]
    -- here too the window that has begun goes on
    if newest and newest > tonumber(level.from) and newest <= now + BEHIND_MAX_MS then level.from = begun end
    if begun ~= level.from then level.rolls, level.used, level.held = true, '0', '0' end
    level.at = '@' .. level.from
  end
  local a, b, c = amount(level.limit), count(level.used or 'x', 0), count(level.held, 0)
  if level.width then c = level.part and 0 end
  level.left = a and b and c and a - b - c
  return level
end

-- The same of one meter alone.
local function look_at(owner, meter, unit, window, limit, now)
  local fields = {}
  local nth = ask(fields, meter, unit, window)
  return look(redis.call('HMGET', owner, unpack(fields)), nth, owner, meter, unit, window, limit, now)
end

-- Begins a window anew, or moves a rolling one on.
local function roll(level)
  local owner, meter = level.owner, level.meter
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

