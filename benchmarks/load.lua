-- Requests for wrk: a GET of PARE_PATH, or with PARE_BODY a POST under a fresh Idempotency-Key each. Prints one line of JSON at the end.
local body = os.getenv("PARE_BODY")
local headers = { ["Authorization"] = "Bearer " .. os.getenv("PARE_KEY"), ["Content-Type"] = "application/json" }
local run, n = tostring(os.time()) .. "-" .. tostring(math.random(1e9)), 0
local path = os.getenv("PARE_PATH")
local threads = {}

function setup(thread) table.insert(threads, thread) end

function init() statuses = "" ; counted = {} end

function request()
  if not body then return wrk.format("GET", path, headers) end
  n = n + 1
  headers["Idempotency-Key"] = run .. "-" .. n
  return wrk.format("POST", path, headers, body)
end

function response(status)
  counted[status] = (counted[status] or 0) + 1
  local parts = {}
  for code, count in pairs(counted) do parts[#parts + 1] = string.format('"%d": %d', code, count) end
  statuses = table.concat(parts, ", ")
end

function done(summary, latency)
  io.write(string.format('{"seconds": %f, "requests": %d, "p50_ms": %f, "p99_ms": %f, "statuses": {%s}}\n',
    summary.duration / 1e6, summary.requests, latency:percentile(50) / 1000, latency:percentile(99) / 1000, threads[1]:get("statuses")))
end
