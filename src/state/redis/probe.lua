-- Does Redis take what a node writes, and what time is it there?
-- KEYS: a key of all nodes. Returns the time: seconds and microseconds.
redis.call('SET', KEYS[1], '', 'PX', 10000)
return redis.call('TIME')
