// What a client of the official SDKs sees of the server of the conformance journey. Arguments: SDK PART URL TOKEN, where SDK is `sdk`
// (@modelcontextprotocol/sdk), `legacy` or `auto` (@modelcontextprotocol/client), and PART a key of `parts`.
import { changes } from './relayed_client/changes.mjs';
import { connect } from './relayed_client/connect.mjs';
import { long, methods } from './relayed_client/methods.mjs';
import { questions } from './relayed_client/questions.mjs';
import { tools } from './relayed_client/tools.mjs';

const parts = { methods, long, questions, changes, tools };
const [sdk, part, url, token] = process.argv.slice(2);
const connection = await connect(sdk, url, token);
const seen = await parts[part](connection);
await connection.client.close();
console.log(JSON.stringify({ revision: connection.revision(), seen }));
