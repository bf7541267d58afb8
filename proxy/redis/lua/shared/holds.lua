-- holds: what a request holds, as text and as items; and the counts of rolling windows, which are
-- changed when it is taken and when it ends.

local RING = 61 -- 60 parts fill a rolling window, and one has begun

-- The field that counts one of its parts.
local function place(meter, part) return meter .. '.' .. part % RING end

-- A hold is `checkpoint|items|context`; an item is `owner meter unit amount`, ended by a comma;
-- with a window the unit is followed by `@` and when that began, or by `~`, the width of a part in ms,
-- `:` and the number of the part that counts it.
local function read_hold(text)
  local checkpoint, items, context = match(text, '^(%d+)|([^|]*)|(.*)$')
  if not checkpoint then return nil end
  local list = {}
  for owner, meter, unit, held in string.gmatch(items, '(%S+) (%S+) (%S+) (%d+),') do
    local item = { owner = owner, meter = meter, unit = unit, held = held }
    local kind, from, part = match(unit, '^%a+([@~])(%d+):?(%d*)$')
    if kind then
      item.unit = match(unit, '^%a+')
      item.at = sub(unit, #item.unit + 1)
      if kind == '@' then item.from = from else item.width, item.part = tonumber(from), tonumber(part) end
    end
    list[#list + 1] = item
  end
  return { checkpoint = checkpoint, items = list, text = items, context = context }
end

local function hold_text(checkpoint, items, context)
  local parts = {}
  for i, item in ipairs(items) do
    parts[i] = item.owner .. ' ' .. item.meter .. ' ' .. item.unit .. (item.at or '') .. ' ' .. item.held .. ','
  end
  return checkpoint .. '|' .. table.concat(parts) .. '|' .. context
end

local function rolled_by(item, text)
  redis.call('HINCRBY', item.owner, place(item.meter, item.part), text)
  redis.call('HINCRBY', item.owner, item.meter .. '.u', text)
end

