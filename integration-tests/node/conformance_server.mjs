// The server that the official conformance suite expects, with its tools, prompts and resources, on the official SDK of 2026. Its first
// argument is the transport, `http` or `stdio`, and its second the era that it speaks: `legacy` (2025-11-25 and older), `modern`
// (2026-07-28), or `both`, at one endpoint. Over HTTP it prints its URL.
import { serveHttp } from './conformance_server/http.mjs';
import { serveOverStdio } from './conformance_server/stdio.mjs';

const [transport, era] = process.argv.slice(2);
const serve = { http: serveHttp, stdio: serveOverStdio }[transport];
if (!serve || !['legacy', 'modern', 'both'].includes(era)) {
  throw new Error('usage: conformance_server.mjs http|stdio legacy|modern|both');
}
await serve(era);
