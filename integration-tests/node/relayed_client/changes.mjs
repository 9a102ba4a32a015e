// What a server says while nobody calls it: each change is waited for on the stream that the client holds open, or listens to.
import { setTimeout as pause } from 'node:timers/promises';

const URI = 'test://watched-resource';

async function until(what, condition) {
  const end = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > end) {
      throw new Error(`not within 20 s: ${what}`);
    }
    await pause(20);
  }
}

export async function changes({ client, call, heard, isModern }) {
  const has = (method) => heard.some((notification) => notification.method === `notifications/${method}`);
  const names = async () => ({
    prompts: (await client.listPrompts()).prompts.map(({ name }) => name).join(),
    tools: (await client.listTools()).tools.map(({ name }) => name).join(),
  });
  const before = await names();
  let listening;
  if (isModern) {
    const filter = { toolsListChanged: true, promptsListChanged: true, resourceSubscriptions: [URI] };
    listening = await client.listen(filter);
  } else {
    await client.subscribeResource({ uri: URI });
  }
  const change = (name) => call({ name, arguments: {} });
  await change('test_trigger_resource_update');
  await until('the resource is updated', () => has('resources/updated'));
  await change('test_trigger_prompt_change');
  await until('the prompts have changed', () => has('prompts/list_changed'));
  await until('another prompt is listed', async () => (await names()).prompts !== before.prompts);
  await change('test_trigger_tool_change');
  await until('the tools have changed', () => has('tools/list_changed'));
  await until('another tool is listed', async () => (await names()).tools !== before.tools);
  const uri = heard.find(({ method }) => method === 'notifications/resources/updated').params.uri;
  if (listening) {
    await listening.close();
  } else {
    await client.unsubscribeResource({ uri: URI });
  }
  return { honored: listening?.honoredFilter, uri };
}
