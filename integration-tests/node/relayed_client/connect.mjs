// A connection by one of the two SDKs, whose interfaces differ a little.
import * as newer from '@modelcontextprotocol/client';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as types from '@modelcontextprotocol/sdk/types.js';
import { ANSWERS } from './questions.mjs';

const INFO = { name: 'relayed', version: '1' };
const capabilities = { sampling: {}, roots: {}, elicitation: { form: {}, url: {} } };
const HEARD = ['message', 'tools/list_changed', 'prompts/list_changed', 'resources/updated'];

// The schema that the older SDK has for a method: `roots/list` is `ListRootsRequestSchema`.
const schemas = Object.values(types).filter((schema) => schema?.shape?.method);
const schema = (method) => schemas.find(({ shape }) => shape.method.value === method);

export async function connect(sdk, url, token) {
  const isOlder = sdk === 'sdk';
  const client = isOlder
    ? new Client(INFO, { capabilities })
    : new newer.Client(INFO, { capabilities, versionNegotiation: { mode: sdk } });
  const known = (method) => (isOlder ? schema(method) : method);
  const asked = [];
  for (const [method, answer] of Object.entries(ANSWERS)) {
    // Under which token progress is reported is each connection's own.
    client.setRequestHandler(known(method), ({ params: { _meta, ...params } = {} }) => {
      asked.push({ method, params });
      return answer(params);
    });
  }
  const heard = [];
  for (const method of HEARD.map((name) => `notifications/${name}`)) {
    client.setNotificationHandler(known(method), ({ params }) => {
      heard.push({ method, params });
    });
  }
  const Transport = isOlder ? StreamableHTTPClientTransport : newer.StreamableHTTPClientTransport;
  const headers = { Authorization: `Bearer ${token}` };
  const transport = new Transport(new URL(url), { requestInit: { headers } });
  await client.connect(transport);
  const revision = () => client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
  return {
    client,
    asked,
    heard,
    revision,
    isModern: revision() >= '2026',
    call: (params, options) => (isOlder ? client.callTool(params, undefined, options) : client.callTool(params, options)),
  };
}
