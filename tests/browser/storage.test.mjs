// Models on the device: fetched once, resumed, checked, shared between tabs, and there without a network.

import assert from "node:assert/strict";
import { mkdtempSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import * as support from "./support.mjs";
import { captioned, captions, image, loadFrom, open, ready } from "./support.mjs";

const MEBIBYTE = 1 << 20;
const CUP = image("cup.jpg");
let browser, server;

before(async () => {
  [browser, server] = await Promise.all([support.launch(), support.serve()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const model = () => support.files(join(support.page_folder, "engine/model"));
const weights = (remote) => remote.seen.filter(({ path }) => path.endsWith("model.safetensors"));

async function caption(page) {
  await page.setInputFiles("#pictures", CUP);
  assert.deepEqual(await captioned(page, 1), captions(CUP));
  await page.click('button:text-is("Clear")');
}

test("with the server stopped, the page opens again and captions", async () => {
  const own = await support.serve();
  const context = await browser.newContext();
  const page = await open(context, own.url);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(async () => {
    const names = await caches.keys();
    return names.length === 1 && (await (await caches.open(names[0])).keys()).length > 5;
  });
  await own.stop();
  await page.reload();
  await ready(page);
  await caption(page);
  await context.close();
});

test("a download that is cut goes on where it was", async () => {
  const remote = await model();
  remote.state.cutAt = 7 * MEBIBYTE + 12345;
  const context = await browser.newContext();
  const page = await open(context, server.url);
  await loadFrom(page, `${remote.url}/manifest.json`);
  await ready(page);
  // What was on its way when the connection broke may be lost with it.
  const [first, second, ...more] = weights(remote).map(({ from }) => from);
  assert.deepEqual([first, more], [0, []]);
  assert.ok(second > 0 && second <= 7 * MEBIBYTE && second % MEBIBYTE === 0, `${second}`);
  await caption(page);
  await context.close();
  await remote.stop();
});

test("a page that is closed in the middle of a download goes on with it later", async () => {
  const remote = await model();
  const context = await browser.newContext();
  let page = await open(context, server.url);
  // Nothing comes after nine of twenty chunks until the page is gone.
  const stall = remote.state;
  stall.cutAt = 9 * MEBIBYTE + 1;
  stall.stall = true;
  await loadFrom(page, `${remote.url}/manifest.json`);
  await page.waitForFunction(() => /^9\.\d MB|^9\.\d/.test(document.querySelector("#loading .quiet")?.textContent ?? ""));
  await page.close();
  stall.stall = false;
  stall.cutAt = Infinity;
  page = await open(context, server.url);
  await loadFrom(page, `${remote.url}/manifest.json`);
  await ready(page);
  assert.deepEqual(weights(remote).map(({ from }) => from), [0, 9 * MEBIBYTE]);
  await caption(page);
  await context.close();
  await remote.stop();
});

/** Flips a bit of a stored file, from a worker of the page, where files can be written in place. */
const flip = (page, at) =>
  page.evaluate(async (at) => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
    for await (const [, folder] of root.entries()) {
      const file = await folder.getFileHandle("model.safetensors");
      const byte = new Uint8Array(await (await file.getFile()).slice(at, at + 1).arrayBuffer());
      const writable = await file.createWritable({ keepExistingData: true });
      await writable.write({ type: "write", position: at, data: new Uint8Array([byte[0] ^ 4]) });
      await writable.close();
    }
  }, at);

test("a flipped bit is caught: its chunk is fetched again, or named if that is impossible", async () => {
  const own = await support.serve();
  const context = await browser.newContext();
  const page = await open(context, own.url);
  await flip(page, 3 * MEBIBYTE + 77);
  await page.reload();
  await ready(page);
  const note = await page.locator("#model-notes").innerText();
  assert.match(note, /chunk 4 of `model\.safetensors` on this device was damaged; it was fetched again/);
  await caption(page);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await flip(page, 5 * MEBIBYTE);
  await own.stop();
  await page.reload();
  await page.waitForSelector(".notice.wrong");
  const problem = await page.locator(".notice.wrong").innerText();
  assert.match(problem, /chunk 6 of `model\.safetensors` on this device was damaged, and it cannot be fetched again/);
  await context.close();
});

test("two tabs load the same model with one download", async () => {
  const remote = await model();
  const context = await browser.newContext();
  const [one, two] = await Promise.all([open(context, server.url), open(context, server.url)]);
  await Promise.all([one, two].map((page) => loadFrom(page, `${remote.url}/manifest.json`)));
  await Promise.all([ready(one), ready(two)]);
  assert.equal(weights(remote).length, 1);
  await caption(one);
  await caption(two);
  await context.close();
  await remote.stop();
});

test("without room a model is used and not kept, and the numbers are told", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  await page.goto(`${server.url}/icon.svg`);
  await session.send("Storage.overrideQuotaForOrigin", { origin: server.url, quotaSize: 5e6 });
  await page.goto(server.url);
  await ready(page);
  const note = await page.locator("#model-notes").innerText();
  assert.match(note, /not kept on this device: writing 1\.0 MB at \d\.\d MB failed \(.*\); the browser stores \d\.\d MB of at most/);
  await caption(page);
  await context.close();
});

test("a model that is too large for a page is refused before it is fetched", async () => {
  const folder = mkdtempSync(join(support.scratch, "large-"));
  writeFileSync(join(folder, "large.gguf"), "");
  truncateSync(join(folder, "large.gguf"), 2.5e9);
  const remote = await support.files(folder);
  const context = await browser.newContext();
  const page = await open(context, server.url);
  await loadFrom(page, `${remote.url}/large.gguf`);
  await page.waitForSelector(".notice.wrong");
  const said = await page.locator(".notice.wrong").innerText();
  assert.match(said, /`large\.gguf` has 2\.50 GB; a page can hold 2\.15 GB at most\. Run `ocelli serve`/);
  assert.deepEqual(remote.seen, []);
  await context.close();
  await remote.stop();
});

test("what is kept is listed and can be removed", async () => {
  const context = await browser.newContext();
  const page = await open(context, server.url);
  await page.click("#model-button");
  await page.waitForFunction(() => document.querySelectorAll(".stored li").length === 1);
  assert.match(await page.locator(".stored li").innerText(), /model · 20\.7 MB/);
  await page.click(".stored button");
  await page.waitForFunction(() => document.querySelectorAll(".stored li").length === 0);
  await context.close();
});

test("a server that has no such file, and an address that is none, are said", async () => {
  const remote = await model();
  const context = await browser.newContext();
  const page = await open(context, server.url);
  for (const [path, said] of [
    ["missing.gguf", /missing\.gguf` answered 404/],
    ["tokenizer.json", /is no list of files/],
    ["model.safetensors", /names no \.gguf file and no \.json list/],
  ]) {
    await loadFrom(page, `${remote.url}/${path}`);
    await page.waitForSelector(".notice.wrong");
    assert.match(await page.locator(".notice.wrong").innerText(), said);
  }
  await page.click("#model-button");
  await page.click('.choice button:text-is("Use") >> nth=0');
  await ready(page);
  await caption(page);
  await context.close();
  await remote.stop();
});
