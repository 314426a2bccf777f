// The page in a real browser: the same captions as the command line, and all that one does with them.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import * as support from "./support.mjs";
import { answered, captioned, captions, image, open, scratch, turned } from "./support.mjs";

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
  await page.click(".seen summary");
  const size = await page.locator(".saw dd").first().innerText();
  const [, , , width, height] = size.match(/(\d+) × (\d+) → (\d+) × (\d+)/) ?? assert.fail(size);
  const tokens = Number(await page.locator(".saw .tokens").innerText());
  assert.equal(tokens, (width / 28) * (height / 28));
  const painted = await page.$eval(".saw canvas", (canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(pixels).size > 8;
  });
  assert.ok(painted, "the canvas shows a picture");
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

test("a conversation about a picture: answer and details", async () => {
  const page = await open(context, server.url);
  await page.click("#chat-tab");
  await page.setInputFiles("#chat-pictures", image("star-and-heart.png"));
  await page.waitForSelector(".attached img");
  await page.fill("#message", "What colour is the star?");
  await page.press("#message", "Enter");
  const answer = await answered(page, 1);
  const expected = execFileSync(support.ocelli, ["ask", "--quiet", image("star-and-heart.png"), "What colour is the star?"], { encoding: "utf8" });
  assert.equal(answer.trim(), expected.trim());
  await page.click('.message summary:text-is("Details")');
  assert.match(await page.locator(".speed").innerText(), /[\d.]+ tokens\/s · \d+ ms to the first token · \d+ tokens read/);
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
