// Tools that answer at once.
import { fromJsonSchema } from '@modelcontextprotocol/server';
import { audio, image, resource, text } from './media.mjs';

// Keywords that a gateway with a typed model of schemas loses.
const SCHEMA_2020_12 = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
};

// An argument that a client of 2026-07-28 repeats in the header `Mcp-Param-Region`.
const SCHEMA_WITH_HEADER = {
  type: 'object',
  properties: { region: { type: 'string', 'x-mcp-header': 'Region' } },
  required: ['region'],
};

const CONTENTS = {
  test_simple_text: ['Answers with a text', text('This is a simple text response for testing.')],
  test_image_content: ['Answers with an image', image],
  test_audio_content: ['Answers with a sound', audio],
  test_embedded_resource: [
    'Answers with a resource',
    resource('test://embedded-resource', 'text/plain', 'This is an embedded resource content.'),
  ],
  test_multiple_content_types: [
    'Answers with a text, an image and a resource',
    text('Multiple content types test:'),
    image,
    resource('test://mixed-content-resource', 'application/json', JSON.stringify({ test: 'data', value: 123 })),
  ],
};

export function registerTools(server) {
  for (const [name, [description, ...content]] of Object.entries(CONTENTS)) {
    server.registerTool(name, { description }, () => ({ content }));
  }
  server.registerTool('test_error_handling', { description: 'Fails' }, () => {
    throw new Error('This tool intentionally returns an error for testing');
  });
  server.registerTool(
    'json_schema_2020_12_tool',
    { description: 'Has a schema with keywords of JSON Schema 2020-12', inputSchema: fromJsonSchema(SCHEMA_2020_12) },
    (given) => ({ content: [text(JSON.stringify(given))] }),
  );
  server.registerTool(
    'test_x_mcp_header',
    { description: 'Has an argument that is also a header', inputSchema: fromJsonSchema(SCHEMA_WITH_HEADER) },
    ({ region }) => ({ content: [text(region)] }),
  );
}
