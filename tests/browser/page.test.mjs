// The page in a real browser: the same captions as the command line, and all that one does with them.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { brotliCompressSync, constants } from "node:zlib";

import * as support from "./support.mjs";
import { WAIT, answered, captioned, captions, image, open, ready, scratch, turned } from "./support.mjs";

let browser, server, context;

before(async () => {
  [browser, server] = await Promise.all([support.launch(), support.serve()]);
  context = await browser.newContext({ permissions: ["clipboard-read", "clipboard-write", "camera"] });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

test("captions equal those of the command line: PNG, turned JPEG, WebP", async () => {
  const rotated = join(scratch, "rotated.jpg");
  writeFileSync(rotated, turned(image("cup.jpg"), 6));
  const paths = [image("car-on-grass.png"), rotated, image("umbrella.webp"), image("star-and-heart.png")];
  const page = await open(context, server.url);
  await page.setInputFiles("#pictures", paths);
  const found = await captioned(page, paths.length);
  assert.deepEqual(found.reverse(), captions(...paths));
  // All that happened to a picture is told.
  const notes = await page.locator(".batch tr", { hasText: "rotated.jpg" }).locator(".notes").innerText();
  assert.match(notes, /turned upright \(EXIF orientation 6\)/);
  assert.match(notes, /resized from/);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test("what the model saw is shown with its tokens", async () => {
  const page = await open(context, server.url);
  await page.setInputFiles("#pictures", image("cup.jpg"));
  await captioned(page, 1);
  await support.checkSaw(page);
  await page.close();
});

test("a damaged picture is reported and the others go on; the batch is saved in three forms", async () => {
  const damaged = join(scratch, "damaged.png");
  writeFileSync(damaged, readFileSync(image("three-hearts.png")).subarray(0, 300));
  const page = await open(context, server.url);
  await page.setInputFiles("#pictures", [damaged, image("two-apples.png")]);
  await captioned(page, 2);
  const [expected] = captions(image("two-apples.png"));
  const saved = async (label) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(`button:text-is("${label}")`)]);
    assert.equal(download.suggestedFilename(), `captions${label}`);
    return readFileSync(await download.path(), "utf8");
  };
  const lines = (await saved(".jsonl")).trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map((line) => [line.name, line.caption]), [["damaged.png", undefined], ["two-apples.png", expected]]);
  assert.ok(lines[0].error.length > 10, lines[0].error);
  assert.ok((await saved(".txt")).includes(`two-apples.png: ${expected}\n`));
  assert.match(await saved(".csv"), /^name,caption,error,notes\r\ndamaged\.png,,/);
  await page.click('button:text-is("Copy all")');
  await page.waitForFunction(() => document.querySelector(".sr[role=status]").textContent === "Copied.");
  assert.ok((await page.evaluate(() => navigator.clipboard.readText())).includes(expected));
  await page.close();
});

