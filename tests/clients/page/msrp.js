// MSRP over WebSocket (RFC 7977), as much of it as a page needs that receives: it shows the relay who it is, says on the console
// which path it has, takes what comes, and reports it when it is whole.

const { Utils } = require('jssip');

const bytesOf = (data) => (typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data));

// Head lines of a frame by name, its start line, and how much content it has.
function read(bytes) {
  const text = new TextDecoder('latin1').decode(bytes);
  const id = text.split(' ')[1];
  const separated = text.indexOf('\r\n\r\n');
  const head = separated < 0 ? text : text.slice(0, separated);
  const fields = {};
  for (const line of head.split('\r\n').slice(1)) {
    const colon = line.indexOf(':');
    if (colon > 0 && !line.startsWith('-------')) fields[line.slice(0, colon)] = line.slice(colon + 1).trim();
  }
  const end = `\r\n-------${id}$\r\n`.length;
  const size = separated < 0 ? 0 : text.length - separated - 4 - end;
  return { id, word: text.split(/[ \r]/)[2], fields, size };
}

exports.start = (query, say) => {
  const server = new URL(query.get('msrp'));
  const user = query.get('uri').replace(/^sip:/, '').split('@')[0];
  const scheme = server.protocol === 'wss:' ? 'msrps' : 'msrp';
  const relay = `${scheme}://${server.host};ws`;
  const own = `${scheme}://page.invalid:2855/${crypto.randomUUID()};ws`;
  const socket = new WebSocket(server, 'msrp');
  socket.binaryType = 'arraybuffer';
  let received = 0;
  let number = 0;

  const send = (word, to, fields = '') => {
    number += 1;
    const id = `page${String(number).padStart(4, '0')}`;
    socket.send(`MSRP ${id} ${word}\r\nTo-Path: ${to}\r\nFrom-Path: ${own}\r\n${fields}-------${id}$\r\n`);
  };
  const answer = ({ id, fields }) => {
    const back = fields['From-Path'].split(' ')[0];
    socket.send(`MSRP ${id} 200 OK\r\nTo-Path: ${back}\r\nFrom-Path: ${own}\r\n-------${id}$\r\n`);
  };
  const authorize = (challenge) => {
    const value = (name) => new RegExp(`${name}="([^"]*)"`).exec(challenge)[1];
    const [realm, nonce] = [value('realm'), value('nonce')];
    const secret = Utils.calculateMD5(`${user}:${realm}:${query.get('password')}`);
    const what = Utils.calculateMD5(`AUTH:${relay}`);
    const response = Utils.calculateMD5(`${secret}:${nonce}:00000001:page:auth:${what}`);
    send('AUTH', relay, `Authorization: Digest username="${user}", realm="${realm}", nonce="${nonce}", uri="${relay}", ` +
      `response="${response}", algorithm=MD5, qop=auth, cnonce="page", nc=00000001\r\n`);
  };

  socket.onopen = () => send('AUTH', relay);
  socket.onclose = () => say('msrp closed');
  socket.onmessage = ({ data }) => {
    const frame = read(bytesOf(data));
    const { word, fields } = frame;
    if (word === '401') return authorize(fields['WWW-Authenticate']);
    if (fields['Use-Path']) return say(`msrp path ${fields['Use-Path']} ${own}`);
    if (word !== 'SEND') return undefined;
    answer(frame);
    received += frame.size;
    const total = Number(fields['Byte-Range'].split('/')[1]);
    if (total === 0 || received < total) return undefined;
    say(`msrp received ${received} bytes of ${fields['Content-Type']}`);
    const range = `Message-ID: ${fields['Message-ID']}\r\nByte-Range: 1-${total}/${total}\r\n`;
    return send('REPORT', fields['From-Path'], `${range}Status: 000 200 OK\r\n`);
  };
};
