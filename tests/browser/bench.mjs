// Our engine in WebAssembly and wllama's, one thread each, in turns in one headless Chromium, on one GGUF file:
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
const load = { ours: [], wllama: [] };
load.ours = await ours.evaluate(async (url) => {
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

const theirs = await browser.newPage();
const blank = createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<p>"));
await new Promise((resolve) => blank.listen(0, "127.0.0.1", resolve));
await theirs.goto(`http://localhost:${blank.address().port}`);
load.wllama = await theirs.evaluate(
  async ({ peer, url }) => {
    const { Wllama } = await import(`${peer}/esm/index.js`);
    const begin = performance.now();
    const logger = { debug() {}, log() {}, warn() {}, error: console.error };
    window.model = new Wllama({ default: `${peer}/esm/wasm/wllama.wasm` }, { suppressNativeLog: true, logger });
    const blob = await (await fetch(url)).blob();
    await window.model.loadModel([blob], { n_threads: 1, n_gpu_layers: 0, n_ctx: 2048 });
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
  { peer: peer.url, url },
);

const runs = { ours: [], wllama: [] };
for (let i = 0; i <= RUNS; i += 1) {
  for (const [name, page] of [["ours", ours], ["wllama", theirs]]) {
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
    const [one, all] = [figures[1], figures[TOKENS]];
    const decoded = all.said - 1;
    runs[name].push({
      prefill: (1000 * one.read) / one.readMs,
      prefill_cpu: one.read / one.cpu,
      decode: (1000 * decoded) / all.sayMs,
      decode_cpu: decoded / Math.max(all.cpu - (one.cpu * all.read) / one.read, 1e-3),
      read: one.read,
      decoded,
    });
    console.log(name, JSON.stringify(runs[name].at(-1)));
  }
}

console.log(`${basename(model)}, medians of ${RUNS} runs in turns, tokens a second`);
console.log(`load: ours ${load.ours.toFixed(0)} ms, wllama ${load.wllama.toFixed(0)} ms`);
for (const [figure, label] of [
  ["prefill", "prompt"],
  ["decode", "answer"],
  ["prefill_cpu", "prompt, by seconds of processor"],
  ["decode_cpu", "answer, by seconds of processor"],
]) {
  const [a, b] = [runs.ours, runs.wllama].map((all) => median(all.map((run) => run[figure])));
  console.log(`${label}: ours ${a.toFixed(1)}, wllama ${b.toFixed(1)}, ratio ${(a / b).toFixed(2)}`);
}
await browser.close();
await Promise.all([server.stop(), weights.stop(), peer.stop(), new Promise((done) => blank.close(done))]);
process.exit();
