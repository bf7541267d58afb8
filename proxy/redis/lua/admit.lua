-- admit: may this request run? Takes its hold on every meter, or takes nothing.
-- call:  Shards.admit (proxy/redis/shards.py)
-- with:  holds, levels
-- KEYS:  1 meta  2 hold  3 lease  4 usage  5 key record  6 organisation record  7.. further owners
--        those that are made by being named stand last: an end user, a job, and the list of them
-- ARGV:  1 rid  2 lease_ms  3 key version  4 organisation version  5 context  6 backlog_max
--        7 ceiling of the job, or empty  8 how many owners are made here  9 how many may be
--        10 how long each of them lives, ms, by spaces; then per meter: index of its owner in KEYS, meter, unit, amount,
--        window (see look), limit (empty: beside the counts), way of payment (0: counts on every way)
-- reply: {OK, way, left...} per meter | {NOTREADY} | {STALE, key fields..., organisation fields...}
--        | {KEY} revoked or expired | {ORG} suspended | {CLOCK, the server's time in ms}
--        | {LIMIT, nth meter, left, limit, used, held, ms when there is room, the server's time} as of limits
--        | {JOB, its ceiling} another one was set before | {CLOSED} job | {MANY} owners | {BAD, what}
-- layout: see holds and levels

local METER = 7 -- arguments of each

local meta, holds, leases, usage, key, org = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local rid, lease_ms, context, ceiling = ARGV[1], amount(ARGV[2]), ARGV[5], ARGV[7]

local state = redis.call('HMGET', meta, 'gen', 'fenced')
if not state[1] or state[2] then return { 'NOTREADY' } end

-- each owner is asked once, the records for themselves too
local asked, first = { ['5'] = { 'ver', 'st', 'exp' }, ['6'] = { 'ver', 'st' } }, {}
if (#ARGV - 10) % METER ~= 0 then return { 'BAD', 'arguments' } end
for at = 11, #ARGV, METER do
  local place, meter = ARGV[at], ARGV[at + 1]
  if not KEYS[tonumber(place)] then return { 'BAD', meter } end
  if not asked[place] then asked[place] = {} end
  first[at] = ask(asked[place], meter, ARGV[at + 2], ARGV[at + 4])
end
local found = {}
for place, fields in pairs(asked) do
  found[place] = redis.call('HMGET', KEYS[tonumber(place)], unpack(fields))
end
local k, o = found['5'], found['6']
if k[1] ~= ARGV[3] or o[1] ~= ARGV[4] then
  k = redis.call('HMGET', key, 'ver', 'st', 'body', 'digest', 'exp')
  o = redis.call('HMGET', org, 'ver', 'st', 'body')
  return { 'STALE', k[1], k[2], k[3], k[4], k[5], o[1], o[2], o[3] }
end
local now = now_ms()
if k[2] ~= 'active' then return { 'KEY' } end
if k[3] and k[3] ~= '0' and not (now < (tonumber(k[3]) or 0)) then return { 'KEY' } end
if o[2] ~= 'active' then return { 'ORG' } end
local backlog_max, made, made_max = amount(ARGV[6]), amount(ARGV[8]), amount(ARGV[9])
if not (lease_ms and backlog_max and made and made_max) then
  return { 'BAD', 'arguments' }
end

-- a request that holds already is answered as the first time
local before = redis.call('HGET', holds, rid)
redis.call('ZSCORE', leases, rid)
-- the ledger is too far behind: what it has not booked is bounded
if not before and redis.call('XLEN', usage) >= backlog_max then return { 'NOTREADY' } end

-- the first ceiling of a job stands; one that the API has made lies there by itself, until it is closed
local job, kept = ceiling ~= '' and KEYS[#KEYS - 1] or '', false
if ceiling ~= '' then
  local set = redis.call('HMGET', job, 'bud.l', 'st')
  if not amount(ceiling) or made == 0 then return { 'BAD', 'ceiling' } end
  if set[1] and set[1] ~= ceiling then return { 'JOB', set[1] } end
  if set[2] == 'closed' and not before then return { 'CLOSED' } end
  kept = set[2] == 'active'
end
local function passes(owner) return not (kept and owner == job) end

local list, lives = KEYS[#KEYS], {}
for life in string.gmatch(ARGV[10], '%d+') do lives[#lives + 1] = amount(life) end
if #lives ~= made then return { 'BAD', 'lives' } end
for i = #KEYS - made, #KEYS - 1 do
  local is_new = passes(KEYS[i]) and not redis.call('ZSCORE', list, KEYS[i])
  if is_new and redis.call('ZCOUNT', list, digits(now), '+inf') >= made_max then return { 'MANY' } end
end

-- ways of payment are tried in their order; one that a meter of it refuses pays nothing
local reply, items, wants, paying = { 'OK', '0' }, {}, {}, 0
local way, failed, refused, most = '0', nil, nil, 0
for at = 11, #ARGV, METER do
  local place, meter, unit, want = ARGV[at], ARGV[at + 1], ARGV[at + 2], wants[ARGV[at + 3]]
  if not want then
    want = amount(ARGV[at + 3])
    if not want then return { 'BAD', meter } end
    wants[ARGV[at + 3]] = want
  end
  local window, limit, of = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local nth = (at - 11) / METER + 1
  if of ~= '0' and (of == failed or (way ~= '0' and of ~= way)) then
    reply[nth + 2] = 0
  else
    local from, to
    if window ~= '' then from, to = string.match(window, '^(%d+):(%d+)$') end
    if from and not before and not (tonumber(from) <= now and now < tonumber(to)) then return { 'CLOCK', digits(now) } end
    local owner = KEYS[tonumber(place)]
    local level = look(found[place], first[at], owner, meter, unit, window, limit, now)
    -- the positive form, because a NaN makes every comparison false; what costs nothing needs nothing
    local fits = level.left and (want == 0 or level.left - want >= 0)
    if before then fits, want = true, 0 end
    if fits then
      reply[nth + 2] = (level.left or 0) - want
      -- from here on it is what the hold says of this meter
      level.held = ARGV[at + 3]
      if limit ~= '' then level.named = limit end
      if of ~= '0' then way, paying = of, paying + 1 end
      items[#items + 1] = level
    else
      local room = level.width and level.left and room_at(owner, meter, level, want) or to or ''
      local left = level.left or 0
      local no = { 'LIMIT', digits(nth), digits(left), level.limit, level.used or '0', level.held, room, digits(now) }
      if of == '0' then return no end
      -- where no way carries it, the one that has most left is told
      if not refused or left > most then refused, most = no, left end
      for _ = 1, paying do items[#items] = nil end
      reply[nth + 2], failed, way, paying = 0, of, '0', 0
    end
  end
end
if refused and way == '0' then return refused end
reply[2] = way

if before then
  -- the way that it took: its pool is among the items
  local hold = read_hold(before)
  for _, item in ipairs(hold and hold.items or {}) do
    for at = 11, #ARGV, METER do
      if item.unit == 'pool' and KEYS[tonumber(ARGV[at])] == item.owner and ARGV[at + 1] == item.meter then
        reply[2] = ARGV[at + 6]
      end
    end
  end
  return reply
end

-- writes only from here
if made > 0 then redis.call('ZREMRANGEBYSCORE', list, '-inf', digits(now)) end
for nth, life in ipairs(lives) do
  local owner = KEYS[#KEYS - made + nth - 1]
  if passes(owner) then redis.call('ZADD', list, digits(now + life), owner) end
end
for _, item in ipairs(items) do
  if item.rolls then roll(item) end
  if item.named then redis.call('HSET', item.owner, item.meter .. '.l', item.named) end
  if item.part then
    rolled_by(item, item.held)
  else
    redis.call('HINCRBY', item.owner, item.meter .. '.h', item.held)
  end
end
for nth, life in ipairs(lives) do
  local owner = KEYS[#KEYS - made + nth - 1]
  if passes(owner) then redis.call('PEXPIRE', owner, digits(life)) end
end
redis.call('HSET', holds, rid, hold_text('0', items, context))
redis.call('ZADD', leases, digits(now + lease_ms), rid)
return reply
