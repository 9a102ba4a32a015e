// Lists the tools of an MCP endpoint and calls one, with npm's @modelcontextprotocol/sdk. Arguments: URL TOKEN TOOL
// ARGUMENTS.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, token, tool, text] = process.argv.slice(2);
const transport = new StreamableHTTPClientTransport(new URL(url), {
  requestInit: { headers: { Authorization: `Bearer ${token}` } },
});
const client = new Client({ name: "journey", version: "1" }, { capabilities: { elicitation: { url: {} } } });
const seen = {};
try {
  await client.connect(transport);
  seen.revision = transport.protocolVersion;
  seen.server = client.getServerVersion();
  seen.tools = (await client.listTools()).tools.map((each) => each.name);
  seen.result = await client.callTool({ name: tool, arguments: JSON.parse(text) });
} catch (error) {
  seen.error = { name: error.constructor.name, code: error.code, message: error.message, data: error.data };
}
await client.close();
console.log(JSON.stringify(seen));
