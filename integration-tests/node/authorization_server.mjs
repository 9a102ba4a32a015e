// npm's oidc-provider as the authorization server of an upstream, on 127.0.0.1. Arguments: PORT RESOURCE. It rotates refresh tokens and
// revokes a grant whose old refresh token is used again. Nobody has to type anything: each sign-in is finished for the account that the test
// sets, unless that is "?". `POST /control` changes these, `GET /control` says what it was asked and issued:
//   account   who signs in; null: the person refuses; "?": who the person says in a form
//   ttl       how many seconds access tokens are valid
//   fault     answers of the token endpoint: {status, body} in place of its own; null: its own
//   delay     how many milliseconds the token endpoint waits first; `waiting` counts those that did
//   lag       how many milliseconds its answer waits
//   scopes    the scopes of its resource
import { createServer } from "node:http";
import Provider, { errors } from "oidc-provider";

const [port, resource] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const state = { account: "alice", ttl: 3600, fault: null, delay: 0, lag: 0, scopes: "read write" };
const seen = { token: [], waiting: 0, registrations: 0, revocations: 0, authorizations: [] };

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const machine = (client_id, more) => ({
  client_id,
  client_secret: "machine-secret:+/%",
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
  ...more,
});
const jwks = process.env.MACHINE_JWKS ? JSON.parse(process.env.MACHINE_JWKS) : undefined;
const provider = new Provider(issuer, {
  clients: [
    machine("machine-basic", { token_endpoint_auth_method: "client_secret_basic" }),
    machine("machine-post", { token_endpoint_auth_method: "client_secret_post" }),
    ...(jwks ? [machine("machine-jwt", { client_secret: undefined, token_endpoint_auth_method: "private_key_jwt", jwks })] : []),
    ...(process.env.REDIRECT_URI
      ? [{
          client_id: "known",
          client_secret: "known-secret",
          token_endpoint_auth_method: "client_secret_basic",
          application_type: "native",
          grant_types: ["authorization_code", "refresh_token"],
          redirect_uris: [process.env.REDIRECT_URI],
        }]
      : []),
  ],
  clientAuthMethods: ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
  scopes: ["openid", "email", "offline_access", "read", "write", "admin"],
  claims: { openid: ["sub"], email: ["email"] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, indicator) => {
        if (indicator !== resource) throw new errors.InvalidTarget();
        return { scope: state.scopes, audience: resource, accessTokenTTL: state.ttl, accessTokenFormat: "opaque" };
      },
    },
  },
  rotateRefreshToken: () => true,
  issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
  ttl: { AccessToken: () => state.ttl, ClientCredentials: () => state.ttl, RefreshToken: 86_400, Interaction: 600, Session: 600, Grant: 86_400 },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@tool.example` }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  cookies: { keys: ["for this test alone"] },
});

// The person signs in and allows everything that is asked for, or refuses.
async function interact(request, response) {
  const { uid, prompt, params } = await provider.interactionDetails(request, response);
  if (state.account === null) {
    const refusal = { error: "access_denied", error_description: "The person said no." };
    return provider.interactionFinished(request, response, refusal, { mergeWithLastSubmission: false });
  }
  const typed = request.method === "POST" ? new URLSearchParams(await body(request)).get("login") : null;
  const account = state.account === "?" ? typed : state.account;
  if (!account) {
    response.setHeader("content-type", "text/html");
    return response.end("<!doctype html><title>Mail</title><form method=post>Account <input name=login> <button>Sign in and allow</button></form>");
  }
  seen.authorizations.push({ uid, prompt: prompt.name, ...params });
  const grant = new provider.Grant({ accountId: account, clientId: params.client_id });
  if (params.scope) grant.addOIDCScope(params.scope);
  grant.addResourceScope(resource, params.scope ?? state.scopes);
  const result = { login: { accountId: account }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

provider.on("grant.success", (context) => seen.token.push({ ...asked(context), ok: true, issued: context.body.access_token }));
provider.on("grant.error", (context, error) => seen.token.push({ ...asked(context), ok: false, error: error.message }));
provider.on("registration_create.success", () => { seen.registrations += 1; });
provider.use(async (context, next) => {
  if (context.path === "/token/revocation") seen.revocations += 1;
  await next();
  if (context.path === "/token" && state.lag) await wait(state.lag);
});
function asked(context) {
  const { grant_type, scope, resource: target } = context.oidc.params ?? {};
  return { grant_type, scope, resource: target, client: context.oidc.client?.clientId };
}

const callback = provider.callback();
createServer(async (request, response) => {
  try {
    if (request.url === "/control") {
      if (request.method === "POST") Object.assign(state, JSON.parse(await body(request)));
      response.setHeader("content-type", "application/json");
      return response.end(JSON.stringify({ ...state, ...seen }));
    }
    if (request.url.startsWith("/interaction/")) return await interact(request, response);
    if (request.url === "/token") {
      if (state.delay) {
        seen.waiting += 1;
        await wait(state.delay);
      }
      if (state.fault) {
        seen.token.push({ fault: state.fault.status });
        response.writeHead(state.fault.status, { "content-type": "application/json" });
        return response.end(JSON.stringify(state.fault.body ?? {}));
      }
    }
    return callback(request, response);
  } catch (error) {
    console.error(error);
    response.writeHead(500).end();
  }
}).listen(Number(port), "127.0.0.1", () => console.log("listening"));
