// Makes sender-rules.wasm of policy.js: `npm run build`. The contract is in wit/, or where WIT says.
//
// componentize-js puts SpiderMonkey into the component, initialised ahead of time, so that a decision begins where
// policy.js has been read. Everything that would import WASI is off: a policy has no clock, no randomness and no console,
// and what it throws unexpectedly is a trap.

import { readFile, writeFile } from 'node:fs/promises';

import { componentize } from '@bytecodealliance/componentize-js';

const { component, imports } = await componentize(await readFile('policy.js', 'utf8'), {
  witPath: process.env.WIT ?? 'wit',
  worldName: 'policy',
  disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
});
const foreign = imports.filter(([from]) => !from.startsWith('restante:policy/'));
if (foreign.length > 0) throw new Error(`the component imports ${foreign.map(([from]) => from).join(', ')}`);
await writeFile('sender-rules.wasm', component);
console.log(`sender-rules.wasm: ${component.length} bytes`);
