-- Requests for wrk: a GET of PARE_PATH, or with PARE_BODY a POST under a fresh Idempotency-Key each. Prints one line of JSON at the end.
local body = os.getenv("PARE_BODY")
local headers = { ["Authorization"] = "Bearer " .. os.getenv("PARE_KEY"), ["Content-Type"] = "application/json" }
local run, n = tostring(os.time()) .. "-" .. tostring(math.random(1e9)), 0
local path = os.getenv("PARE_PATH")
local threads = {}

function setup(thread) table.insert(threads, thread) end

function request()
  if not body then return wrk.format("GET", path, headers) end
  n = n + 1
  headers["Idempotency-Key"] = run .. "-" .. n
  return wrk.format("POST", path, headers, body)
end

-- one global a status: `done` runs elsewhere and can only ask for globals
function response(status)
  local name = "status" .. status
  _G[name] = (_G[name] or 0) + 1
end

function done(summary, latency)
  local parts = {}
  for status = 200, 599 do
    local count = threads[1]:get("status" .. status)
    if count then parts[#parts + 1] = string.format('"%d": %d', status, count) end
  end
  io.write(string.format('{"seconds": %f, "requests": %d, "p50_ms": %f, "p99_ms": %f, "statuses": {%s}}\n',
    summary.duration / 1e6, summary.requests, latency:percentile(50) / 1000, latency:percentile(99) / 1000, table.concat(parts, ", ")))
end
