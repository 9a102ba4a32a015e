// Opens the install page of an installation with a changed destination in Chromium, as its owner (LOGIN, with the CODE
// of the development issuer), checks what it asks, submits it without and then with consent. Arguments: URL SECRET.
// Prints what it saw.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [url, secret] = process.argv.slice(2);
const require = createRequire(process.env.CHANDLERY_TEST_NODE_MODULES + "/x.js");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const seen = { violations: [], leaks: [] };
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await (await browser.newContext({ viewport: { width: 400, height: 800 } })).newPage();
page.setDefaultTimeout(30_000);
async function check(name) {
  if ((await page.content()).includes(secret)) seen.leaks.push(name);
  const screenshots = process.env.CHANDLERY_TEST_SCREENSHOTS;
  if (screenshots) await page.screenshot({ path: `${screenshots}/consent-${name}.png`, fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const { id, help, nodes } of violations) seen.violations.push({ page: name, rule: id, help, nodes: nodes.map((node) => node.html) });
}
const submit = async () => {
  const navigated = page.waitForEvent("framenavigated");
  await page.locator("form.install button[type=submit]").click();
  await navigated;
  await page.waitForLoadState("load");
};

try {
  await page.goto(url);
  for (let step = 0; step < 5 && new URL(page.url()).pathname.startsWith("/install") === false; step++) {
    if ((await page.locator("input[name=code]").count()) > 0) {
      await page.locator("input[name=email]").fill(`${process.env.LOGIN}@example.com`);
      await page.locator("input[name=code]").fill(process.env.CODE ?? "");
      await page.locator("button[type=submit]").first().click();
    } else {
      await page.locator("main a.button").first().click();
    }
    await page.waitForLoadState("networkidle");
  }
  seen.question = await page.locator("fieldset.confirm").innerText();
  seen.rows = await page.locator("table.changes tbody tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText)));
  seen.wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  await check("question");
  await submit();
  seen.error = await page.locator(".error").allInnerTexts();
  seen.described = await page.locator("#confirm").evaluate((box) => box.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id)?.innerText));
  await check("without-an-answer");
  await page.locator("#confirm").check();
  await submit();
  seen.url = page.url();
} catch (error) {
  seen.failure = String(error.stack ?? error);
  seen.html = await page.content().catch(() => "");
}
await browser.close();
console.log(JSON.stringify(seen));
