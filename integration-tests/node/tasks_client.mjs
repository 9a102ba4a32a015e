// Calls a tool as a task, with the experimental client of npm's @modelcontextprotocol/sdk, answers what the server asks meanwhile, and then cancels
// another task of it. Prints what it saw. Arguments: URL TOKEN TOOL.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CallToolResultSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const RELATED = 'io.modelcontextprotocol/related-task';
const [url, token, name] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}` };
const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
const client = new Client({ name: 'tasks', version: '1' }, { capabilities: { elicitation: { form: {} } } });

const asked = [];
client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
  asked.push(params);
  const [{ const: interpretation }] = params.requestedSchema.properties.interpretation.oneOf;
  return { action: 'accept', content: { interpretation } };
});
await client.connect(transport);
const { tasks } = client.experimental;
await client.listTools();

const call = (topic, ambiguous) =>
  tasks.callToolStream({ name, arguments: { topic, ambiguous } }, CallToolResultSchema, { task: { ttl: 60000 } });

const seen = { statuses: [] };
let made;
for await (const message of call('python', true)) {
  if (message.type === 'taskCreated') {
    made = message.task.taskId;
  } else if (message.type === 'taskStatus') {
    seen.statuses.push(message.task.status);
  } else if (message.type === 'result') {
    seen.text = message.result.content[0].text;
    seen.resultNamesIt = message.result._meta[RELATED].taskId === made;
  } else {
    throw message.error;
  }
}
seen.statuses = [...new Set(seen.statuses)];
seen.asked = asked.map(({ message, _meta }) => ({ message, namesIt: _meta[RELATED].taskId === made }));

const created = await call('rust', false).next();
const other = created.value.task.taskId;
seen.cancelled = (await tasks.cancelTask(other)).status;
seen.after = (await tasks.getTask(other)).status;
seen.listed = (await tasks.listTasks()).tasks.map(({ taskId }) => [made, other].indexOf(taskId)).sort();
seen.unknown = await tasks.getTask('t').then(() => null, (error) => error.code);
seen.id = made;
await client.close();
console.log(JSON.stringify(seen));
