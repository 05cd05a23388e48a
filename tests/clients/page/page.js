// A page that registers with JsSIP, says on the console what comes, and answers it. Where and as whom is in the fragment of
// its address: `#server=ws://HOST:PORT&uri=sip:dave@example.org&password=…`, with `&msrp=ws://HOST:PORT` it receives
// over MSRP instead.

const JsSIP = require('jssip');

const query = new URLSearchParams(location.hash.slice(1));
const agent = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(query.get('server'))],
  uri: query.get('uri'),
  password: query.get('password'),
  register_expires: 600,
});

agent.on('registered', () => console.log('registered'));
agent.on('registrationFailed', (event) => console.log(`not registered: ${event.cause}`));
agent.on('newMessage', ({ originator, request }) => {
  if (originator !== 'remote') return;
  console.log(`message from ${request.from.uri}: ${request.body}`);
  agent.sendMessage(request.from.uri.toString(), `answer to ${request.body}`);
});
// Sessions of JsSIP are WebRTC alone: who tries MSRP tells SIP elsewhere.
if (query.get('msrp')) require('./msrp').start(query, (line) => console.log(line));
else agent.start();
