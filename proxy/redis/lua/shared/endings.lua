-- endings: how a hold ends: what it held is free again, what was used is booked.

local function declared(from)
  local set = {}
  for i = from, #KEYS do set[KEYS[i]] = true end
  return set
end

-- True when every count that the hold touches can be changed: owner declared, numbers whole. Notes
-- which of its windows are still there.
local function touchable(hold, owners)
  local fields, found = {}, {}
  for _, item in ipairs(hold.items) do
    local owner, meter = item.owner, item.meter
    if not owners[owner] then return false end
    local asked = fields[owner]
    if not asked then asked = {}; fields[owner] = asked end
    local n = #asked
    item.nth = n + 1
    asked[n + 1] = item.part and place(meter, item.part) or meter .. '.h'
    asked[n + 2] = meter .. (item.unit == 'pool' and '.b' or '.u')
    if item.at then asked[n + 3] = meter .. '.w' end
  end
  for owner, asked in pairs(fields) do found[owner] = redis.call('HMGET', owner, unpack(asked)) end
  for _, item in ipairs(hold.items) do
    local counts, nth = found[item.owner], item.nth
    item.counted = count(counts[nth], 0)
    if not item.counted or not count(counts[nth + 1], 0) then return false end
    if item.from then
      item.gone = counts[nth + 2] ~= item.from
    elseif item.part then
      local newest = count(counts[nth + 2], 0)
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

-- What a budget is called in the stream: with its unit and the beginning of its window, but for
-- credits without one.
local function name_of(owner, meter, unit, from)
  local name = owner .. ':' .. meter
  if unit == 'pool' or (unit == 'ucr' and not from) then return name end
  return name .. '@' .. unit .. '@' .. (from or '0')
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

