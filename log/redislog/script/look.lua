-- look returns what the server has of the log. It writes nothing.
--
-- KEYS: the events, the meta hash. The answer is described at view. It is empty if the epoch has to
-- be looked at by settle.lua first.
local info = redis.call('INFO', 'replication')
if string.find(info, 'role:slave', 1, true) then
  return redis.error_reply('READONLY the server is a replica')
end
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'base', 'gone', 'gone-n', 'replid', 'bytes')
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
if stream.err then
  if string.find(stream.err, 'no such key', 1, true) then return {} end
  return stream
end
if not meta[1] or meta[5] ~= string.match(info, 'master_replid:(%x+)') then return {} end
local has = {}
for i = 1, #stream, 2 do has[stream[i]] = stream[i + 1] end
return {
  meta[1], meta[2], meta[3], meta[4], has['recorded-first-entry-id'], has['last-generated-id'],
  has['max-deleted-entry-id'], has['length'], has['entries-added'], meta[6],
}
