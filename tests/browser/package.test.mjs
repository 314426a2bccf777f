// The JavaScript package as `npm pack` makes it, on a page of another server.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import * as support from "./support.mjs";
import { captions, image, open, ready, scratch } from "./support.mjs";

const CUP = image("cup.jpg");
let browser, remote, expected, page;

before(async () => {
  const packed = execFileSync("npm", ["pack", "--silent", "--pack-destination", scratch], {
    cwd: support.package_folder,
    encoding: "utf8",
  });
  const folder = join(scratch, "installed");
  mkdirSync(folder);
  execFileSync("tar", ["-xzf", join(scratch, packed.trim()), "-C", folder, "--strip-components=1"]);
  [browser, remote] = await Promise.all([support.launch(), support.files(folder)]);
  [expected] = captions(CUP);
  page = await browser.newPage();
  await page.goto(`${remote.url}/example.html`);
});

after(async () => {
  await browser?.close();
  await remote?.stop();
});

const picture = () => [...readFileSync(CUP)];

test("the example is short and captions a picture", async () => {
  const lines = readFileSync("web/js/example.html", "utf8").trim().split("\n");
  assert.ok(lines.length < 30, `the example has ${lines.length} lines`);
  await page.waitForFunction(() => document.querySelector("#caption").textContent === "Choose a picture.");
  await page.setInputFiles("#picture", CUP);
  await page.waitForFunction((text) => document.querySelector("#caption").textContent.trim() === text, expected);
});

test("replies are promises and streams, and tell what the model saw", async () => {
  const found = await page.evaluate(async (bytes) => {
    const { Ocelli } = await import("./engine/index.js");
    const progress = [];
    const model = await Ocelli.load("embedded", { onProgress: (p) => progress.push(p.done / p.total) });
    const blob = new Blob([new Uint8Array(bytes)]);
    let streamed = "";
    let pieces = 0;
    for await (const text of model.caption(blob)) {
      streamed += text;
      pieces += 1;
    }
    const events = [];
    for await (const event of model.caption(blob).events()) events.push(event);
    const chat = await model.chat([{ role: "user", content: [blob, "Describe this picture."] }], { maxTokens: 3 }).answer();
    const bitmap = await createImageBitmap(blob);
    const drawn = await model.caption(bitmap);
    model.close();
    return {
      progress: progress.at(-1),
      streamed: streamed.trim(),
      pieces,
      awaited: events.at(-1).answer.text.trim(),
      tokens: events.find((event) => event.type === "seen").view.sight.n_tokens,
      chat: [chat.generated_tokens, chat.stop_reason, chat.notes.at(-1)],
      drawn,
      info: model.info,
    };
  }, picture());
  assert.equal(found.progress, 1);
  assert.equal(found.streamed, expected);
  assert.ok(found.pieces > 2);
  assert.equal(found.awaited, expected);
  assert.ok(found.tokens > 4);
  assert.deepEqual(found.chat, [3, "max_tokens", "cut off after 3 tokens, as many as were allowed"]);
  assert.ok(found.drawn.length > 5);
  assert.equal(found.info.takes_pictures, true);
});

test("loading and answering can be aborted, and errors say what they are", async () => {
  const found = await page.evaluate(async (bytes) => {
    const { Ocelli } = await import("./engine/index.js");
    const name = (promise) => promise.then(() => "none", (error) => `${error.name}: ${error.kind ?? ""}`);
    const controller = new AbortController();
    const loading = Ocelli.load("embedded", { signal: controller.signal, onProgress: () => controller.abort() });
    const aborted = await name(loading);
    const model = await Ocelli.load();
    const answering = new AbortController();
    const reply = model.caption(new Uint8Array(bytes), { signal: answering.signal });
    const answer = await name((async () => { for await (const _ of reply) answering.abort(); })());
    // Leaving the loop ends the request; the next one does not wait for it.
    for await (const _ of model.caption(new Uint8Array(bytes))) break;
    const broken = await name(model.caption(new Uint8Array([1, 2, 3])).text());
    const misspelt = await name(model.caption(new Uint8Array(bytes), { maxToken: 3 }).text());
    const whole = await model.caption(new Uint8Array(bytes));
    const missing = await name(Ocelli.load("./missing.gguf"));
    return { aborted, answer, broken, misspelt, whole, missing };
  }, picture());
  assert.deepEqual(found, {
    aborted: "AbortError: ",
    answer: "AbortError: ",
    broken: "OcelliError: input",
    misspelt: "OcelliError: input",
    whole: expected,
    missing: "OcelliError: network",
  });
});

test("LanguageModel has the shape of the Prompt API", async () => {
  const found = await page.evaluate(async (bytes) => {
    const { LanguageModel } = await import("./engine/language-model.js");
    const loaded = [];
    const session = await LanguageModel.create({
      monitor: (target) => target.addEventListener("downloadprogress", (event) => loaded.push(event.loaded)),
    });
    const content = [{ type: "image", value: new Blob([new Uint8Array(bytes)]) }, { type: "text", value: "Describe this picture." }];
    const text = (await session.prompt([{ role: "user", content }])).trim();
    const used = session.inputUsage;
    let streamed = "";
    const reader = session.promptStreaming("What colour is it?").getReader();
    for (let read; !(read = await reader.read()).done; ) streamed += read.value;
    const result = {
      availability: await LanguageModel.availability(),
      loaded: loaded.at(-1),
      text,
      grows: session.inputUsage > used,
      streamed: streamed.length > 0,
      quota: session.inputQuota,
    };
    session.destroy();
    return result;
  }, picture());
  assert.deepEqual(found, { availability: "available", loaded: 1, text: expected, grows: true, streamed: true, quota: 2048 });
});

test("a page may let `ocelli serve` compute", async () => {
  const web = await support.serve();
  const child = spawn(support.ocelli, ["serve", "--quiet", "--listen", "127.0.0.1:0", "--allow-origin", web.url], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const [address] = await once(createInterface(child.stdout), "line", { signal: AbortSignal.timeout(support.PATIENCE) });
    const tab = await open(browser, web.url);
    await tab.click("#model-button");
    await tab.fill("#server-url", address);
    await tab.press("#server-url", "Enter");
    await tab.waitForFunction(() => /a server/.test(document.querySelector("#model-button").innerText));
    await ready(tab);
    await tab.setInputFiles("#pictures", CUP);
    assert.deepEqual(await support.captioned(tab, 1), [expected]);
    await tab.context().close();
  } finally {
    child.kill();
    await web.stop();
  }
});

test("half an answer of a server is not taken for a whole one", async () => {
  const events = ["A cu", "p of"].map((content) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
  const half = createServer((request, response) => {
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Access-Control-Allow-Headers", "*");
    if (request.url !== "/v1/models") return response.end(request.method === "POST" ? events.join("") : "");
    response.end(JSON.stringify({ data: [{ id: "half" }] }));
  });
  await once(half.listen(0, "127.0.0.1"), "listening");
  try {
    const url = `http://127.0.0.1:${half.address().port}`;
    const found = await page.evaluate(async (url) => {
      const { Ocelli } = await import("./engine/index.js");
      const model = await Ocelli.load({ server: url });
      let said = "";
      try {
        for await (const text of model.chat([{ role: "user", content: ["What is this?"] }])) said += text;
        return { said };
      } catch (error) {
        return { said, kind: error.kind, message: error.message };
      } finally {
        model.close();
      }
    }, url);
    const message = `\`${url}\` ended its answer before it was complete`;
    assert.deepEqual(found, { said: "A cup of", kind: "network", message });
  } finally {
    half.close();
  }
});
