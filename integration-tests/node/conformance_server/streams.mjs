// Tools that send something before they answer, or close the stream of the answer.
import { setTimeout as pause } from 'node:timers/promises';
import { text } from './media.mjs';

// Between two messages: they arrive one by one only through what relays each as it comes.
const PAUSE_MS = 50;
const LONG_PAUSE_MS = 600;

export function registerStreams(server) {
  server.registerTool('test_tool_with_logging', { description: 'Logs three lines' }, async ({ mcpReq }) => {
    await mcpReq.log('info', 'Tool execution started');
    await pause(PAUSE_MS);
    await mcpReq.log('info', 'Tool processing data');
    await pause(PAUSE_MS);
    await mcpReq.log('info', 'Tool execution completed');
    return { content: [text('logged')] };
  });
  // Nobody asked for its line in 2026-07-28, where a request names a level.
  server.registerTool('test_logging_tool', { description: 'Logs a line' }, async ({ mcpReq }) => {
    await mcpReq.log('info', 'a line');
    return { content: [text('logged')] };
  });
  server.registerTool('test_tool_with_progress', { description: 'Reports progress' }, async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) {
        await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100 } });
      }
      await pause(PAUSE_MS);
    }
    return { content: [text('done')] };
  });
  // For clients whose connections break meanwhile.
  server.registerTool('test_long_call', { description: 'Reports progress for a while' }, async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [1, 2, 3]) {
      await pause(LONG_PAUSE_MS);
      await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress } });
    }
    return { content: [text('done')] };
  });
  // The client gets the answer when it resumes the stream.
  server.registerTool('test_reconnection', { description: 'Closes the stream of its answer' }, async ({ http }) => {
    http?.closeSSE?.();
    await pause(PAUSE_MS);
    return { content: [text('answered after the stream was closed')] };
  });
}
