-- A piece of a run's text joins what is kept of its message, or begins it. The value is a line "seq end message_id", then the text.
-- KEYS: the run's. ARGV: seq, offset and end (16 digits each), message id, text, seconds to live, most bytes of a value.
-- An earlier seq is a dead attempt's: it changes nothing. Text that does not follow on what is kept ends the keeping.
local key, seq, offset, stop, id, text = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local head = redis.call('GETRANGE', key, 0, 34 + #id)
local kept_seq, kept_stop = string.match(head, '^(%d+) (%d+) ')
if kept_seq == nil or #kept_seq ~= 16 or #kept_stop ~= 16 then kept_seq, kept_stop = '', '' end
local same = head == seq .. ' ' .. kept_stop .. ' ' .. id .. '\n'
if same and stop <= kept_stop then
    return 0
elseif offset == '0000000000000000' then
    if kept_seq > seq then return 0 end
    if #text > tonumber(ARGV[7]) then return redis.call('DEL', key) end
    redis.call('SET', key, seq .. ' ' .. stop .. ' ' .. id .. '\n' .. text, 'EX', ARGV[6])
elseif same and offset == kept_stop and redis.call('STRLEN', key) + #text <= tonumber(ARGV[7]) then
    redis.call('APPEND', key, text)
    redis.call('SETRANGE', key, 17, stop)
    redis.call('EXPIRE', key, ARGV[6])
elseif same then
    redis.call('DEL', key)
end
return 0
