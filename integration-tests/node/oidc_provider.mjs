// npm's oidc-provider as the issuer of an organization, on 127.0.0.1. Arguments: PORT REDIRECT_URI. Its development
// pages accept any login name and password; the name becomes the subject.
import { createServer } from "node:http";
import Provider from "oidc-provider";

const [port, redirectUri] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  // The second client is another application, whose tokens Chandlery must reject.
  clients: ["chandlery", "another-application"].map((client_id) => ({
    client_id,
    token_endpoint_auth_method: "none",
    application_type: "native",
    grant_types: ["authorization_code"],
    redirect_uris: [redirectUri],
  })),
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
  scopes: ["openid", "email", "profile", "groups"],
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@corp.example`, email_verified: true, name: id, groups: ["engineering"] }),
  }),
  cookies: { keys: ["for this test alone"] },
});
createServer(provider.callback()).listen(Number(port), "127.0.0.1", () => console.log("listening"));
