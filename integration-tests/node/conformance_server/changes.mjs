// Tools that change the lists of tools and prompts: what they add is there for all clients, and each call puts another in its place. A list that
// is what it was before would tell a gateway nothing that asks for it a little later.
import { text } from './media.mjs';

const ADDITIONS = {
  tool: (server, number) =>
    server.registerTool(`test_added_tool_${number}`, { description: 'Comes and goes' }, () => ({ content: [text('here')] })),
  prompt: (server, number) =>
    server.registerPrompt(`test_added_prompt_${number}`, { description: 'Comes and goes' }, () => ({
      messages: [{ role: 'user', content: text('here') }],
    })),
};

// How many the lists have had; the last is there.
const added = { tool: 0, prompt: 0 };
// What adapts a server, which then notifies its client by itself.
const adapters = new WeakMap();
// The servers of sessions and of a process. Those of single requests are not among them.
const live = new Set();
// The resource that changes, and the servers of sessions whose clients have subscribed to it.
const WATCHED = 'test://watched-resource';
const subscribed = new Set();
// Notifies the subscriptions of 2026-07-28 over HTTP, where there is no server between two requests.
let notify;

export function notifyWith(notifier) {
  notify = notifier;
}

// From now on, until it is closed, the server has its part in changes.
export function keepCurrent(server, onclose) {
  live.add(server);
  server.server.onclose = () => {
    live.delete(server);
    subscribed.delete(server);
    onclose?.();
  };
}

export function registerChanges(server) {
  const own = {};
  const adapt = (kind) => {
    own[kind]?.remove();
    if (added[kind] > 0) {
      own[kind] = ADDITIONS[kind](server, added[kind]);
    }
  };
  adapters.set(server, adapt);
  adapt('tool');
  adapt('prompt');
  const change = (kind) => {
    added[kind] += 1;
    live.forEach((other) => adapters.get(other)(kind));
    return { content: [text('changed')] };
  };
  // The SDK declares subscriptions and leaves them to the server. In 2026-07-28 these methods do not exist.
  server.server.setRequestHandler('resources/subscribe', ({ params }) => {
    if (params.uri === WATCHED) {
      subscribed.add(server);
    }
    return {};
  });
  server.server.setRequestHandler('resources/unsubscribe', ({ params }) => {
    if (params.uri === WATCHED) {
      subscribed.delete(server);
    }
    return {};
  });
  server.registerTool('test_trigger_resource_update', { description: 'Changes the watched resource' }, async () => {
    notify?.resourceUpdated(WATCHED);
    await Promise.all([...subscribed].map((other) => other.server.sendResourceUpdated({ uri: WATCHED })));
    return { content: [text('changed')] };
  });
  server.registerTool('test_trigger_tool_change', { description: 'Changes the list of tools' }, () => {
    const result = change('tool');
    notify?.toolsChanged();
    return result;
  });
  server.registerTool('test_trigger_prompt_change', { description: 'Changes the list of prompts' }, () => {
    const result = change('prompt');
    notify?.promptsChanged();
    return result;
  });
}
