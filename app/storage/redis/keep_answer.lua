-- An answer is kept, and listed under each of its labels, unless one of them was dropped since the answer was begun.
-- KEYS: the answer's, then those of the labels' drops, then those of their lists. ARGV: the answer, milliseconds to live,
-- its name in the lists, then what the labels' drops were. Lists are ordered by when their answers end, by the server's clock.
local count = (#KEYS - 1) / 2
for n = 1, count do
  if (redis.call('GET', KEYS[1 + n]) or '') ~= ARGV[3 + n] then return 0 end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for n = 1, count do
  local list = KEYS[1 + count + n]
  redis.call('ZREMRANGEBYSCORE', list, '-inf', now)
  redis.call('ZADD', list, now + ARGV[2], ARGV[3])
  if redis.call('PTTL', list) < tonumber(ARGV[2]) then redis.call('PEXPIRE', list, ARGV[2]) end
end
return 1
