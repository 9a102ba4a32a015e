// The results of all tools that are listed, by their names. None gets arguments.
export async function tools({ client, call }) {
  const seen = {};
  for (const { name } of (await client.listTools()).tools) {
    seen[name] = await call({ name, arguments: {} });
  }
  return seen;
}
