// Opens an install link in Chromium and completes the page as one kind of user. Arguments: MODE URL SECRET SCREENSHOTS.
// MODE is `mouse`, `keyboard` (no pointer) or `plain` (no JavaScript). Signs in with oidc-provider or with the
// development issuer (CODE in the environment). Prints what it saw.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [mode, url, secret, screenshots] = process.argv.slice(2);
const require = createRequire(process.env.CHANDLERY_TEST_NODE_MODULES + "/x.js");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const own = new URL(url).origin;
const user = process.env.LOGIN ?? "bob";
const seen = { violations: [], leaks: [], pages: [], console: [] };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext({ javaScriptEnabled: mode !== "plain" });
const page = await context.newPage();
page.setDefaultTimeout(30_000);
// No request to other hosts: oidc-provider's page would load a font.
await context.route((address) => address.hostname !== "127.0.0.1", (route) => route.abort());
page.on("console", (message) => message.type() === "error" && page.url().startsWith(own) && seen.console.push(`${message.text()} ${message.location().url}`));
page.on("pageerror", (error) => seen.console.push(String(error)));
// Checks a page with axe, which the debugger injects despite the page's CSP. Without JavaScript axe cannot run; the other modes check the
// same pages.
async function check(name) {
  // A page must never contain what was entered.
  if ((await page.content()).includes(secret)) seen.leaks.push(name);
  seen.pages.push({ name, url: page.url(), title: await page.title() });
  if (screenshots) await page.screenshot({ path: `${screenshots}/${mode}-${name}.png`, fullPage: true });
  if (mode === "plain" || !page.url().startsWith(own)) return;
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const violation of violations) {
    seen.violations.push({ page: name, rule: violation.id, help: violation.help, nodes: violation.nodes.map((node) => node.html) });
  }
}

// Presses Tab until the element of the selector has the focus.
async function tabTo(selector) {
  for (let step = 0; step < 60; step++) {
    await page.keyboard.press("Tab");
    const there = await page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector);
    if (there) return;
  }
  throw new Error(`Tab never reaches ${selector} on ${page.url()}`);
}
async function fill(selector, value) {
  if (mode !== "keyboard") return page.locator(selector).first().fill(value);
  await tabTo(selector);
  await page.keyboard.type(value);
}
// Presses an element that leads to another page.
async function press(selector) {
  const navigated = page.waitForEvent("framenavigated");
  if (mode === "keyboard") {
    await tabTo(selector);
    await page.keyboard.press("Enter");
  } else {
    await page.locator(selector).first().click();
  }
  await navigated;
}
const settle = () => page.waitForLoadState("networkidle");

try {
  await page.goto(url);
  await settle();
  for (let step = 0; step < 12; step++) {
    const here = new URL(page.url());
    if (here.origin !== own || (await page.locator("input[name=login], input[name=code]").count()) > 0) {
      // The sign-in page of oidc-provider or of the development issuer.
      if ((await page.locator("input[name=login]").count()) > 0) {
        await page.locator("input[name=login]").fill(user);
        await page.locator("input[name=password]").fill("any");
      } else if ((await page.locator("input[name=code]").count()) > 0) {
        await check("sign-in");
        await page.locator("input[type=email], input[name=email]").first().fill(`${user}@example.com`);
        await page.locator("input[name=code]").fill(process.env.CODE ?? "");
      }
      await page.locator("button[type=submit], input[type=submit]").first().click();
      await settle();
      continue;
    }
    if (here.pathname.startsWith("/signin")) {
      await check("choose-issuer");
      await press(process.env.ISSUER_LINK ?? "main a.button");
      await settle();
      continue;
    }
    break;
  }
  await check("form");
  seen.form = await page.locator("main").innerText();
  // The first submission is without the secret: the page must show what is missing, at the field.
  await press("form.install button[type=submit]");
  await settle();
  await check("form-with-error");
  seen.error = await page.locator(".error").allInnerTexts();
  seen.invalid = await page.locator("[aria-invalid=true]").count();
  await fill("input[type=password]", secret);
  await press("form.install button[type=submit]");
  await settle().catch(() => {});
  seen.progress_url = page.url();
  if (mode === "plain") {
    for (let step = 0; step < 60; step++) {
      seen.progress = await page.locator("main").innerText();
      if (/retry|again|ready|done/i.test(seen.progress) && !/waiting|working/i.test(seen.progress)) break;
      await page.waitForTimeout(250);
      await page.reload();
    }
  } else {
    await page.waitForFunction(() => /tool/i.test(document.querySelector("main")?.innerText ?? "") && !document.querySelector("main [aria-busy=true]"));
    seen.progress = await page.locator("main").innerText();
  }
  await check("progress");
  seen.cookies = (await context.cookies(own)).map(({ name, value, httpOnly, sameSite }) => ({ name, value, httpOnly, sameSite }));
} catch (error) {
  seen.failure = String(error.stack ?? error);
  seen.html = await page.content().catch(() => "");
}
await browser.close();
console.log(JSON.stringify(seen));