test("a conversation about a picture: answer, details, again, edit", async () => {
  const page = await open(context, server.url);
  await page.click("#chat-tab");
  await page.setInputFiles("#chat-pictures", image("star-and-heart.png"));
  await page.waitForSelector(".attached img");
  await page.fill("#message", "What colour is the star?");
  await page.press("#message", "Enter");
  const answer = await answered(page, 1);
  const expected = support.ask(image("star-and-heart.png"), "What colour is the star?");
  assert.equal(answer.trim(), expected);
  await page.click('.message summary:text-is("Details")');
  assert.match(await page.locator(".speed").innerText(), /[\d.]+ tokens\/s · \d+ ms to the first token · \d+ tokens read/);
  await page.click('button:text-is("Again")');
  assert.equal((await answered(page, 1)).trim(), expected);
  await page.click('button:text-is("Edit")');
  assert.equal(await page.inputValue("#message"), "What colour is the star?");
  assert.equal(await page.locator(".message").count(), 0);
  await page.fill("#message", "What is next to the star?");
  await page.press("#message", "Enter");
  await answered(page, 1);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test("an answer can be stopped, and the next one is whole", async () => {
  const page = await open(context, server.url);
  // Many pictures at once: the first runs, the others wait.
  const paths = Array.from({ length: 12 }, () => image("tree-and-car.png"));
  await page.setInputFiles("#pictures", paths);
  await page.waitForSelector(".caret");
  await page.click('button:text-is("Stop")');
  await page.waitForFunction(() => document.querySelectorAll(".batch tr .quiet").length > 8);
  await page.waitForFunction(() => !document.querySelector(".caret"));
  const stopped = await page.getByText("Stopped.").count();
  assert.ok(stopped >= 8, `${stopped} of 12 were stopped`);
  await page.click('button:text-is("Clear")');
  await page.setInputFiles("#pictures", paths[0]);
  assert.deepEqual(await captioned(page, 1), captions(paths[0]));
  await page.close();
});

test("live captions of a camera have a rate, and rest while the tab does not show", async () => {
  const page = await open(context, server.url);
  await page.click('button:text-is("Camera")');
  await page.waitForFunction(() => document.querySelector(".live video")?.videoWidth > 0);
  await page.click('button:text-is("Live captions")');
  await page.waitForFunction(() => /^[\d.]+ captions a second$/.test(document.querySelector(".live .rate").textContent));
  assert.ok((await page.locator(".live .said").innerText()).length > 5);
  // A browser without windows shows every tab, so the page is told otherwise.
  const hide = (is_hidden) => page.evaluate((is_hidden) => {
    Object.defineProperty(document, "hidden", { value: is_hidden, configurable: true });
  }, is_hidden);
  await page.evaluate(() => {
    window.n_asked = 0;
    const ask = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (...message) {
      window.n_asked += 1;
      return ask.apply(this, message);
    };
  });
  await hide(true);
  await page.waitForFunction(async () => {
    const before = window.n_asked;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    return window.n_asked === before;
  }, null, WAIT);
  const before = await page.evaluate(() => window.n_asked);
  await hide(false);
  await page.waitForFunction((before) => window.n_asked > before + 1, before, WAIT);
  await page.click('button:text-is("Stop live captions")');
  await page.click('button:text-is("Caption this moment")');
  assert.equal((await captioned(page, 1)).length, 1);
  await page.click('.live button:text-is("Close")');
  assert.equal(await page.locator(".live").count(), 0);
  await page.close();
});

test("all of it works by keyboard alone", async () => {
  const page = await open(context, server.url);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.innerText.trim());
  const seen = [];
  const tabTo = async (wanted) => {
    for (let i = 0; i < 40; i += 1) {
      await page.keyboard.press("Tab");
      const at = await focused();
      seen.push(at);
      const visible = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle !== "none"
        || document.activeElement.id === "message" || document.activeElement === document.body);
      assert.ok(visible, `the focus on "${at}" shows`);
      if (at === wanted) return;
    }
    assert.fail(`no way to "${wanted}" by Tab: ${seen.join(" | ")}`);
  };
  await tabTo("Skip to content");
  const [chooser] = await Promise.all([
    page.waitForEvent("filechooser"),
    tabTo("Choose pictures").then(() => page.keyboard.press("Enter")),
  ]);
  await chooser.setFiles(image("umbrella.webp"));
  assert.deepEqual(await captioned(page, 1), captions(image("umbrella.webp")));
  await page.keyboard.press("Shift+Tab");
  await page.focus("body");
  await page.evaluate(() => document.activeElement.blur());
  await page.locator("#caption-tab").focus();
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => document.activeElement.id === "chat-tab");
  await tabTo("message");
  await page.keyboard.type("Hello");
  await page.keyboard.press("Enter");
  await answered(page, 1);
  await page.locator("#model-button").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog[open]");
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog:not([open])", { state: "attached" });
  assert.equal(await focused(), "model-button", "the focus comes back from the dialog");
  await page.close();
});

test("the page is usable before its model is there, asks nobody else, and is small", async () => {
  const fresh = await browser.newContext();
  const asked = [];
  fresh.on("request", (request) => asked.push(new URL(request.url()).origin));
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await fresh.route("**/model.safetensors", async (route) => {
    await held;
    await route.continue();
  });
  const page = await fresh.newPage();
  await page.goto(server.url);
  await page.waitForSelector("#loading");
  await page.click("#chat-tab");
  await page.fill("#message", "Hello");
  await page.click("#caption-tab");
  await page.setInputFiles("#pictures", image("cup.jpg"));
  release();
  await ready(page);
  assert.deepEqual([...new Set(asked.filter((origin) => origin !== "null"))], [server.url]);
  await fresh.close();
  const wasm = readFileSync(join(support.page_folder, "engine/worker_bg.wasm"));
  const packed = brotliCompressSync(wasm, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }).length;
  assert.ok(packed < 6e6, `the engine is ${packed} bytes, packed`);
});

test("strict headers come with every file", async () => {
  for (const path of ["/", "/ui_bg.wasm", "/engine/worker-main.js", "/missing"]) {
    const { headers } = await fetch(server.url + path).then((response) => response);
    assert.equal(headers.get("cross-origin-opener-policy"), "same-origin", path);
    assert.equal(headers.get("cross-origin-embedder-policy"), "require-corp", path);
    const policy = headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'/, path);
    assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'/, path);
  }
});

test("an engine that dies is started again with its model", async () => {
  const page = await open(context, server.url);
  const [worker] = page.workers();
  const next = page.waitForEvent("worker");
  await worker.evaluate(() => setTimeout(() => { throw new Error("out of memory"); }));
  await next;
  await ready(page);
  await page.setInputFiles("#pictures", image("cup.jpg"));
  assert.deepEqual(await captioned(page, 1), captions(image("cup.jpg")));
  await page.close();
});

test("a GGUF file from the user's disk answers like the model it was made of", async () => {
  const gguf = join(scratch, "model.gguf");
  execFileSync(support.ocelli, ["quantize", "assets/model", gguf, "--type", "f16"], { stdio: "ignore" });
  assert.ok(statSync(gguf).size > 1e6);
  const page = await open(context, server.url);
  await page.click("#model-button");
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.click('button:text-is("Choose a file")')]);
  await chooser.setFiles(gguf);
  await page.waitForFunction(() => /model\.gguf/.test(document.querySelector("#model-button").innerText));
  await ready(page);
  await page.setInputFiles("#pictures", image("two-apples.png"));
  const [expected] = captions("--model", gguf, image("two-apples.png"));
  assert.deepEqual(await captioned(page, 1), [expected]);
  await page.close();
});
