-- ledger: what the scripts share that compare Redis with the ledger, or bring changes from there.

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

