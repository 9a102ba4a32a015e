// All that a client asks a server for.
const CALLS = {
  test_simple_text: {},
  test_image_content: {},
  test_audio_content: {},
  test_embedded_resource: {},
  test_multiple_content_types: {},
  test_error_handling: {},
  json_schema_2020_12_tool: { name: '\u{1f9f0} "\\\u2028', address: { city: 'Z\u00fcrich' }, email: 'a@b' },
  test_x_mcp_header: { region: '=?base64?\u00fc\n' },
  test_reconnection: {},
};

const failure = (failed) => failed.then(
  (result) => ({ result }),
  ({ code, message }) => ({ code, message }),
);

export async function methods({ client, call, heard, isModern }) {
  const seen = {
    tools: (await client.listTools()).tools,
    prompts: (await client.listPrompts()).prompts,
    resources: (await client.listResources()).resources,
    templates: (await client.listResourceTemplates()).resourceTemplates,
    calls: {},
  };
  for (const [name, given] of Object.entries(CALLS)) {
    seen.calls[name] = await call({ name, arguments: given });
  }
  seen.progress = [];
  const onprogress = (progress) => seen.progress.push(progress);
  seen.calls.progress = await call({ name: 'test_tool_with_progress', arguments: {} }, { onprogress });
  if (!isModern) {
    seen.level = await client.setLoggingLevel('info');
  }
  const _meta = isModern ? { 'io.modelcontextprotocol/logLevel': 'info' } : undefined;
  seen.calls.logging = await call({ name: 'test_tool_with_logging', arguments: {}, _meta });
  seen.logged = heard.filter(({ method }) => method === 'notifications/message');
  seen.prompt = await client.getPrompt({ name: 'test_prompt_with_arguments', arguments: { arg1: '\u00e4', arg2: '' } });
  seen.image = await client.getPrompt({ name: 'test_prompt_with_image' });
  for (const uri of ['test://static-text', 'test://static-binary', 'test://template/a%20b/data']) {
    seen[uri] = await client.readResource({ uri });
  }
  seen.missing = await failure(client.readResource({ uri: 'test://nothing' }));
  const argument = { name: 'arg1', value: 'pa' };
  seen.completed = await client.complete({ ref: { type: 'ref/prompt', name: 'test_prompt_with_arguments' }, argument });
  return seen;
}

// One call that takes a while, with what comes in its course.
export async function long({ call }) {
  const progress = [];
  const result = await call({ name: 'test_long_call', arguments: {} }, { onprogress: (reported) => progress.push(reported) });
  return { progress, result };
}
