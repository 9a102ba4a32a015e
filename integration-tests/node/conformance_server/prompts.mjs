// Prompts, and the completion of an argument.
import { completable, inputRequired } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { image, resource, text } from './media.mjs';
import { answers, CONTEXT } from './questions.mjs';

const user = (...contents) => ({ messages: contents.map((content) => ({ role: 'user', content })) });

export function registerPrompts(server) {
  server.registerPrompt('test_simple_prompt', { description: 'Has no arguments' }, () =>
    user(text('This is a simple prompt for testing.')),
  );
  const words = ['paris', 'park', 'party', 'test', 'testing'];
  const argsSchema = z.object({
    arg1: completable(z.string().describe('First test argument'), (start) =>
      words.filter((word) => word.startsWith(start)),
    ),
    arg2: z.string().describe('Second test argument'),
  });
  server.registerPrompt('test_prompt_with_arguments', { description: 'Has two arguments', argsSchema }, ({ arg1, arg2 }) =>
    user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
  );
  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    {
      description: 'Embeds a resource',
      argsSchema: z.object({ resourceUri: z.string().describe('URI of the resource to embed') }),
    },
    ({ resourceUri }) =>
      user(
        resource(resourceUri, 'text/plain', 'Embedded resource content for testing.'),
        text('Please process the embedded resource above.'),
      ),
  );
  server.registerPrompt('test_prompt_with_image', { description: 'Has an image' }, () =>
    user(image, text('Please analyze the image above.')),
  );
  server.registerPrompt('test_input_required_result_prompt', { description: 'Asks the user' }, (context) => {
    const answered = answers(context, CONTEXT);
    return answered
      ? user(text(`In the context: ${answered.user_context.content?.context}`))
      : inputRequired({ inputRequests: CONTEXT });
  });
}
