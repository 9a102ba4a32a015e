// Sends each line of the given file, which is base64, over a connection of its own to an HTTP server of Node.js, closes it, and prints the requests that
// the server has read to their end on each: method, target, version, fields by name, body.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';

// How long a connection may be silent before the program fails, in milliseconds.
const SILENCE = 10_000;

// The requests of each connection: by the client's port, and by the server's socket, which forgets that port when it closes.
const byPort = new Map();
const bySocket = new WeakMap();

function fields(raw) {
  const all = Object.create(null);
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at].toLowerCase();
    all[name] = [...(all[name] ?? []), raw[at + 1]];
  }
  return all;
}

const server = createServer({ maxHeaderSize: 1 << 20 }, (request, response) => {
  const body = [];
  request.on('data', (data) => body.push(data));
  request.on('error', () => {});
  request.on('end', () => {
    const { method, url, httpVersion, rawHeaders, socket } = request;
    bySocket.get(socket).push([method, url, httpVersion, fields(rawHeaders), Buffer.concat(body).toString('base64')]);
    response.end();
  });
});
// The client's end comes with its last request.
server.httpAllowHalfOpen = true;
server.on('connection', (socket) => {
  const requests = [];
  byPort.set(socket.remotePort, requests);
  bySocket.set(socket, requests);
});
server.on('clientError', (_, socket) => socket.destroy());
server.on('connect', (_, socket) => socket.destroy());

function send(message) {
  return new Promise((resolve) => {
    const socket = connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true }, () => {
      const port = socket.localPort;
      socket.on('close', () => resolve(byPort.get(port)));
      socket.on('error', () => {});
      socket.setTimeout(SILENCE, () => {
        console.error(`the server does not close behind ${JSON.stringify(message.toString('latin1'))}`);
        process.exit(1);
      });
      socket.resume();
      socket.end(message);
    });
  });
}

server.listen(0, '127.0.0.1', async () => {
  const all = [];
  for (const line of readFileSync(process.argv[2], 'utf8').split('\n').slice(0, -1)) {
    all.push(await send(Buffer.from(line, 'base64')));
  }
  server.close();
  console.log(JSON.stringify(all));
});
