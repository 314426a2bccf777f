// Everybody can use it: an accessibility check of each view, dark and light, wide and narrow, in both languages.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import * as support from "./support.mjs";
import { answered, captioned, check, image, open } from "./support.mjs";

let browser, server;

before(async () => {
  [browser, server] = await Promise.all([support.launch(), support.serve()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

for (const [colorScheme, width, height, language] of [
  ["light", 1200, 850, "en-GB"],
  ["dark", 1200, 850, "zh-CN"],
  ["light", 360, 740, "zh-CN"],
  ["dark", 360, 740, "en-GB"],
]) {
  const name = `${colorScheme}-${width}-${language.slice(0, 2)}`;
  test(`no violation: ${name}`, async () => {
    const context = await browser.newContext({
      bypassCSP: true, // axe is put into the page as a text
      colorScheme,
      locale: language,
      reducedMotion: "reduce",
      viewport: { width, height },
    });
    const page = await open(context, server.url);
    assert.equal(await page.getAttribute("html", "lang"), language.startsWith("zh") ? "zh-CN" : "en");
    await check(page, `${name}-empty`);
    await page.setInputFiles("#pictures", ["car-on-grass.png", "cup.jpg", "star-and-heart.png"].map(image));
    await captioned(page, 3);
    await page.locator(".seen summary").nth(1).click();
    await check(page, `${name}-caption`);
    await page.click("#chat-tab");
    await check(page, `${name}-chat-empty`);
    await page.setInputFiles("#chat-pictures", image("tree-and-car.png"));
    await page.waitForSelector(".attached img");
    await page.fill("#message", "What is **this**?\n\n```rust\nfn main() {}\n```");
    await page.press("#message", "Enter");
    await answered(page, 1);
    await page.locator(".message:not(.user) summary").first().click();
    await check(page, `${name}-chat`);
    await page.click("#model-button");
    await page.waitForFunction(() => document.querySelectorAll(".stored li").length === 1);
    await check(page, `${name}-models`);
    assert.deepEqual(page.problems, []);
    await context.close();
  });
}
