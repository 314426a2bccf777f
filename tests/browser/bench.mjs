// Our engine in WebAssembly on one thread, and wllama's on one and on two, in turns in one headless Chromium, on one
// GGUF file:
// cargo xtask web --bench MODEL.gguf

import { createServer } from "node:http";
import { basename, dirname, join } from "node:path";

import { median, prompt } from "../../web/ui/static/bench.js";
import { files, launch, serve } from "./support.mjs";

const RUNS = 3;
const TOKENS = 33;
const [model] = process.argv.slice(2);
const wllama = join(process.env.OCELLI_NODE_MODULES, "node_modules/@wllama/wllama");

const browser = await launch();
const [server, weights, peer] = await Promise.all([serve(), files(dirname(model)), files(wllama)]);
const url = `${weights.url}/${encodeURIComponent(basename(model))}`;
const session = await browser.newBrowserCDPSession();

/** Seconds of processor that all processes of the browser have used. */
async function cpuSeconds() {
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

const ours = await browser.newPage();
await ours.goto(`${server.url}/bench.html`);
const ms = await ours.evaluate(async (url) => {
  const { Ocelli } = await import("./engine/index.js");
  const begin = performance.now();
  window.model = await Ocelli.load(url, { engine: "processor" });
  window.run = async (prompt, tokens) => {
    const messages = [{ role: "user", content: prompt }];
    const answer = await window.model.chat(messages, { maxTokens: tokens }).answer();
    const [read, said] = [answer.prompt_tokens - answer.cached_tokens, answer.generated_tokens];
    return { read, readMs: answer.prefill_ms, said, sayMs: answer.decode_ms, text: answer.text };
  };
  return performance.now() - begin;
}, url);
console.log(await ours.evaluate(() => window.model.info.engine));

// The headers allow shared memory, which threads need.
const headers = {
  "content-type": "text/html",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};
const blank = createServer((_, response) => response.writeHead(200, headers).end("<p>"));
await new Promise((resolve) => blank.listen(0, "127.0.0.1", resolve));

/** wllama with so many threads, ready, and how long that took. */
async function theirs(threads) {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${blank.address().port}`);
  const ms = await page.evaluate(
    async ({ peer, url, threads }) => {
      const { Wllama } = await import(`${peer}/esm/index.js`);
      const begin = performance.now();
      const logger = { debug() {}, log() {}, warn() {}, error: console.error };
      window.model = new Wllama({ default: `${peer}/esm/wasm/wllama.wasm` }, { suppressNativeLog: true, logger });
      const blob = await (await fetch(url)).blob();
      await window.model.loadModel([blob], { n_threads: threads, n_gpu_layers: 0, n_ctx: 2048 });
      if (window.model.getNumThreads() !== threads) throw new Error(`it runs ${window.model.getNumThreads()} threads`);
      window.run = async (prompt, tokens) => {
        const answer = await window.model.createChatCompletion({
          messages: [{ role: "user", content: prompt }],
          max_tokens: tokens,
          temp: 0,
          temperature: 0,
          cache_prompt: false,
        });
        const { prompt_n, prompt_ms, predicted_n, predicted_ms } = answer.timings;
        const text = answer.choices[0].message.content;
        return { read: prompt_n, readMs: prompt_ms, said: predicted_n, sayMs: predicted_ms, text };
      };
      return performance.now() - begin;
    },
    { peer: peer.url, url, threads },
  );
  return { page, ms };
}

const one = await theirs(1);
const two = await theirs(2);
const pages = { ours, wllama: one.page, "wllama, 2 threads": two.page };
const runs = Object.fromEntries(Object.keys(pages).map((name) => [name, []]));
for (let i = 0; i <= RUNS; i += 1) {
  for (const [name, page] of Object.entries(pages)) {
    // A prompt alone, then the same prompt with an answer: what decoding takes of the processor is the difference.
    const figures = {};
    for (const tokens of [1, TOKENS]) {
      const before = await cpuSeconds();
      // Nothing of the first prompt may be left for the second one.
      const given = name === "ours" ? prompt(i + tokens * 1000) : `${tokens}. ${prompt(i)}`;
      const run = await page.evaluate(([given, tokens]) => window.run(given, tokens), [given, tokens]);
      figures[tokens] = { ...run, cpu: (await cpuSeconds()) - before };
    }
    if (i === 0) continue;
    const [short, all] = [figures[1], figures[TOKENS]];
    const decoded = all.said - 1;
    runs[name].push({
      prefill: (1000 * short.read) / short.readMs,
      prefill_cpu: short.read / short.cpu,
      decode: (1000 * decoded) / all.sayMs,
      decode_cpu: decoded / Math.max(all.cpu - (short.cpu * all.read) / short.read, 1e-3),
      read: short.read,
      decoded,
    });
    console.log(name, JSON.stringify(runs[name].at(-1)));
  }
}

console.log(`${basename(model)}, medians of ${RUNS} runs in turns, tokens a second`);
console.log(`load: ours ${ms.toFixed(0)} ms, wllama ${one.ms.toFixed(0)} ms`);
for (const [figure, label] of [
  ["prefill", "prompt"],
  ["decode", "answer"],
  ["prefill_cpu", "prompt, by seconds of processor"],
  ["decode_cpu", "answer, by seconds of processor"],
]) {
  const [a, ...others] = Object.values(runs).map((all) => median(all.map((run) => run[figure])));
  const told = others.map((b, i) => `${Object.keys(runs)[i + 1]} ${b.toFixed(1)} (${(a / b).toFixed(2)} times)`);
  console.log(`${label}: ours ${a.toFixed(1)}; ${told.join("; ")}`);
}
await browser.close();
await Promise.all([server.stop(), weights.stop(), peer.stop(), new Promise((done) => blank.close(done))]);
process.exit();
