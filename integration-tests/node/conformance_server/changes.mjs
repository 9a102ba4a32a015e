// Tools that change the lists of tools and prompts: what they add is there for all clients, and a second call removes it again.
import { text } from './media.mjs';

// What the lists have at present.
const added = { tool: false, prompt: false };
// The servers of sessions and of a process, which notify their clients by themselves. Those of single requests are not among them.
const live = new Set();
// Notifies the subscriptions of 2026-07-28 over HTTP, where there is no server between two requests.
let notify;

const ADDITIONS = {
  tool: (server) =>
    server.registerTool('test_added_tool', { description: 'Comes and goes' }, () => ({ content: [text('here')] })),
  prompt: (server) =>
    server.registerPrompt('test_added_prompt', { description: 'Comes and goes' }, () => ({
      messages: [{ role: 'user', content: text('here') }],
    })),
};

export function notifyWith(notifier) {
  notify = notifier;
}

// From now on, until it is closed, the server has its own part in changes.
export function keepCurrent(server, onclose) {
  live.add(server);
  server.server.onclose = () => {
    live.delete(server);
    onclose?.();
  };
}

export function registerChanges(server) {
  const own = {};
  const adapt = (kind) => {
    if (added[kind]) {
      own[kind] ??= ADDITIONS[kind](server);
    } else {
      own[kind]?.remove();
      delete own[kind];
    }
  };
  server.adapt = adapt;
  adapt('tool');
  adapt('prompt');
  const trigger = (kind, changed) => () => {
    added[kind] = !added[kind];
    for (const other of live) {
      other.adapt(kind);
    }
    changed();
    return { content: [text('changed')] };
  };
  const tools = trigger('tool', () => notify?.toolsChanged());
  const prompts = trigger('prompt', () => notify?.promptsChanged());
  server.registerTool('test_trigger_tool_change', { description: 'Changes the list of tools' }, tools);
  server.registerTool('test_trigger_prompt_change', { description: 'Changes the list of prompts' }, prompts);
}
