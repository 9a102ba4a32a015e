// npm's oidc-provider as the issuer of an organization, on 127.0.0.1. Arguments: PORT REDIRECT_URI. Its development
// pages accept any login name and password; the name becomes the subject. Access tokens for the resource
// https://tools.corp.example are JWTs, others are opaque; refresh tokens rotate. It registers no clients. `robot` is a
// program's client. From a GET of /hold to one of /release, it prints `an answer is held` for each request for tokens, and answers none.
import { createServer } from "node:http";
import Provider, { errors } from "oidc-provider";

const [port, redirectUri] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const tools = "https://tools.corp.example";
const provider = new Provider(issuer, {
  // The second client is another application, whose tokens Chandlery must reject.
  clients: ["chandlery", "another-application"].map((client_id) => ({
    client_id,
    token_endpoint_auth_method: "none",
    application_type: "native",
    grant_types: ["authorization_code", "refresh_token"],
    redirect_uris: [redirectUri],
  })).concat({
    client_id: "robot",
    client_secret: "robot-secret",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  }),
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
  scopes: ["openid", "offline_access", "email", "profile", "groups"],
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, indicator) => {
        if (indicator !== tools) throw new errors.InvalidTarget();
        return { scope: "tools", audience: tools, accessTokenTTL: 600, accessTokenFormat: "jwt" };
      },
    },
  },
  extraTokenClaims: (_, token) => ({ groups: token.accountId ? ["engineering"] : ["robots"] }),
  rotateRefreshToken: () => true,
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@corp.example`, email_verified: true, name: id, groups: ["engineering"] }),
  }),
  cookies: { keys: ["for this test alone"] },
});
let held;
const answer = provider.callback();
createServer((request, response) => {
  if (request.url === "/hold") held = [];
  if (request.url === "/release") held = held.forEach((release) => release());
  if (["/hold", "/release"].includes(request.url)) return response.end();
  if (held && request.url === "/token") {
    const end = response.end.bind(response);
    response.end = (...body) => {
      held.push(() => end(...body));
      console.log("an answer is held");
    };
  }
  answer(request, response);
}).listen(Number(port), "127.0.0.1", () => console.log("listening"));
