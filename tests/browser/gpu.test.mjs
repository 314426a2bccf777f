// The same page on WebGPU: the same answers, from a device that may go away. Without a real GPU, Chromium's own
// program stands in for one.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import * as support from "./support.mjs";
import { answered, captioned, captions, image, open } from "./support.mjs";

const CUP = image("cup.jpg");
let browser, server;

before(async () => {
  [browser, server] = await Promise.all([support.launch("--enable-unsafe-webgpu"), support.serve()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const engineLine = (page) => page.locator("#engine-line").textContent();

test("captions and answers equal those of the command line", async () => {
  const paths = [CUP, image("star-and-heart.png")];
  const page = await open(browser, `${server.url}/?engine=web_gpu`);
  assert.match(await engineLine(page), /^Runs on the graphics processor \(.+\), because you chose it\.$/);
  await page.setInputFiles("#pictures", paths);
  assert.deepEqual((await captioned(page, paths.length)).reverse(), captions(...paths));
  await page.click("#chat-tab");
  await page.fill("#message", "Hello");
  await page.press("#message", "Enter");
  assert.equal((await answered(page, 1)).trim(), support.ask("Hello"));
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test("an answer is stopped between two tokens", async () => {
  const page = await open(browser, `${server.url}/?engine=web_gpu`);
  await page.setInputFiles("#pictures", CUP);
  await page.waitForFunction(() => document.querySelector(".said")?.textContent.length > 0);
  await page.click('button:text-is("Stop")');
  await page.getByText("Stopped.").waitFor();
  const [whole] = captions(CUP);
  const [stopped] = await page.$$eval(".said", (said) => said.map((p) => p.textContent));
  assert.ok(whole.startsWith(stopped) && stopped.length < whole.length, stopped);
  await page.context().close();
});

/** Ends the process that WebGPU runs in, as a driver that fails does. */
const crash = async (browser) => (await browser.newBrowserCDPSession()).send("Browser.crashGpuProcess");

// After a second loss Chromium gives no adapter any more, so that each round has a browser of its own.
for (const round of [1, 2, 3]) {
  test(`a GPU that is lost before and in the middle of answers costs time only, round ${round}`, async () => {
    const own = await support.launch("--enable-unsafe-webgpu");
    const page = await open(own, `${server.url}/?engine=web_gpu`);
    const [expected] = captions(CUP);
    let n = 0;
    const ask = async (lose) => {
      if (lose === "before") await crash(own);
      await page.setInputFiles("#pictures", CUP);
      n += 1;
      if (lose === "in the middle") {
        await page.waitForFunction(
          (n) => {
            const rows = document.querySelectorAll(".batch tbody tr");
            return rows.length === n && rows[0].querySelector(".said").textContent.length > 0;
          },
          n,
          support.WAIT,
        );
        await crash(own);
      }
      const [found] = await captioned(page, n);
      assert.equal(found, expected, `answer ${n}, lost ${lose}`);
      return page.locator(".batch tbody tr").first().locator(".notes").innerText();
    };
    assert.match(await ask("before"), /the model was loaded again on the way: .*the GPU was lost/);
    assert.match(await engineLine(page), /^Runs on the graphics processor/);
    await ask(null);
    await ask("in the middle");
    await ask(null);
    // What fails each time is no use: the processor goes on, and the page says why.
    await ask("before");
    assert.match(await engineLine(page), /^Runs on the processor .*, because the graphics processor failed: .*the GPU was lost/);
    await ask(null);
    await own.close();
  });
}

test("what computes is chosen, and kept; why is said", async () => {
  const page = await open(browser, server.url);
  assert.match(await engineLine(page), /^Runs on the processor \(WebAssembly .*\), because the only WebGPU adapter .* slower\.$/);
  await page.click("#model-button");
  await page.selectOption("#engine", "web_gpu");
  await page.waitForFunction(() => /graphics processor/.test(document.querySelector("#engine-line").textContent));
  await page.reload();
  await support.ready(page);
  assert.match(await engineLine(page), /graphics processor/);
  await page.goto(`${server.url}/?engine=processor`);
  await support.ready(page);
  assert.match(await engineLine(page), /the processor .* because you chose it/);
  await page.context().close();
});

test("where there is no WebGPU the processor computes, and a page that insists is told", async () => {
  const without = await support.launch();
  const page = await open(without, server.url);
  assert.match(await engineLine(page), /^Runs on the processor .*, because .*WebGPU/);
  await page.goto(`${server.url}/?engine=web_gpu`);
  await page.waitForSelector(".notice.wrong");
  assert.match(await page.locator(".notice.wrong").innerText(), /WebGPU offers no adapter|offers no WebGPU/);
  await without.close();
});
