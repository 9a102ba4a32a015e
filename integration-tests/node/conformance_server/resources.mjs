// Resources, and a template.
import { ResourceTemplate } from '@modelcontextprotocol/server';
import { PNG } from './media.mjs';

export function registerResources(server) {
  const contents = {
    'static-text': ['text/plain', { text: 'This is the content of the static text resource.' }],
    'static-binary': ['image/png', { blob: PNG }],
    'watched-resource': ['text/plain', { text: 'Can be subscribed to.' }],
  };
  for (const [name, [mimeType, content]] of Object.entries(contents)) {
    const uri = `test://${name}`;
    server.registerResource(name, uri, { description: `The resource ${name}`, mimeType }, () => ({
      contents: [{ uri, mimeType, ...content }],
    }));
  }
  const template = new ResourceTemplate('test://template/{id}/data', { list: undefined });
  const mimeType = 'application/json';
  server.registerResource('template', template, { description: 'Data by id', mimeType }, ({ href }, { id }) => ({
    contents: [{ uri: href, mimeType, text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }],
  }));
}
