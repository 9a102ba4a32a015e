// A stdio server that counts the calls of its process. Its argument is the folder of the official SDK. Further
// arguments only distinguish its processes from others.
import { pathToFileURL } from 'node:url';

const from = (file) => import(pathToFileURL(`${process.argv[2]}/dist/esm/server/${file}`).href);
const { McpServer } = await from('mcp.js');
const { StdioServerTransport } = await from('stdio.js');

const server = new McpServer({ name: 'counting', version: '1.0.0' });
let calls = 0;
server.registerTool('count', {}, async () => ({ content: [{ type: 'text', text: String(++calls) }] }));
server.registerTool('crash', {}, async () => process.exit(3));
await server.connect(new StdioServerTransport());
