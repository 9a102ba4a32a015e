// A stdio server whose list of tools changes while nobody calls it. Its argument is the folder of the official SDK.
import { pathToFileURL } from 'node:url';

const from = (file) => import(pathToFileURL(`${process.argv[2]}/dist/esm/server/${file}`).href);
const { McpServer } = await from('mcp.js');
const { StdioServerTransport } = await from('stdio.js');

const server = new McpServer({ name: 'growing', version: '1.0.0' });
const text = (text) => ({ content: [{ type: 'text', text }] });
server.registerTool('grow', { description: 'Adds a tool a moment after it has answered.' }, async () => {
  setTimeout(() => server.registerTool('grown', { description: 'Was not there before.' }, async () => text('here')), 300);
  return text('soon');
});
// A tool that takes a second.
server.registerTool('wait', {}, async () => {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return text('waited');
});
// Says that it has begun, and never answers.
server.registerTool('hang', {}, async () => {
  console.error('hanging');
  return new Promise(() => {});
});
await server.connect(new StdioServerTransport());
