// Signs a user in at oidc-provider with the authorization code flow and PKCE, and prints the tokens. Arguments: ISSUER
// CLIENT_ID REDIRECT_URI LOGIN.
import { createHash, randomBytes } from "node:crypto";

const [issuer, client, redirectUri, login] = process.argv.slice(2);
const jar = new Map();

async function ask(url, form) {
  const response = await fetch(url, {
    method: form ? "POST" : "GET",
    body: form && new URLSearchParams(form),
    headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; ") },
    redirect: "manual",
  });
  for (const cookie of response.headers.getSetCookie()) {
    const [pair, ...attributes] = cookie.split(";");
    const [name, value] = pair.split(/=(.*)/s);
    if (attributes.some((attribute) => /expires=Thu, 01 Jan 1970/i.test(attribute))) jar.delete(name);
    else jar.set(name, value);
  }
  return response;
}

const metadata = await (await ask(`${issuer}/.well-known/openid-configuration`)).json();
const verifier = randomBytes(32).toString("base64url");
const query = new URLSearchParams({
  client_id: client,
  redirect_uri: redirectUri,
  response_type: "code",
  scope: "openid email profile groups",
  code_challenge: createHash("sha256").update(verifier).digest("base64url"),
  code_challenge_method: "S256",
});
let url = `${metadata.authorization_endpoint}?${query}`;
let code;
for (let step = 0; step < 12 && !code; step++) {
  let response = await ask(url);
  if (response.status === 200) {
    const prompt = /name="prompt" value="(\w+)"/.exec(await response.text())[1];
    response = await ask(url, prompt === "login" ? { prompt, login, password: "any" } : { prompt });
  }
  url = new URL(response.headers.get("location"), url).href;
  if (url.startsWith(redirectUri)) code = new URL(url).searchParams.get("code");
}
const tokens = await ask(metadata.token_endpoint, {
  grant_type: "authorization_code",
  client_id: client,
  redirect_uri: redirectUri,
  code_verifier: verifier,
  code,
});
console.log(JSON.stringify(await tokens.json()));
