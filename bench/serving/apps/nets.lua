-- The networks in LuaJIT, with arrays of float by its FFI.

local ffi = require "ffi"
local cjson = require "cjson"

local M = {}

local function read(path)
    local file = assert(io.open(path, "rb"))
    local data = file:read("*a")
    file:close()
    local count = #data / 4
    local array = ffi.new("float[?]", count)
    ffi.copy(array, data, #data)
    return array
end

local WEIGHTS = os.getenv("SERVING_WEIGHTS")
local xor = read(WEIGHTS .. "/xor.f32")         -- 20 x 2, 20, 20, 1
local trained = read(WEIGHTS .. "/xor.f32")
local mlp = read(WEIGHTS .. "/mlp.f32")

local hidden = ffi.new("float[20]")

local function tanh(x)
    return 1 - 2 / (math.exp(2 * x) + 1)
end

local function forward(w, a, b)
    local y = w[80]
    for i = 0, 19 do
        local h = tanh(w[2 * i] * a + w[2 * i + 1] * b + w[40 + i])
        hidden[i] = h
        y = y + w[60 + i] * h
    end
    return y
end

-- Four sums, so that an addition need not wait for the one before it.
local function dense(w, at, x, inputs, y, outputs, relu)
    for o = 0, outputs - 1 do
        local row = at + o * inputs
        local s0, s1, s2, s3 = 0, 0, 0, 0
        for i = 0, inputs - 4, 4 do
            s0 = s0 + w[row + i] * x[i]
            s1 = s1 + w[row + i + 1] * x[i + 1]
            s2 = s2 + w[row + i + 2] * x[i + 2]
            s3 = s3 + w[row + i + 3] * x[i + 3]
        end
        local sum = s0 + s1 + s2 + s3 + w[at + inputs * outputs + o]
        y[o] = (relu and sum < 0) and 0 or sum
    end
    return at + (inputs + 1) * outputs
end

local image = ffi.new("float[784]")
local first = ffi.new("float[512]")
local second = ffi.new("float[512]")
local output = ffi.new("float[10]")

local function run_mlp()
    local at = dense(mlp, 0, image, 784, first, 512, true)
    at = dense(mlp, at, first, 512, second, 512, true)
    dense(mlp, at, second, 512, output, 10, false)
end

local function body()
    ngx.req.read_body()
    -- in parentheses, so that it is one value
    return (assert(ngx.req.get_body_data(), "the body is in a file"))
end

function M.xor()
    local rows = cjson.decode(body())
    for n, row in ipairs(rows) do
        rows[n] = { forward(xor, row[1], row[2]) }
    end
    ngx.print(cjson.encode(rows))
end

function M.mlp()
    local rows = cjson.decode(body())
    for n, row in ipairs(rows) do
        for i = 1, 784 do
            image[i - 1] = row[i]
        end
        run_mlp()
        local answer = {}
        for i = 1, 10 do
            answer[i] = output[i - 1]
        end
        rows[n] = answer
    end
    ngx.print(cjson.encode(rows))
end

function M.mlp_binary()
    ffi.copy(image, body(), 784 * 4)
    run_mlp()
    ngx.print(ffi.string(output, 40))
end

function M.beginning()
    ngx.print(body():sub(1, 4096))
end

-- A step of SGD with the mean squared error of one row.
function M.train()
    local rows = cjson.decode(body())
    local a, b = rows[1][1], rows[1][2]
    local label = a * b > 0 and -1 or 1
    local w = trained
    local slope = 0.01 * 2 * (forward(w, a, b) - label)
    for i = 0, 19 do
        local h = hidden[i]
        local inner = slope * w[60 + i] * (1 - h * h)
        w[60 + i] = w[60 + i] - slope * h
        w[2 * i] = w[2 * i] - inner * a
        w[2 * i + 1] = w[2 * i + 1] - inner * b
        w[40 + i] = w[40 + i] - inner
    end
    w[80] = w[80] - slope
    ngx.print(cjson.encode({ { label } }))
end

return M
