-- append appends records, and drops the oldest ones beyond the bounds.
--
-- KEYS: the events, the meta hash, the keys, the older keys, the marks, the orders.
-- ARGV: the newest record that the caller has seen: its epoch, and the two parts of its id; the
-- bounds: events, bytes, milliseconds; for how many milliseconds keys are remembered, and how many;
-- and two for each record: what it is, and its form. What it is begins with an o if it is of the
-- topic "", and has a k and the key if it has one.
--
-- The answer is the epoch, its base, and the ids of the records; or empty if settle.lua has to look
-- at the epoch first. After an error that does not begin with PARTLY, nothing is appended.
local info = redis.call('INFO', 'replication')
if string.find(info, 'role:slave', 1, true) then
  return redis.error_reply('READONLY the server is a replica')
end
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'base', 'replid', 'last', 'n', 'bytes', 'mark-n', 'mark-bytes', 'mark-ms', 'rotated')
if not meta[1] or meta[3] ~= string.match(info, 'master_replid:(%x+)') then return {} end

local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function text(n) return string.format('%.0f', n) end

local ms, seq = parts(meta[4] or '0-0')
if meta[1] == ARGV[1] then
  local seenms, seenseq = tonumber(ARGV[2]), tonumber(ARGV[3])
  if ms < seenms or ms == seenms and seq < seenseq then
    -- The hash does not know of it; the stream may.
    local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
    if stream.err then return {} end
    for i = 1, #stream, 2 do
      if stream[i] == 'last-generated-id' then ms, seq = parts(stream[i + 1]) end
    end
    if ms < seenms or ms == seenms and seq < seenseq then return {} end
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The ids are the server's clock. If it was set back, they count on in the last millisecond; before
-- they have no room there, they begin the next one.
local limit = 1048576
local first = '*'
if seq + #ARGV >= limit and now <= ms then first = text(ms + 1) .. '-0' end

local answer = {meta[1], meta[2]}
local n, bytes = tonumber(meta[5]), tonumber(meta[6])
local last = false

-- rotate forgets keys that are old, or too many.
local function rotate()
  local age, window = now - tonumber(meta[10] or 0), tonumber(ARGV[7])
  if age >= 0 and age < window and redis.call('HLEN', KEYS[3]) < tonumber(ARGV[8]) then return end
  redis.call('UNLINK', KEYS[4])
  if age >= 2 * window then
    redis.call('UNLINK', KEYS[3])
  elseif redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('RENAME', KEYS[3], KEYS[4])
  end
  redis.call('HSET', KEYS[2], 'rotated', text(now))
end

-- add appends the records. It returns false if there is no stream.
local function add()
  local rotated = false
  for i = 9, #ARGV, 2 do
    local what, id = ARGV[i], false
    local key = string.match(what, '^o?k(.*)$')
    if key then
      if not rotated then rotate() end
      rotated = true
      id = redis.call('HGET', KEYS[3], key) or redis.call('HGET', KEYS[4], key)
    end
    if not id then
      id = redis.call('XADD', KEYS[1], 'NOMKSTREAM', last and '*' or first, 'e', ARGV[i + 1])
      if not id then return false end
      last = id
      n, bytes = n + 1, bytes + #ARGV[i + 1]
      if key then redis.call('HSET', KEYS[3], key, id) end
      if string.sub(what, 1, 1) == 'o' then redis.call('XADD', KEYS[6], id, 'e', ARGV[i + 1]) end
    end
    answer[#answer + 1] = id
  end
  -- This is written even if all keys were known, so that WAIT waits for the earlier records too.
  redis.call('HSET', KEYS[2], 'last', last or meta[4] or '0-0', 'n', text(n), 'bytes', text(bytes))
  return true
end

-- trim drops the oldest records beyond the bounds. Marks are places in the stream where it can be cut.
-- There are some for each of its bounds.
local function trim()
  local ms = parts(last)
  local maxn, maxbytes, maxage = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
  if n - tonumber(meta[7] or 0) < maxn / 50 and bytes - tonumber(meta[8] or 0) < maxbytes / 50 and ms - tonumber(meta[9] or 0) < maxage / 50 then
    return
  end
  redis.call('RPUSH', KEYS[5], text(n) .. ' ' .. text(bytes) .. ' ' .. last)
  redis.call('HSET', KEYS[2], 'mark-n', text(n), 'mark-bytes', text(bytes), 'mark-ms', text(ms))
  local gone, gonen
  while true do
    local mark = redis.call('LINDEX', KEYS[5], 0)
    if not mark then break end
    local markn, markbytes, id = string.match(mark, '^(%d+) (%d+) (.*)$')
    local markms = parts(id)
    if n - markn < maxn and bytes - markbytes < maxbytes and ms - markms < maxage then break end
    if id == last then break end -- the newest record stays
    redis.call('LPOP', KEYS[5])
    gone, gonen = id, markn
  end
  if gone then
    local gonems, goneseq = parts(gone)
    local next = text(gonems) .. '-' .. text(goneseq + 1)
    redis.call('XTRIM', KEYS[1], 'MINID', '=', next)
    redis.call('XTRIM', KEYS[6], 'MINID', '=', next)
    redis.call('HSET', KEYS[2], 'gone', gone, 'gone-n', gonen)
  end
end

local ok, err = pcall(function()
  if not add() then answer = {} end
  if last then trim() end
end)
if ok then return answer end
err = type(err) == 'table' and err.err or tostring(err)
if last then err = 'PARTLY ' .. err end
return redis.error_reply(err)
