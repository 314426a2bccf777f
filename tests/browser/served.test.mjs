// The page inside `ocelli serve`: its model answers, conversations are kept there, and tools ask first.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import * as support from "./support.mjs";
import { answered, captioned, captions, check, image, open, scratch } from "./support.mjs";

let browser, server;
const home = join(scratch, "home");

/** `ocelli serve` with conversations of its own. */
async function start() {
  mkdirSync(home, { recursive: true });
  const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: join(home, "config"), XDG_DATA_HOME: join(home, "data") };
  const child = spawn(support.ocelli, ["serve", "--listen", "127.0.0.1:0", "--grant-write", home], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await new Promise((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      const found = said.match(/http:\/\/\S+/);
      if (found) resolve(found[0]);
    });
    child.on("exit", () => reject(new Error(`the server ended: ${said}`)));
  });
  const stop = async () => {
    const ended = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  };
  return { url, stop };
}

before(async () => {
  [browser, server] = await Promise.all([support.launch(), start()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const ask = async (page, text) => {
  await page.fill("#message", text);
  await page.press("#message", "Enter");
};

test("captions come from this machine, with strict headers", async () => {
  const page = await open(await browser.newContext(), server.url);
  assert.match(await page.locator("#model-button").innerText(), /This machine/);
  await page.setInputFiles("#pictures", image("two-apples.png"));
  assert.deepEqual(await captioned(page, 1), captions(image("two-apples.png")));
  await support.checkSaw(page);
  const { headers } = await fetch(server.url);
  assert.match(headers.get("content-security-policy"), /default-src 'none'/);
  assert.equal(headers.get("x-content-type-options"), "nosniff");
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test("a conversation outlives the server, with its picture, its branches and its search", async () => {
  const context = await browser.newContext();
  let page = await open(context, server.url);
  await page.click("#chat-tab");
  await page.setInputFiles("#chat-pictures", image("star-and-heart.png"));
  await page.waitForSelector(".attached img");
  await ask(page, "What colour is the star?");
  const answer = await answered(page, 1);
  assert.equal(answer.trim(), support.ask(image("star-and-heart.png"), "What colour is the star?"));
  await page.waitForSelector(".message.user .seen");
  await support.checkSaw(page);
  await page.click('button:text-is("Again")');
  assert.equal((await answered(page, 1)).trim(), answer.trim());
  await page.close();
  await server.stop();
  server = await start();

  page = await open(context, server.url);
  await page.click("#chat-tab");
  await page.click("#kept");
  await page.fill("#wanted", "colour");
  await page.waitForFunction(() => /\[colour\]/.test(document.querySelector("#conversations .stored")?.innerText));
  await page.fill("#wanted", "");
  await page.waitForFunction(() => document.querySelectorAll("#conversations .stored li").length === 1);
  await page.click("#conversations .kept");
  await page.waitForSelector(".message.user img");
  assert.equal((await page.locator(".message:not(.user) .markdown").innerText()).trim(), answer.trim());
  // The picture is there again, and the next question is about it.
  const { width } = await page.locator(".message.user img").boundingBox();
  assert.ok(width > 20, `the picture is ${width} pixels wide`);
  await ask(page, "What is next to the star?");
  await page.waitForFunction(() => document.querySelectorAll(".speed").length === 1, null, support.WAIT);
  assert.equal(await page.locator(".message").count(), 4);
  // Another question in place of the second one.
  await page.locator('button:text-is("Edit")').last().click();
  await ask(page, "What is in this picture?");
  await page.waitForFunction(() => document.querySelectorAll(".speed").length === 1, null, support.WAIT);
  assert.equal(await page.locator(".message").count(), 4);
  await page.click("#kept");
  await page.click('#conversations button:has-text("Remove")');
  await page.waitForFunction(() => document.querySelectorAll("#conversations .stored li").length === 0);
  assert.deepEqual(page.problems, []);
  await context.close();
});

/** Lets the test be the server of a task: `tell(news)` and `end()` on the page, and `decisions` that it made. */
function takeOver() {
  const real = window.fetch;
  window.decisions = [];
  window.fetch = async (url, init) => {
    if (/\/decision$/.test(url)) {
      window.decisions.push(JSON.parse(init.body));
      return new Response(null, { status: 204 });
    }
    if (!/api\/desk\/sessions$/.test(url) || init.method !== "POST") return real(url, init);
    window.task = JSON.parse(init.body);
    const lines = new ReadableStream({
      start(controller) {
        window.tell = (news) => controller.enqueue(new TextEncoder().encode(`${JSON.stringify(news)}\n`));
        window.end = () => controller.close();
      },
    });
    return new Response(lines);
  };
}

for (const [colorScheme, width, language] of [["light", 1200, "en"], ["dark", 360, "zh"]]) {
  test(`a call is asked about with exactly what it would do: ${colorScheme}, ${width} pixels`, async () => {
    const context = await browser.newContext({
      bypassCSP: true, // axe is put into the page as a text
      colorScheme,
      locale: language === "zh" ? "zh-CN" : "en-GB",
      reducedMotion: "reduce",
      viewport: { width, height: 800 },
    });
    await context.addInitScript(takeOver);
    const page = await open(context, server.url);
    const tell = (news) => page.evaluate((news) => window.tell(news), news);
    await page.click("#chat-tab");
    await page.check("#tools");
    await ask(page, "Write it down");
    await page.waitForFunction(() => window.tell);
    assert.deepEqual(await page.evaluate(() => window.task), { text: "Write it down", pictures: [], tools: true, keep: null });
    const clock = { id: "b", name: "clock", arguments: {} };
    const write = { id: "c", name: "write_file", arguments: { path: "home/x\u202etxt.", content: "milk" } };
    const replied = { text: "", prompt_tokens: 9, cached_tokens: 0, generated_tokens: 3 };
    await tell({ session: "s" });
    await tell({ kept: 1 });
    await tell({ replied: { ...replied, calls: [clock, write] } });
    await tell({ calling: clock });
    const parts = [{ origin: "computed", content: { text: "noon" } }];
    await tell({ returned: { call: clock, output: { parts, failed: false } } });
    await tell({ asked: { call: write, effect: { changes: { folder: "home" } }, foreign: ["picture"] } });
    await page.waitForSelector(".question");
    assert.equal((await page.locator(".steps summary").innerText()).trim(), "clock {}");
    await page.click(".steps summary");
    assert.equal(await page.locator(".steps pre").innerText(), "noon");
    const question = await page.locator(".question").innerText();
    for (const part of ["write_file", "x\\u{202e}txt.", "milk", language === "zh" ? "图片" : "a picture"]) {
      assert.ok(question.includes(part), `${part} in ${question}`);
    }
    await check(page, `question-${colorScheme}-${width}`);
    await page.locator("#yes").focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => window.decisions.length === 1);
    assert.deepEqual(await page.evaluate(() => window.decisions), [{ call: "c", allow: true, remember: false }]);
    assert.equal(await page.locator(".question").count(), 0);
    await tell({ decided: { call: write, allow: true, reason: null } });
    await tell({ calling: write });
    await tell({ returned: { call: write, output: { parts, failed: false } } });
    await tell({ replied: { ...replied, text: "Done.", calls: [] } });
    await tell({ note: "a picture was made smaller" });
    await tell({ finished: { answered: { text: "Done." } } });
    await page.evaluate(() => window.end());
    assert.equal((await answered(page, 1)).trim(), "Done.");
    assert.equal(await page.locator(".steps summary").count(), 2);
    assert.match(await page.locator(".notes").textContent(), /made smaller/);
    await page.click("#kept");
    await page.waitForSelector("dialog#conversations[open]");
    await check(page, `conversations-${colorScheme}-${width}`);
    await page.keyboard.press("Escape");
    await context.close();
  });
}
