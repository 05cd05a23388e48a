// Treats messages by a list of rules on who sends them and what they are: the first rule that fits decides whether a
// message is kept, for how long and with which priority, or refused, or dropped. What is kept goes out the plain way.

import { log } from 'restante:policy/log@0.1.0';

const MINUTE = 60_000n;
const DAY = 24n * 60n * MINUTE;
const FEW = 3;
const RETRIES = [MINUTE / 2n, 2n * MINUTE, 10n * MINUTE, 60n * MINUTE];

const rule = {
  type: 'object',
  additionalProperties: false,
  properties: {
    from: { description: 'Senders, such as "*@example.org"; otherwise all.', type: 'string' },
    type: { description: 'Media types, such as "image/*"; otherwise all.', type: 'string' },
    answer: { description: 'What to do.', enum: ['keep', 'refuse', 'drop'], default: 'keep' },
    days: { description: 'Days that it is kept at most.', type: 'integer', minimum: 1, maximum: 30, default: 7 },
    priority: { description: 'Higher goes first.', type: 'integer', minimum: 0, maximum: 255, default: 100 },
  },
};
const schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  additionalProperties: false,
  properties: { rules: { description: 'The first that fits decides.', type: 'array', maxItems: 200, items: rule } },
};

export function describe() {
  return { name: 'sender-rules', version: '0.1.0', settingsSchema: JSON.stringify(schema) };
}

export function checkSettings(text, host) {
  const problems = [];
  const error = (pointer, text) => problems.push({ pointer, severity: 'error', text });
  let settings = {};
  try {
    settings = JSON.parse(text) ?? {};
  } catch (reason) {
    error('', `expected JSON: ${reason.message}`);
  }
  const { rules = [], ...others } = settings;
  for (const name of Object.keys(others)) error(pointer(name), 'is not a setting; expected rules');
  if (!Array.isArray(rules) || rules.length > 200) {
    error('/rules', 'expected a list of at most 200 items');
  } else {
    rules.forEach((value, at) => checkRule(value, (name, text) => error(pointer('rules', at, ...name), text)));
  }
  if (problems.length > 0) throw problems;
  return { normalised: new TextEncoder().encode(JSON.stringify({ rules })), problems };
}

// Holds a rule to its schema.
function checkRule(value, error) {
  if (typeof value !== 'object' || value === null) return error([], 'expected an object');
  for (const [name, part] of Object.entries(value)) {
    const { type, enum: choices, minimum, maximum } = rule.properties[name] ?? {};
    if (choices && !choices.includes(part)) error([name], `expected one of ${choices.join(', ')}`);
    if (type === 'string' && typeof part !== 'string') error([name], 'expected a text');
    if (type === 'integer' && !(Number.isInteger(part) && part >= minimum && part <= maximum)) {
      error([name], `expected a whole number from ${minimum} to ${maximum}`);
    }
    if (!(name in rule.properties)) error([name], `is not part of a rule; expected ${Object.keys(rule.properties).join(', ')}`);
  }
}

export function onIncoming(context, incoming) {
  const { answer = 'keep', days = 7, priority = 100 } = ruleFor(context, incoming) ?? {};
  if (answer === 'refuse') {
    return { tag: 'reject', val: { status: 403, reason: 'Not wanted here' } };
  }
  if (answer === 'drop') {
    log('info', `dropped what ${incoming.sender.address} sent`);
    return { tag: 'discard', val: 'by a rule' };
  }
  const usual = context.now + BigInt(days) * DAY;
  const expiresAt = incoming.expiresAt < usual ? incoming.expiresAt : usual;
  const keep = { expiresAt, priority, deliverNow: true };
  if (expiresAt > context.now) return { tag: 'keep', val: keep };
  // What may not wait is passed on at once, or refused.
  const isThere = incoming.mode === 'page' && incoming.contacts.some((contact) => contact.abilities.pageMode);
  if (isThere) return { tag: 'relay', val: { deadlineMilliseconds: 3_000, contacts: [], otherwise: keep } };
  return { tag: 'reject', val: { status: 480, reason: 'Recipient is not there and the message may not wait' } };
}

function ruleFor(context, incoming) {
  if (incoming.kind !== 'message') return undefined;
  const { rules } = JSON.parse(new TextDecoder().decode(context.settings));
  const type = incoming.wrappedType ?? incoming.contentType;
  return rules.find((rule) => fits(rule.from, incoming.sender.address) && fits(rule.type, type));
}

// Whether a pattern with any number of stars covers a text; no pattern covers everything.
function fits(pattern = '*', text) {
  const [first, ...parts] = pattern.toLowerCase().split('*');
  const rest = text.toLowerCase();
  if (parts.length === 0) return rest === first;
  if (!rest.startsWith(first)) return false;
  const last = parts.pop();
  let at = first.length;
  for (const part of parts) {
    const found = rest.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return rest.length - last.length >= at && rest.endsWith(last);
}

export function onAvailable(context, availability) {
  const waits = (message) => context.recipient.delivery === 'hold' || message.notBefore > context.now;
  const ready = availability.messages.filter((message) => !waits(message));
  const canPage = (message) => message.pageBytes <= context.host.maxPageBytes && !message.pageRefused
    && availability.contacts.some((contact) => contact.abilities.pageMode);
  const few = ready.length <= FEW && availability.notShown === 0;
  const step = (tag, messages) => ({ tag, val: { messages: messages.map((message) => message.id), target: { tag: 'any' } } });
  const canSession = availability.contacts.some((contact) => contact.abilities.largeMessageMode);
  const paged = ready.filter((message) => canPage(message) && (few || !canSession || message.kind === 'disposition'));
  const steps = paged.length > 0 ? [step('page', paged)] : [];
  if (canSession) {
    const rest = ready.filter((message) => !paged.includes(message));
    for (const kind of ['message', 'disposition']) {
      for (const sender of new Set(rest.filter((message) => message.kind === kind).map((message) => message.sender))) {
        steps.push(step('session', rest.filter((message) => message.kind === kind && message.sender === sender)));
      }
    }
  }
  return { steps, askAgainAt: undefined };
}

export function onPull(context, pull) {
  if (pull.verification === 'none') {
    return { tag: 'refuse', val: { status: 403, reason: 'Identity is not established' } };
  }
  const isAsked = ({ id }) => pull.selection.tag === 'all' || pull.selection.val.includes(id);
  const messages = pull.messages.filter(isAsked).map(({ id }) => id);
  return { tag: 'send', val: { messages, mode: 'large', keepCopy: false } };
}

export function onFailure(context, failure) {
  return failure.messages.map(({ message }) => {
    const afterMilliseconds = RETRIES[message.attempts - 1];
    const action = afterMilliseconds === undefined ? { tag: 'wait' } : { tag: 'retry', val: { afterMilliseconds } };
    return { message: message.id, action };
  });
}

export function onExpiry(context, messages) {
  return messages.map(({ message }) => ({
    message: message.id,
    action: { tag: 'drop', val: message.kind === 'message' },
  }));
}

// A JSON pointer (RFC 6901).
function pointer(...names) {
  return names.map((name) => `/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}
