// Resolves packages in the folder that integration-tests/tools has installed, wherever the importing file is.
import { register } from "node:module";
import { pathToFileURL } from "node:url";

const installed = pathToFileURL(process.env.CHANDLERY_TEST_NODE_MODULES + "/../from-here.mjs").href;
register(
  "data:text/javascript," +
    encodeURIComponent(`
const installed = ${JSON.stringify(installed)};
export async function resolve(specifier, context, next) {
  const bare = !/^([./]|[a-z]+:)/.test(specifier);
  const own = !context.parentURL?.includes("/node_modules/");
  return next(specifier, bare && own ? { ...context, parentURL: installed } : context);
}`),
);
