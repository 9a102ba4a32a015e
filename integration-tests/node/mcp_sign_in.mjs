// Signs in at an MCP endpoint with npm's @modelcontextprotocol/sdk and its OAuth provider, and calls a tool; the person's browser is played
// here. Argument: JSON with
//   url       the endpoint
//   tool      what to call
//   login     who signs in at the identity provider (its development pages take anybody)
//   client    the client's id, if it has one; it registers itself otherwise
//   redirect  the client's redirect URI
//   tokens    to end when it has tokens, and print them
// Prints what was seen at each step.
import { createHash } from "node:crypto";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { url, tool, login, client: id, redirect, tokens } = JSON.parse(process.argv[2]);
const seen = { requests: [] };
const jar = new Map();

// One request of the browser: cookies are kept, redirects are not followed.
async function browse(address, form) {
  const response = await fetch(address, {
    method: form ? "POST" : "GET",
    body: form && new URLSearchParams(form),
    headers: {
      cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; "),
      ...(form ? { origin: new URL(address).origin } : {}),
    },
    redirect: "manual",
  });
  for (const cookie of response.headers.getSetCookie()) {
    const [pair, ...attributes] = cookie.split(";");
    const [name, value] = pair.split(/=(.*)/s);
    if (attributes.some((attribute) => /expires=Thu, 01 Jan 1970|Max-Age=0/i.test(attribute))) jar.delete(name);
    else jar.set(name, value);
  }
  return response;
}

// From the gateway's question to the client's redirect URI.
async function agree(address) {
  const question = await (await browse(address)).text();
  seen.question = question.replace(/<[^>]*>/g, " ").replace(/\s+/g, " ");
  const field = (name) => new RegExp(`name="${name}" value="([^"]*)"`).exec(question)[1];
  const decided = await browse(new URL("/oauth/authorize", address), { request: field("request"), issuer: field("issuer") });
  let next = /^0;url=(.*)$/.exec(decided.headers.get("refresh"))[1];
  for (let step = 0; step < 14 && !next.startsWith(redirect); step++) {
    let response = await browse(next);
    if (response.status === 200) {
      const prompt = /name="prompt" value="(\w+)"/.exec(await response.text())[1];
      response = await browse(next, prompt === "login" ? { prompt, login, password: "any" } : { prompt });
    }
    const location = response.headers.get("location");
    if (!location) throw new Error(`${response.status} at ${new URL(next).pathname}: ${await response.text()}`);
    next = new URL(location, next).href;
  }
  return new URL(next);
}

const store = {};
const provider = {
  redirectUrl: redirect,
  clientMetadata: { client_name: "Journey's editor", redirect_uris: [redirect], token_endpoint_auth_method: "none", grant_types: ["authorization_code", "refresh_token"] },
  state: () => "the client's state",
  clientInformation: () => (id ? { client_id: id } : store.client),
  saveClientInformation: (client) => { store.client = client; },
  tokens: () => store.tokens,
  saveTokens: (tokens) => { store.tokens = tokens; },
  redirectToAuthorization: (address) => { store.authorize = address; },
  saveCodeVerifier: (verifier) => { store.verifier = verifier; },
  codeVerifier: () => store.verifier,
};

// What the client sends, without secrets.
const recorded = async (address, options) => {
  const response = await fetch(address, options);
  seen.requests.push(`${options?.method ?? "GET"} ${new URL(address).pathname} ${response.status}`);
  return response;
};
const transport = () => new StreamableHTTPClientTransport(new URL(url), { authProvider: provider, fetch: recorded });
const metadata = async (path) => await (await fetch(new URL(path, url))).json();

async function call() {
  const client = new Client({ name: "journey", version: "1" });
  await client.connect(transport());
  const tools = (await client.listTools()).tools.map((each) => each.name);
  const result = await client.callTool({ name: tool, arguments: { text: "x" } });
  await client.close();
  return { tools, result };
}

async function token(fields) {
  const { token_endpoint } = store.server;
  const response = await fetch(token_endpoint, { method: "POST", body: new URLSearchParams(fields) });
  return { status: response.status, ...(await response.json()) };
}

try {
  const first = transport();
  try {
    await new Client({ name: "journey", version: "1" }).connect(first);
    throw new Error("the client was let in without a token");
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  const resource = await metadata(`/.well-known/oauth-protected-resource${new URL(url).pathname}`);
  seen.resource = resource;
  const server = new URL(resource.authorization_servers[0]);
  store.server = await metadata(`/.well-known/oauth-authorization-server${server.pathname}`);
  seen.server = store.server;

  // Somebody else's redirect URI, in a link that the attacker makes of the client's.
  const foreign = new URL(store.authorize);
  foreign.searchParams.set("redirect_uri", "https://evil.example/callback");
  const refused = await browse(foreign);
  seen.foreign = { status: refused.status, location: refused.headers.get("location") };

  const back = await agree(store.authorize);
  seen.back = { state: back.searchParams.get("state"), iss: back.searchParams.get("iss"), error: back.searchParams.get("error") };
  const code = back.searchParams.get("code");
  const client_id = provider.clientInformation().client_id;
  const stolen = { grant_type: "authorization_code", code, client_id, redirect_uri: redirect };
  seen.stolen = await token({ ...stolen, code_verifier: createHash("sha256").update("a guess").digest("hex") });
  await first.finishAuth(code);
  seen.granted = Object.keys(store.tokens).sort();
  if (tokens) {
    console.log(JSON.stringify({ client_id, token_endpoint: store.server.token_endpoint, ...store.tokens }));
    process.exit();
  }
  seen.called = await call();

  const before = store.tokens;
  if (before.refresh_token) {
    store.tokens = { ...before, access_token: "cha_expired" };
    seen.again = await call();
    seen.refreshed = { access: store.tokens.access_token !== before.access_token, refresh: store.tokens.refresh_token !== before.refresh_token };
  }

  // At another endpoint, the token is none.
  const elsewhere = await fetch(new URL("/mcp/elsewhere", url), {
    method: "POST",
    headers: { authorization: `Bearer ${store.tokens.access_token}`, "content-type": "application/json", accept: "application/json, text/event-stream" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
  });
  seen.elsewhere = { status: elsewhere.status, challenge: elsewhere.headers.get("www-authenticate") };

  // An answer that was lost is given once more. Once it is used, the identity provider takes the token before it for stolen, and ends what came
  // from it.
  if (before.refresh_token) {
    const refresh = (refresh_token) => token({ grant_type: "refresh_token", refresh_token, client_id });
    seen.repeated = (await refresh(before.refresh_token)).refresh_token === store.tokens.refresh_token;
    const next = await refresh(store.tokens.refresh_token);
    seen.reused = await refresh(before.refresh_token);
    seen.ended = await refresh(next.refresh_token);
  }

  // A code is used once, also by the client itself.
  const once = { ...stolen, code: (await agree(store.authorize)).searchParams.get("code"), code_verifier: store.verifier };
  seen.redeemed = (await token(once)).status;
  seen.replayed = await token(once);
} catch (error) {
  seen.error = { name: error.constructor.name, message: error.message, stack: error.stack };
}
console.log(JSON.stringify(seen));
