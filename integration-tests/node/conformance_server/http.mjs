// Streamable HTTP on a free port of the loopback interface.
import {
  localhostHostValidation,
  localhostOriginValidation,
  NodeStreamableHTTPServerTransport,
  toNodeHandler,
} from '@modelcontextprotocol/node';
import { createMcpHandler, isLegacyRequest } from '@modelcontextprotocol/server';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { keepCurrent, notifyWith } from './changes.mjs';
import { Events } from './events.mjs';
import { makeServer } from './server.mjs';

// How soon a client is to resume a stream.
const RETRY_MS = 100;

const isLocalHost = localhostHostValidation();
const isLocalOrigin = localhostOriginValidation();

// Answers requests of sessions.
function legacy() {
  const sessions = new Map();
  const open = async () => {
    const server = makeServer();
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, transport),
      eventStore: new Events(),
      retryInterval: RETRY_MS,
    });
    await server.connect(transport);
    keepCurrent(server, () => sessions.delete(transport.sessionId));
    return transport;
  };
  return async (request, response, body) => {
    const id = request.headers['mcp-session-id'];
    const transport = id === undefined ? await open() : sessions.get(id);
    if (!transport) {
      response.writeHead(404).end();
      return;
    }
    await transport.handleRequest(request, response, body);
    // Only `initialize` begins a session.
    if (transport.sessionId === undefined) {
      await transport.close();
    }
  };
}

// Answers requests without sessions.
function modern() {
  const handler = createMcpHandler(makeServer, { legacy: 'reject' });
  notifyWith(handler.notify);
  return toNodeHandler(handler);
}

function both() {
  const [older, newer] = [legacy(), modern()];
  return async (request, response) => {
    const { method, headers } = request;
    const body = method === 'POST' ? await json(request).catch(() => undefined) : undefined;
    const seen = new Request(new URL(request.url, 'http://localhost'), { method, headers });
    const answer = (await isLegacyRequest(seen, body)) ? older : newer;
    await answer(request, response, body);
  };
}

export async function serveHttp(era) {
  const answer = { legacy, modern, both }[era]();
  const http = createServer(async (request, response) => {
    if (isLocalHost(request, response) && isLocalOrigin(request, response)) {
      await answer(request, response);
    }
  });
  await once(http.listen(0, '127.0.0.1'), 'listening');
  console.log(`http://127.0.0.1:${http.address().port}/mcp`);
}
