// Standard input and output. The client's first message decides the era.
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio';
import { keepCurrent } from './changes.mjs';
import { makeServer } from './server.mjs';

function makeLive() {
  const server = makeServer();
  keepCurrent(server);
  return server;
}

export async function serveOverStdio(era) {
  if (era === 'legacy') {
    await makeLive().connect(new StdioServerTransport());
  } else {
    serveStdio(makeLive, { legacy: era === 'both' ? 'serve' : 'reject' });
  }
}
