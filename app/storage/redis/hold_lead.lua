-- A lead is held longer by who has it. KEYS[1] the lead, ARGV[1] its holder, ARGV[2] milliseconds from now.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
