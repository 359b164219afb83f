-- A place is freed by who has it: it may have run out, and be somebody else's by now.
-- KEYS[1] the place, ARGV[1] under which name.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
