-- For wrk: sends prepared requests in turn, and says at the end what came of them, as one line of JSON.
--   wrk ... -s load.lua http://address:port -- FILE HOST LIMIT COUNT
-- FILE has a request a line, fields by tabs: method, path, address of the visitor (`*`: a new one each time), User-Agent, Referer
-- (may be empty). They are sent as a balancer passes them on, for HOST. With LIMIT above 0, so many are sent; from then on the
-- last line is asked again and again, whose status must be another one, until as many answers of the others are there. With
-- COUNT 1, answers are counted by status, which takes wrk some time for each.

local ffi = require("ffi")
ffi.cdef("int getpid(void); int kill(int process, int number);")
local INTERRUPT = 2

statuses = {}
local threads = {}
-- wrk asks for one request that it does not send, to see whether it is one.
local requests, sent, limit, other, fresh = {}, -1, 0, nil, 0

function setup(thread)
  threads[#threads + 1] = thread
end

local function prepare(line, host)
  local method, path, address, agent, referer = line:match("^(%S+)\t(%S+)\t(%S+)\t([^\t]*)\t([^\t]*)$")
  local head = method .. " " .. path .. " HTTP/1.1\r\nHost: " .. host .. "\r\nUser-Agent: " .. agent .. "\r\nAccept: */*\r\n"
  if referer ~= "" then
    head = head .. "Referer: " .. referer .. "\r\n"
  end
  head = head .. "X-Forwarded-Proto: https\r\nX-Request-ID: 0b6c0a3e-7c1d-4a55-9d57-3f1f1d0c5a10\r\nX-Forwarded-For: "
  if address == "*" then
    return {head, "\r\n\r\n"}
  end
  return head .. address .. "\r\n\r\n"
end

function init(args)
  for line in io.lines(args[1]) do
    requests[#requests + 1] = prepare(line, args[2])
  end
  limit = tonumber(args[3])
  -- Other visitors in every run.
  fresh = os.time() % 65536 * 65536
  if limit > 0 then
    other = table.remove(requests)
  end
  if args[4] == "1" or limit > 0 then
    local expected = 0
    response = function(status)
      local key = tostring(status)
      statuses[key] = (statuses[key] or 0) + 1
      if limit > 0 and status < 400 then
        expected = expected + 1
        if expected == limit then
          -- As a keystroke would: stopping the thread alone would leave wrk asleep until its time is over.
          ffi.C.kill(ffi.C.getpid(), INTERRUPT)
        end
      end
    end
  end
end

local function text(request)
  if type(request) == "string" then
    return request
  end
  fresh = fresh + 1
  local network = math.floor(fresh / 65536) % 65536
  return request[1] .. string.format("2001:db8:%x:%x::1", network, fresh % 65536) .. request[2]
end

function request()
  if limit > 0 and sent >= limit then
    return text(other)
  end
  sent = sent + 1
  return text(requests[math.max(sent - 1, 0) % #requests + 1])
end

function done(summary, latency)
  local counts = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      counts[#counts + 1] = string.format('"%s": %d', status, count)
    end
  end
  local errors = {}
  for name, count in pairs(summary.errors) do
    errors[#errors + 1] = string.format('"%s": %d', name, count)
  end
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "max": %d, "errors": {%s}, "statuses": {%s}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    table.concat(errors, ", "), table.concat(counts, ", ")
  ))
end
