// Memory does not grow with use: neither the page's, nor the worker's, nor that of the graphics processor.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as support from "./support.mjs";
import { image, open } from "./support.mjs";

/** Bytes that the process holds in which Chromium runs WebGPU, where this system tells. */
async function gpuProcess(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  const { id } = processInfo.find(({ type }) => type === "GPU");
  const [, kib] = readFileSync(`/proc/${id}/status`, "utf8").match(/VmRSS:\s+(\d+) kB/);
  return 1024 * kib;
}

for (const engine of ["processor", "web_gpu"]) {
  test(`after 200 turns on the ${engine} all hold what they held after 20`, async () => {
    const isGpu = engine === "web_gpu";
    const flags = isGpu ? ["--enable-unsafe-webgpu"] : [];
    const [browser, server] = await Promise.all([support.launch(...flags), support.serve()]);
    const page = await open(browser, server.url);
    const started = page.waitForEvent("worker");
    await page.evaluate(async ([bytes, engine]) => {
      const { Ocelli } = await import("./engine/index.js");
      const model = await Ocelli.load(undefined, { engine });
      let messages = [];
      window.turn = async () => {
        // A conversation about a picture that grows, and begins again.
        if (messages.length > 12) messages = [];
        const content = messages.length ? "And now?" : [new Uint8Array(bytes), "Describe this picture."];
        messages.push({ role: "user", content });
        const answer = await model.chat(messages, { maxTokens: 2 }).answer();
        messages.push({ role: "assistant", content: answer.text });
        return answer.gpu?.held_bytes;
      };
    }, [[...readFileSync(image("cup.jpg"))], engine]);
    const worker = await started;
    const measure = async (turns) => {
      const [heaps, gpu] = await page.evaluate(async (turns) => {
        let gpu;
        for (let i = 0; i < turns; i += 1) gpu = (await window.turn()) ?? gpu;
        // Of the page and its workers, after collecting garbage.
        return [(await performance.measureUserAgentSpecificMemory()).bytes, gpu];
      }, turns);
      const wasm = await worker.evaluate(async () => {
        const { default: init } = await import("/engine/worker.js");
        return (await init()).memory.buffer.byteLength;
      });
      return { heaps, gpu, wasm, process: isGpu && process.platform === "linux" ? await gpuProcess(browser) : 0 };
    };
    // Both ends lie at the same place of a conversation, which has seven questions.
    const [early, late] = [await measure(21), await measure(182)];
    const told = JSON.stringify({ early, late });
    assert.ok((isGpu ? early.gpu : early.wasm) > 20e6, `less than the model has: ${told}`);
    assert.equal(late.wasm, early.wasm, told);
    assert.equal(late.gpu, early.gpu, told);
    assert.ok(late.heaps < early.heaps * 1.1, told);
    assert.ok(late.process <= early.process * 1.1, told);
    await browser.close();
    await server.stop();
  });
}
