// One server: for a request (2026-07-28), a session (older revisions over HTTP), or a process (stdio).
import { createRequestStateCodec, McpServer } from '@modelcontextprotocol/server';
import { randomBytes } from 'node:crypto';
import { registerChanges } from './changes.mjs';
import { registerPrompts } from './prompts.mjs';
import { registerQuestions } from './questions.mjs';
import { registerResources } from './resources.mjs';
import { registerStreams } from './streams.mjs';
import { registerTools } from './tools.mjs';

// The state of a call that asks the client is signed: one scenario changes it.
const states = createRequestStateCodec({ key: randomBytes(32) });

export function makeServer() {
  const server = new McpServer(
    { name: 'conformance', version: '1.0.0' },
    {
      capabilities: {
        tools: { listChanged: true },
        prompts: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        logging: {},
        completions: {},
      },
      requestState: { verify: states.verify },
    },
  );
  registerTools(server);
  registerStreams(server);
  registerQuestions(server, states);
  registerPrompts(server);
  registerResources(server);
  registerChanges(server);
  return server;
}
