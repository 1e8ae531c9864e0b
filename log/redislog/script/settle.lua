-- settle begins another epoch if the server does not have, or need not have, all that it had in the
-- epoch so far. It creates the log if there is none.
--
-- KEYS: the events, the meta hash, the keys, the older keys, the marks, the orders.
-- ARGV: the next epoch; the newest record that the caller has seen: its epoch, and the two parts of
-- its id; whether the log may be created: 1 or 0.
--
-- The answer is {epoch, why it is another one than before, or ""}, or empty if there is no log.
local info = redis.call('INFO', 'replication')
if string.find(info, 'role:slave', 1, true) then
  return redis.error_reply('READONLY the server is a replica')
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local replid = string.match(info, 'master_replid:(%x+)')
local replid2 = string.match(info, 'master_replid2:(%x+)')
if not run or not replid or not replid2 then
  return redis.error_reply('ERR INFO has no run_id, master_replid or master_replid2')
end
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'run', 'replid', 'gone', 'gone-n', 'bytes')
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
local has = nil
if not stream.err then
  has = {}
  for i = 1, #stream, 2 do has[stream[i]] = stream[i + 1] end
  if not has['entries-added'] then return redis.error_reply('ERR XINFO STREAM has no entries-added') end
elseif not string.find(stream.err, 'no such key', 1, true) then
  return stream
end

local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local why = ''
if not has and not meta[1] then
  why = 'there was no log'
elseif not has then
  why = 'the stream was gone'
elseif not meta[1] then
  why = 'the hash with the epoch was gone'
elseif meta[2] ~= run then
  why = 'the server was restarted, or another one has taken its place'
elseif meta[3] ~= replid and string.find(replid2, '[^0]') then
  why = 'the server has been a replica meanwhile'
elseif meta[1] == ARGV[2] then
  local ms, seq = parts(has['last-generated-id'])
  local seenms, seenseq = tonumber(ARGV[3]), tonumber(ARGV[4])
  if ms < seenms or ms == seenms and seq < seenseq then
    why = 'the stream does not have all that this hub has seen'
  end
end
-- dropped returns the newest id that may have been dropped, and how many were dropped or deleted.
local function dropped()
  if has['length'] == 0 then return has['last-generated-id'], has['entries-added'] end
  local ms, seq = parts(has['recorded-first-entry-id'])
  if seq == 0 then ms, seq = ms - 1, 1048576 end
  return string.format('%.0f-%.0f', ms, seq - 1), has['entries-added'] - has['length']
end

if why == '' then
  if meta[3] ~= replid then redis.call('HSET', KEYS[2], 'replid', replid) end
  if has['length'] + meta[5] < has['entries-added'] then -- somebody else has dropped some
    local gone, gonen = dropped()
    redis.call('HSET', KEYS[2], 'gone', gone, 'gone-n', gonen, 'n', has['entries-added'])
  end
  return {meta[1], ''}
end
if not has and ARGV[5] ~= '1' then return {} end

local base, gone, n, gonen, bytes
if not has then
  local time = redis.call('TIME')
  base = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
  gone = redis.call('XADD', KEYS[1], base .. '-0', 'e', '')
  redis.call('XTRIM', KEYS[1], 'MAXLEN', '0')
  n, gonen, bytes = 1, 1, 0
else
  local ms = parts(has['last-generated-id'])
  if has['length'] > 0 then ms = parts(has['recorded-first-entry-id']) - 1 end
  base = string.format('%.0f', ms)
  n, gone, gonen, bytes = has['entries-added'], meta[4], meta[5], meta[6] or 0
  if not meta[1] then
    gone, gonen = dropped()
    redis.call('DEL', KEYS[5])
  end
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'run', run, 'replid', replid, 'base', base, 'gone', gone, 'gone-n', gonen, 'n', n, 'bytes', bytes)
return {ARGV[1], why}
