-- What plugin/standard decides in on-available, in Lua, rule for rule (plugin/sdk/src/usual/available.rs and gate.rs,
-- plugin/sdk/src/plan.rs). Loaded once; its state is used again for every decision, as scripted servers do.

local settings = { few = 3, fetch = 600000, most_attempts = 4, delivery = "push" }
local MIN_FETCH = 1000

local function set(list)
  local result = {}
  for _, value in ipairs(list) do result[value] = true end
  return result
end

local FORM_BY_DEVICE = set { 400, 405, 406, 413, 415, 420, 488, 500, 501, 606 }
local FORM = set { 405, 415, 488, 501 }

local function refuses_form(result)
  if not result.status then return false end
  if result.origin == "device" then return FORM_BY_DEVICE[result.status] or false end
  if result.origin == "core" then return FORM[result.status] or false end
  return false
end

local function has(contact, ability)
  for _, name in ipairs(contact.abilities) do
    if name == ability then return true end
  end
  return false
end

local function ways_of(max_page_bytes, contacts)
  local ways = { page = false, max_page_bytes = max_page_bytes }
  local first, healthy
  for _, contact in ipairs(contacts) do
    if has(contact, "page-mode") then ways.page = true end
    if has(contact, "large-message-mode") then
      first = first or contact
      if not contact["last-failure"] then healthy = healthy or contact end
    end
  end
  ways.large = healthy or first
  if ways.large and has(ways.large, "cpm-deferred") then ways.shared = ways.large.id end
  return ways
end

local function fits_page(ways, message)
  return message["page-bytes"] ~= nil and message["page-bytes"] <= ways.max_page_bytes
end

local function can_page(ways, message)
  return ways.page and not message["page-refused"] and fits_page(ways, message)
end

local function can_session(ways, message)
  return ways.large ~= nil and not message["large-refused"]
end

local Planner = {}
Planner.__index = Planner

local function add(step, message)
  local messages = step.messages
  messages[#messages + 1] = message.id
end

function Planner:append(name, step)
  self.steps[#self.steps + 1] = { [name] = step }
end

function Planner:page(message)
  local last = self.steps[#self.steps]
  if last and last.page then
    add(last.page, message)
  else
    self:append("page", { messages = { message.id }, target = "any" })
  end
end

function Planner:session(message)
  local shared = self.ways.shared
  local group = message.kind .. "\0" .. (shared and "" or message.sender)
  local known = (shared or message.sender ~= "") and self.sessions[group]
  if known then
    add(known, message)
    return
  end
  local step = { messages = { message.id }, target = shared and { contact = shared } or "any" }
  self.sessions[group] = step
  self:append("session", step)
end

function Planner:notify(message, deadline, afterwards)
  for _, step in ipairs(self.steps) do
    local notify = step.notify
    if notify and notify["fetch-deadline"] == deadline and notify.afterwards == afterwards then
      add(notify, message)
      return
    end
  end
  self:append("notify", { messages = { message.id }, ["fetch-deadline"] = deadline, afterwards = afterwards })
end

function Planner:hold(message, until_)
  if until_ then self.again = math.min(self.again or until_, until_) end
  local last = self.steps[#self.steps]
  if last and last.hold and last.hold["until"] == until_ then
    add(last.hold, message)
  else
    self:append("hold", { messages = { message.id }, ["until"] = until_ })
  end
end

-- "ready", or "waits" and until when; nil: until the recipient is heard of.
local function pass(gate, message)
  local not_before = message["not-before"]
  if gate.closed then
    if gate.until_ == nil then return "waits", nil end
    return "waits", math.max(gate.until_, not_before or 0)
  end
  local failure = message["last-failure"]
  local of_form = failure and refuses_form(failure)
  local until_
  if failure and not of_form and not gate.reopened and message.attempts > settings.most_attempts then
    until_ = nil
  elseif not_before and not gate.begins_anew and not_before > gate.now then
    until_ = not_before
  else
    return "ready"
  end
  if not of_form then gate.closed, gate.until_ = true, until_ end
  return "waits", until_
end

local function push(situation, planner, message)
  local page, session = can_page(situation.ways, message), can_session(situation.ways, message)
  if page and (situation.few or message.kind == "disposition" or not session) then
    planner:page(message)
  elseif session then
    planner:session(message)
  elseif situation.can_notify and not message["notified-at"] and message.kind == "message" then
    planner:notify(message, situation.fetch_deadline, "ask")
  else
    local deadline = message["fetch-deadline"]
    planner:hold(message, deadline and deadline > situation.now and deadline or nil)
  end
end

local function place(situation, planner, message)
  local announce = situation.announce and message.kind == "message"
  local deadline = message["fetch-deadline"]
  if announce and deadline and deadline > situation.now then
    if situation.registered and deadline >= situation.now + MIN_FETCH then
      planner:notify(message, deadline, "push")
    else
      planner:hold(message, deadline)
    end
  elseif announce and not deadline and not (situation.few and can_page(situation.ways, message)) then
    planner:notify(message, situation.fetch_deadline, "push")
  else
    push(situation, planner, message)
  end
end

function on_available(context, availability, max_page_bytes)
  local delivery = context.recipient.delivery or settings.delivery
  local ways = ways_of(max_page_bytes, availability.contacts)
  local planner = setmetatable({ ways = ways, steps = {}, sessions = {} }, Planner)
  local trigger = availability.trigger
  local begins_anew = trigger == "registered" or trigger == "operator"
  local gate = { now = context.now, begins_anew = begins_anew, reopened = begins_anew or trigger == "refreshed" }
  local ready, count, all_fit = {}, availability["not-shown"], true
  for _, message in ipairs(availability.messages) do
    if delivery == "hold" then
      planner:hold(message, nil)
    else
      local readiness, until_ = pass(gate, message)
      if readiness == "ready" then
        ready[#ready + 1] = message
        if message.kind == "message" then
          count = count + 1
          all_fit = all_fit and fits_page(ways, message)
        end
      else
        planner:hold(message, until_)
      end
    end
  end
  local situation = {
    now = context.now,
    fetch_deadline = context.now + settings.fetch,
    registered = trigger == "registered",
    can_notify = availability["can-notify"],
    announce = delivery == "pull" and availability["can-notify"],
    few = count <= settings.few and all_fit,
    ways = ways,
  }
  for _, message in ipairs(ready) do place(situation, planner, message) end
  return { steps = planner.steps, ["ask-again-at"] = planner.again }
end
