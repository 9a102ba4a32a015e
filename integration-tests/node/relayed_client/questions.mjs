// What a server asks a client in the course of a call, and the client's answers.
export const ANSWERS = {
  'sampling/createMessage': () => ({
    model: 'a model',
    role: 'assistant',
    stopReason: 'endTurn',
    content: { type: 'text', text: '\u{1f9f0} Paris' },
  }),
  'roots/list': () => ({ roots: [{ uri: 'file:///a%20b', name: 'A' }] }),
  'elicitation/create': ({ mode, requestedSchema }) => {
    if (mode === 'url') {
      return { action: 'accept' };
    }
    const given = { string: 'Z\u00fcrich', boolean: true, number: 1.5, integer: 7, array: [] };
    const fields = Object.entries(requestedSchema.properties);
    // A form shows what the server proposes, and the person leaves it.
    const value = ({ type, default: proposed, enum: [first] = [], oneOf: [one] = [] }) => proposed ?? first ?? one?.const ?? given[type];
    return { action: 'accept', content: Object.fromEntries(fields.map(([name, field]) => [name, value(field)])) };
  },
};

const CALLS = {
  test_sampling: { prompt: 'What is it?' },
  test_elicitation: { message: 'Who are you?' },
  test_elicitation_sep1034_defaults: {},
  test_elicitation_sep1330_enums: {},
  test_elicitation_by_url: {},
  test_input_required_result_list_roots: {},
  test_input_required_result_multiple_inputs: {},
  test_input_required_result_multi_round: {},
  test_streaming_elicitation: {},
  test_elicitation_beside_the_call: {},
};

export async function questions({ client, call, asked }) {
  const seen = {};
  for (const [name, given] of Object.entries(CALLS)) {
    const { content, isError } = await call({ name, arguments: given });
    // Several are asked at once, and answered in any order.
    const order = asked.splice(0).sort((a, b) => (a.method < b.method ? -1 : 1));
    seen[name] = { content, isError, asked: order };
  }
  const { messages } = await client.getPrompt({ name: 'test_input_required_result_prompt' });
  seen.prompt = { messages, asked: asked.splice(0) };
  return seen;
}
