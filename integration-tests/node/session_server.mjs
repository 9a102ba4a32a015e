// A server of revision 2025-11-25 with sessions over HTTP, at the port of its argument or at a free one. It prints its URL, and then each message it gets as JSON: `session`, `method` and
// `params`. How it answers a call of its tool `work`, the argument `how` says.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';

const TOOL = { name: 'work', inputSchema: { type: 'object', properties: { how: { type: 'string' } } } };
// The tool of a session that has grown.
const GROWN = { ...TOOL, name: 'grown' };
const CAPABILITIES = { tools: { listChanged: true }, logging: {}, resources: { subscribe: true } };

// What the server sends by itself, and what the client has subscribed to, by session.
const sessions = new Map();

const event = (message) => `data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`;
const say = ({ stream }, method, params) => stream?.write(event({ method, params }));

const everybody = (method, params) => [...sessions.values()].forEach((session) => say(session, method, params));
const touched = () => {
  const subscribed = [...sessions.values()].filter(({ uris }) => uris.has('test://a'));
  subscribed.forEach((session) => say(session, 'notifications/resources/updated', { uri: 'test://a' }));
};

const results = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: CAPABILITIES,
    serverInfo: { name: 'sessions', version: '1' },
  }),
  'tools/list': (_, { grown }) => ({ tools: grown ? [TOOL, GROWN] : [TOOL] }),
  'resources/list': () => ({ resources: [{ uri: 'test://a', name: 'a' }] }),
  'resources/subscribe': ({ uri }, session) => session.uris.add(uri) && {},
  'resources/unsubscribe': ({ uri }, session) => session.uris.delete(uri) && {},
  'logging/setLevel': () => ({}),
};

// What a call does once it has been carried out.
const works = {
  answer: (response, id) => reply(response, id, { content: [{ type: 'text', text: 'done' }] }),
  // Tells those who have subscribed, and then everybody something else.
  touch: (response, id) => {
    touched();
    everybody('notifications/message', { level: 'error', data: 'touched' });
    works.answer(response, id);
  },
  // The same, and then that a list has changed.
  touch_lists: (response, id) => {
    touched();
    everybody('notifications/resources/list_changed');
    works.answer(response, id);
  },
  // Shows this session another tool.
  grow: (response, id, session) => {
    session.grown = true;
    say(session, 'notifications/tools/list_changed');
    works.answer(response, id);
  },
  break: (response) => response.socket.destroy(),
  break_stream: (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(': begun\n\n', () => response.socket.destroy());
  },
  end_stream: (response) => response.writeHead(200, { 'content-type': 'text/event-stream' }).end(': begun\n\n'),
  refuse: (response) => response.writeHead(400).end('Bad Request: the session has used up its quota'),
  fail: (response) => response.writeHead(503).end('no session is available'),
  hang: () => {},
  hang_stream: (response) => response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': begun\n\n'),
};

function reply(response, id, result) {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ jsonrpc: '2.0', id, result }));
}

async function answer(request, response) {
  const id = request.headers['mcp-session-id'];
  const { method, params, id: of } = request.method === 'POST' ? await json(request) : { method: request.method };
  if (method === 'initialize') {
    const begun = randomUUID();
    sessions.set(begun, { uris: new Set() });
    response.setHeader('mcp-session-id', begun);
    console.log(JSON.stringify({ session: begun, method }));
    return reply(response, of, results.initialize(params));
  }
  const session = sessions.get(id);
  if (!session) {
    return response.writeHead(id ? 404 : 400).end();
  }
  console.log(JSON.stringify({ session: id, method, params }));
  if (method === 'DELETE') {
    sessions.delete(id);
    session.stream?.end();
    response.writeHead(204).end();
  } else if (method === 'GET') {
    session.stream = response;
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
  } else if (of === undefined) {
    response.writeHead(202).end();
  } else if (method === 'tools/call') {
    works[params.arguments.how](response, of, session);
  } else {
    reply(response, of, results[method]?.(params, session) ?? {});
  }
}

const http = createServer(answer);
await once(http.listen(Number(process.argv[2] ?? 0), '127.0.0.1'), 'listening');
console.log(`http://127.0.0.1:${http.address().port}/mcp`);
