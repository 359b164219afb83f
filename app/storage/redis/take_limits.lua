-- One of each limit is taken, or nothing of any. A limit is a hash: how many in which slice of time, all of them on this server's
-- clock, so that the clocks of processes do not matter.
-- KEYS the limits. ARGV[1] microseconds to go by instead of the clock, or '', ARGV[2] slices of a window,
-- then for each limit: how many are allowed, and microseconds of a slice.
-- Gives: 1 taken or 0, then for each limit how many are left, and microseconds until there is one more; then the time.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local slices = tonumber(ARGV[2])
local taken, found = 1, {}
for n = 1, #KEYS do
  local most, width = tonumber(ARGV[2 * n + 1]), tonumber(ARGV[2 * n + 2])
  local first = math.floor(now / width) - slices
  local values, live, stale, total = redis.call('HGETALL', KEYS[n]), {}, {}, 0
  for i = 1, #values, 2 do
    local slot, count = tonumber(values[i]), tonumber(values[i + 1])
    if slot < first then
      stale[#stale + 1] = values[i]
    else
      total = total + count
      live[#live + 1] = {slot, count}
    end
  end
  if #stale > 0 then redis.call('HDEL', KEYS[n], unpack(stale)) end
  if total >= most then taken = 0 end
  found[n] = {most, width, total, live}
end
local answer = {taken}
for n = 1, #KEYS do
  local most, width, total, live = unpack(found[n])
  if taken == 1 then
    local slot = math.floor(now / width)
    redis.call('HINCRBY', KEYS[n], string.format('%.0f', slot), 1)
    redis.call('PEXPIRE', KEYS[n], math.ceil((slices + 1) * width / 1000))
    total = total + 1
    live[#live + 1] = {slot, 1}
  end
  table.sort(live, function(a, b) return a[1] < b[1] end)
  local surplus, opens = total - most, now
  for i = 1, #live do
    surplus = surplus - live[i][2]
    if surplus < 0 then
      opens = (live[i][1] + slices + 1) * width
      break
    end
  end
  answer[#answer + 1] = math.max(0, most - total)
  answer[#answer + 1] = opens - now
end
answer[#answer + 1] = string.format('%.0f', now)
return answer
