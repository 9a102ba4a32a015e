// Opens an install link in Chromium as LOGIN, with the CODE of the development issuer. ACTION `connect` installs, if that is still to do, and
// connects ACCOUNT, which is typed at the authorization server; `disconnect` disconnects. Arguments: URL ACTION. Prints what the page says
// of the account then.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [url, action] = process.argv.slice(2);
const { LOGIN: login, CODE: code, ACCOUNT: account, CHANDLERY_TEST_SCREENSHOTS: screenshots } = process.env;
const require = createRequire(process.env.CHANDLERY_TEST_NODE_MODULES + "/x.js");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const seen = { violations: [], hosts: [] };
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage();
page.setDefaultTimeout(30_000);
page.on("framenavigated", (frame) => seen.hosts.push(new URL(frame.url()).host));
const press = async (selector) => {
  const navigated = page.waitForEvent("framenavigated");
  await page.locator(selector).first().click();
  await navigated;
  await page.waitForLoadState("load");
};

try {
  await page.goto(url);
  for (let step = 0; step < 5 && !new URL(page.url()).pathname.startsWith("/install"); step++) {
    if ((await page.locator("input[name=code]").count()) > 0) {
      await page.locator("input[name=email]").fill(`${login}@example.com`);
      await page.locator("input[name=code]").fill(code);
      await press("button[type=submit]");
    } else {
      await press("main a.button");
    }
  }
  if ((await page.locator("section.connection").count()) === 0) await press("form.install button[type=submit]");
  await press(`form[action*="/${action}/"] button`);
  if (action === "connect") {
    // A page says where the browser is being sent, and sends it there.
    await page.locator("input[name=login]").fill(account);
    await press("button");
  }
  const section = page.locator("section.connection");
  seen.text = await section.innerText();
  seen.details = await section.locator("dt").evaluateAll((terms) => terms.map((term) => [term.innerText, term.nextElementSibling.innerText]));
  seen.buttons = await section.locator("button").allInnerTexts();
  seen.url = page.url();
  if (screenshots) await page.screenshot({ path: `${screenshots}/${action}.png`, fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const { id, help, nodes } of violations) seen.violations.push({ rule: id, help, nodes: nodes.map((node) => node.html) });
} catch (error) {
  seen.failure = String(error.stack ?? error);
}
seen.html = await page.content().catch(() => "");
await browser.close();
console.log(JSON.stringify(seen));
