// A streamable HTTP server for many tenants: it knows who calls by the Authorization header of each request, and by nothing else. Its
// argument is the folder of the official SDK. Further arguments only distinguish its processes from others.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const from = (file) => import(pathToFileURL(`${process.argv[2]}/dist/esm/server/${file}`).href);
const { McpServer } = await from('mcp.js');
const { StreamableHTTPServerTransport } = await from('streamableHttp.js');

const instance = randomUUID();
const sessions = new Map();

// Tells what it knows of the caller, of the caller's session, and of itself.
function open(openedBy) {
  const server = new McpServer({ name: 'multi-tenant', version: '1.0.0' });
  let calls = 0;
  server.registerTool('whoami', {}, async ({ sessionId, requestInfo }) => {
    const known = {
      caller: requestInfo.headers.authorization ?? null,
      openedBy,
      sessionId,
      calls: ++calls,
      process: instance,
      region: process.env.REGION ?? null,
    };
    console.error(`called by ${known.caller}`);
    return { content: [{ type: 'text', text: JSON.stringify(known) }] };
  });
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => sessions.set(id, transport),
    onsessionclosed: (id) => sessions.delete(id),
  });
  return server.connect(transport).then(() => transport);
}

createServer(async (request, response) => {
  const session = request.headers['mcp-session-id'];
  const transport = session ? sessions.get(session) : await open(request.headers.authorization ?? null);
  if (transport) {
    await transport.handleRequest(request, response);
  } else {
    response.writeHead(404).end();
  }
}).listen(Number(process.env.PORT), '127.0.0.1');
