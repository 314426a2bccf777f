// Memory does not grow with use.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as support from "./support.mjs";
import { image, open } from "./support.mjs";

test("after 200 turns page and worker hold what they held after 20", async () => {
  const [browser, server] = await Promise.all([support.launch(), support.serve()]);
  const page = await open(browser, server.url);
  const started = page.waitForEvent("worker");
  await page.evaluate(async (bytes) => {
    const { Ocelli } = await import("./engine/index.js");
    const model = await Ocelli.load();
    let messages = [];
    window.turn = async () => {
      // A conversation about a picture that grows, and begins again.
      if (messages.length > 12) messages = [];
      const content = messages.length ? "And now?" : [new Uint8Array(bytes), "Describe this picture."];
      messages.push({ role: "user", content });
      messages.push({ role: "assistant", content: await model.chat(messages, { maxTokens: 2 }) });
    };
  }, [...readFileSync(image("cup.jpg"))]);
  const worker = await started;
  const measure = async (turns) => {
    const heaps = await page.evaluate(async (turns) => {
      for (let i = 0; i < turns; i += 1) await window.turn();
      // Of the page and its workers, after collecting garbage.
      return (await performance.measureUserAgentSpecificMemory()).bytes;
    }, turns);
    const wasm = await worker.evaluate(async () => {
      const { default: init } = await import("/engine/worker.js");
      return (await init()).memory.buffer.byteLength;
    });
    return { heaps, wasm };
  };
  const [early, late] = [await measure(20), await measure(180)];
  assert.ok(early.wasm > 20e6, `${early.wasm} bytes are fewer than the model has`);
  assert.equal(late.wasm, early.wasm);
  assert.ok(late.heaps < early.heaps * 1.1, `${early.heaps} bytes became ${late.heaps}`);
  await browser.close();
  await server.stop();
});
