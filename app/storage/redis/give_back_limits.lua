-- One of each limit was not taken after all. KEYS the limits, ARGV[1] when it was, in microseconds, then microseconds of a slice of each.
for n = 1, #KEYS do
  local slot = string.format('%.0f', math.floor(tonumber(ARGV[1]) / tonumber(ARGV[1 + n])))
  if redis.call('HEXISTS', KEYS[n], slot) == 1 and redis.call('HINCRBY', KEYS[n], slot, -1) < 1 then
    redis.call('HDEL', KEYS[n], slot)
  end
end
return 1
