-- prelude: what every script shares; the loader puts it before each of them, and behind it what a
-- script names in its line `with`.
-- Rules: read all, check all, then write all or nothing. Amounts are strings of digits and go
-- into HINCRBY as they came; a Lua number is only ever compared. The clock is the server's. A call
-- costs the server as much as ten lines do: what lies in one hash is asked for by one.

local match, sub = string.match, string.sub

local AMOUNT_MAX = 9e15

-- An amount as a number, or nil: digits alone, no sign, no leading zero, at most AMOUNT_MAX.
local function amount(text)
  if not text or not match(text, '^%d+$') or #text > 16 then return nil end
  if #text > 1 and sub(text, 1, 1) == '0' then return nil end
  local value = tonumber(text)
  if not (value <= AMOUNT_MAX) then return nil end
  return value
end

-- A count as it lies in a hash: a whole number, `absent` where there is none, nil for rubbish.
local function count(text, absent)
  if not text then return absent end
  return match(text, '^-?%d+$') and tonumber(text)
end

-- Redis refuses '-0', so a zero stays as it is.
local function neg(text)
  if text == '0' then return text end
  if sub(text, 1, 1) == '-' then return sub(text, 2) end
  return '-' .. text
end

local function digits(value) return string.format('%.0f', value) end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

