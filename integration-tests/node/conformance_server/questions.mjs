// Tools that ask the client. Each is written once: in 2026-07-28 the question is the result, and the client calls again with the answer; in
// older revisions the SDK asks with a request of its own in the course of the call.
import { fromJsonSchema, inputRequired, inputResponse } from '@modelcontextprotocol/server';
import { PRIMITIVES, SELECTIONS } from './forms.mjs';
import { text } from './media.mjs';

const form = (properties) => ({ type: 'object', properties, required: Object.keys(properties) });
const elicit = (message, requestedSchema) => inputRequired.elicit({ message, requestedSchema });
const ask = (message, property, type = 'string') => elicit(message, form({ [property]: { type } }));
const sample = (prompt, maxTokens) =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: text(prompt) }], maxTokens });
const argument = (name) => fromJsonSchema(form({ [name]: { type: 'string' } }));

// The answers by key, or undefined until each question has one.
export function answers({ mcpReq }, questions) {
  const given = Object.keys(questions).map((key) => [key, inputResponse(mcpReq.inputResponses, key)]);
  return given.every(([, answer]) => answer.kind !== 'missing') ? Object.fromEntries(given) : undefined;
}

export const NAME = { user_name: ask('What is your name?', 'name') };
export const CONTEXT = { user_context: ask('What context should the prompt use?', 'context') };

// A tool with one round of questions, which may depend on the arguments.
function registerQuestion(server, name, description, questions, answer, inputSchema) {
  const called = (given, context) => {
    const asked = typeof questions === 'function' ? questions(given) : questions;
    const answered = answers(context, asked);
    return answered ? { content: [text(answer(answered))] } : inputRequired({ inputRequests: asked });
  };
  server.registerTool(name, { description, inputSchema }, inputSchema ? called : (context) => called({}, context));
}

const elicited = ({ response }) => `action=${response.action}, content=${JSON.stringify(response.content)}`;
const sampled = ({ response }) => `LLM response: ${response.result.content.text}`;

// Servers of older revisions may ask at any time: on the stream that a client holds open, as coming from no call.
function registerBeside(server) {
  const question = { message: 'Which city?', requestedSchema: form({ city: { type: 'string' } }) };
  const questions = { city: inputRequired.elicit(question) };
  server.registerTool('test_elicitation_beside_the_call', { description: 'Asks outside of its answer' }, async (context) => {
    const isModern = server.server.getNegotiatedProtocolVersion() >= '2026';
    const asked = isModern ? answers(context, questions)?.city : await server.server.elicitInput(question);
    return asked ? { content: [text(`city=${asked.content?.city}`)] } : inputRequired({ inputRequests: questions });
  });
}

function registerSingleRounds(server) {
  registerQuestion(
    server,
    'test_sampling',
    'Asks the model of the client',
    ({ prompt }) => ({ response: sample(prompt, 100) }),
    sampled,
    argument('prompt'),
  );
  const details = form({
    username: { type: 'string', description: "User's response" },
    email: { type: 'string', description: "User's email address" },
  });
  registerQuestion(
    server,
    'test_elicitation',
    'Asks the user',
    ({ message }) => ({ response: elicit(message, details) }),
    (answered) => `User response: ${elicited(answered)}`,
    argument('message'),
  );
  for (const [name, description, requestedSchema] of [
    ['test_elicitation_sep1034_defaults', 'Asks the user with defaults', PRIMITIVES],
    ['test_elicitation_sep1330_enums', 'Asks the user to select', SELECTIONS],
  ]) {
    const questions = { response: elicit('Please fill in the form', requestedSchema) };
    registerQuestion(server, name, description, questions, (answered) => `Elicitation completed: ${elicited(answered)}`);
  }
  registerQuestion(
    server,
    'test_input_required_result_elicitation',
    'Asks the user for a name',
    NAME,
    ({ user_name }) => `Hello, ${user_name.content?.name}!`,
  );
  registerQuestion(
    server,
    'test_input_required_result_sampling',
    'Asks the model a question',
    { capital_question: sample('What is the capital of France?', 100) },
    ({ capital_question }) => capital_question.result.content.text,
  );
  registerQuestion(
    server,
    'test_input_required_result_list_roots',
    'Asks for the roots of the client',
    { client_roots: inputRequired.listRoots() },
    ({ client_roots }) => client_roots.roots.map(({ uri }) => uri).join(', '),
  );
  registerQuestion(
    server,
    'test_elicitation_by_url',
    'Asks the user to open a page',
    { page: inputRequired.elicitUrl({ message: 'Please sign in', url: 'https://example.com/sign-in?a=b%20c' }) },
    ({ page }) => `action=${page.action}`,
  );
  // A client that has declared no sampling is refused before it is asked.
  registerQuestion(
    server,
    'test_missing_capability',
    'Requires a client with a model',
    { response: sample('Are you there?', 10) },
    sampled,
  );
  registerQuestion(
    server,
    'test_streaming_elicitation',
    'Asks the user in the course of a call',
    { response: ask('Go on?', 'answer') },
    elicited,
  );
}

// Tools whose questions go with a state, which the client hands back.
function registerRounds(server, states) {
  const rounds = {
    test_input_required_result_request_state: [{ confirm: ask('Please confirm', 'ok', 'boolean') }],
    test_input_required_result_tampered_state: [{ confirm: ask('Please confirm', 'ok', 'boolean') }],
    test_input_required_result_multiple_inputs: [
      { ...NAME, greeting: sample('Generate a greeting', 50), client_roots: inputRequired.listRoots() },
    ],
    test_input_required_result_multi_round: [
      { step1: ask('Step 1: What is your name?', 'name') },
      { step2: ask('Step 2: What is your favorite color?', 'color') },
    ],
  };
  for (const [name, steps] of Object.entries(rounds)) {
    server.registerTool(name, { description: `Asks in ${steps.length} rounds` }, async (context) => {
      const { asked = 0 } = context.mcpReq.requestState() ?? {};
      const complete = asked > 0 && answers(context, steps[asked - 1]);
      if (complete && asked === steps.length) {
        return { content: [text(`state-ok after ${asked} rounds`)] };
      }
      const next = complete || asked === 0 ? asked : asked - 1;
      return inputRequired({ inputRequests: steps[next], requestState: await states.mint({ asked: next + 1 }, context) });
    });
  }
}

// Asks only for what the client has declared: in `_meta`, or when its session began.
function registerCapabilities(server) {
  const description = 'Asks for what the client is capable of';
  server.registerTool('test_input_required_result_capabilities', { description }, (context) => {
    const { elicitation, sampling } = declared(server, context);
    const questions = {
      ...(elicitation && NAME),
      ...(sampling && { greeting: sample('Generate a greeting', 50) }),
    };
    const none = Object.keys(questions).length === 0;
    return none || answers(context, questions)
      ? { content: [text('nothing is left to ask')] }
      : inputRequired({ inputRequests: questions });
  });
}

function declared(server, { mcpReq }) {
  return mcpReq.envelope?.['io.modelcontextprotocol/clientCapabilities'] ?? server.server.getClientCapabilities() ?? {};
}

export function registerQuestions(server, states) {
  registerBeside(server);
  registerSingleRounds(server);
  registerRounds(server, states);
  registerCapabilities(server);
}
