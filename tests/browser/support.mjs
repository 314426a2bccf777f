// A browser, the page's own server, servers that misbehave, and pictures.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";

const need = (name) => process.env[name] ?? fail(`${name} is not set; run: cargo xtask check browser`);
const fail = (message) => {
  throw new Error(message);
};

const installed = createRequire(join(need("OCELLI_NODE_MODULES"), "package.json"));
const { chromium } = installed("playwright-core");
const axeSource = readFileSync(installed.resolve("axe-core/axe.min.js"), "utf8");
export const page_folder = need("OCELLI_PAGE");
export const package_folder = need("OCELLI_NPM");
export const ocelli = need("OCELLI");

/** Milliseconds that a test waits for something before it fails; machines of tests can be slow. */
export const PATIENCE = 60_000;
/** How to wait on a page. Frames, which waiting goes by otherwise, stop for a while when the GPU is lost. */
export const WAIT = { timeout: PATIENCE, polling: 100 };

/** A folder that is gone when the tests have ended. */
export const scratch = mkdtempSync(join(tmpdir(), "ocelli-browser-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

export const launch = (...args) =>
  chromium.launch({
    executablePath: need("OCELLI_CHROMIUM"),
    args: [
      ...args,
      "--disable-quic",
      "--disable-background-networking",
      "--disable-component-update",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      "--auto-select-desktop-capture-source=Entire screen",
    ],
  });

/** `cargo xtask web --no-build` at a port; 0 lets it choose. */
export async function serve(port = 0) {
  const child = spawn(need("OCELLI_XTASK"), ["web", "--no-build", "--port", String(port)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const url = await new Promise((resolve, reject) => {
    let said = "";
    child.stderr.on("data", (data) => {
      said += data;
      const found = said.match(/http:\/\/localhost:\d+/);
      if (found) resolve(found[0]);
    });
    child.on("exit", () => reject(new Error(`the server ended: ${said}`)));
  });
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.on("exit", resolve));
    child.kill();
    await ended;
  };
  return { url, stop };
}

/** What `ocelli caption` says about files, in their order. */
export function captions(...paths) {
  const lines = execFileSync(ocelli, ["caption", "--quiet", "--json", ...paths], { encoding: "utf8" });
  return lines.trim().split("\n").map((line) => JSON.parse(line).caption.trim());
}

/** What `ocelli ask` answers. */
export const ask = (...args) => execFileSync(ocelli, ["ask", "--quiet", ...args], { encoding: "utf8" }).trim();

export const image = (name) => join("assets/images", name);

/** A JPEG file that asks to be turned, as phones write them. */
export function turned(path, orientation) {
  const jpeg = readFileSync(path);
  const tiff = Buffer.from([
    ...[0x4d, 0x4d, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x08],
    ...[0x00, 0x01, 0x01, 0x12, 0x00, 0x03, 0x00, 0x00, 0x00, 0x01, 0x00, orientation, 0x00, 0x00],
    ...[0x00, 0x00, 0x00, 0x00],
  ]);
  const body = Buffer.concat([Buffer.from("Exif\0\0", "latin1"), tiff]);
  const head = Buffer.from([0xff, 0xe1, (body.length + 2) >> 8, (body.length + 2) & 0xff]);
  return Buffer.concat([jpeg.subarray(0, 2), head, body, jpeg.subarray(2)]);
}

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

/**
 * Files to any origin. Behind byte `state.cutAt` of a file it breaks the connection, once, or says no more if
 * `state.stall` is set. `seen` lists what was asked for.
 */
export async function files(folder) {
  const seen = [];
  const state = { cutAt: Infinity, stall: false };
  const server = createServer((request, response) => {
    const path = join(folder, normalize(new URL(request.url, "http://x").pathname));
    let size;
    try {
      size = statSync(path).size;
    } catch {
      return response.writeHead(404, { "access-control-allow-origin": "*" }).end();
    }
    const from = Number(request.headers.range?.match(/bytes=(\d+)-/)?.[1] ?? 0);
    if (request.method === "GET") seen.push({ path: request.url, from });
    const headers = {
      "access-control-allow-origin": "*",
      "access-control-allow-headers": "range",
      "cross-origin-resource-policy": "cross-origin",
      "content-type": TYPES[extname(path)] ?? "application/octet-stream",
      "content-length": size - from,
      etag: `"${size}"`,
    };
    if (request.method === "OPTIONS") return response.writeHead(204, headers).end();
    if (from > 0) headers["content-range"] = `bytes ${from}-${size - 1}/${size}`;
    response.writeHead(from > 0 ? 206 : 200, headers);
    if (request.method === "HEAD") return response.end();
    const left = state.cutAt - from;
    if (size > state.cutAt && left > 0) {
      state.cutAt = Infinity;
      const part = createReadStream(path, { start: from, end: from + left - 1 });
      part.on("data", (data) => response.write(data));
      if (!state.stall) part.on("end", () => response.socket.destroySoon());
    } else {
      createReadStream(path, { start: from }).pipe(response);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://localhost:${server.address().port}`;
  const stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url, stop, seen, state };
}

/** Opens the page and waits until its model answers. */
export async function open(context, url) {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.problems = [];
  page.on("console", (message) => {
    if (message.type() === "error") page.problems.push(message.text());
  });
  page.on("pageerror", (error) => page.problems.push(String(error)));
  await page.goto(url);
  await ready(page);
  return page;
}

/** Waits until the model answers, or says what the page says instead. */
export async function ready(page) {
  try {
    await page.waitForSelector("#model-button .dot.ready", { timeout: PATIENCE });
  } catch (error) {
    const said = await page.locator(".notice").allInnerTexts();
    throw new Error(`the model is not ready; the page says: ${said.join(" | ")}`, { cause: error });
  }
}

/** Captions of the table, newest first, when all are whole. */
export async function captioned(page, n) {
  await page.waitForFunction((n) => {
    const rows = [...document.querySelectorAll(".batch tbody tr")];
    return rows.length === n && rows.every((row) => !row.querySelector(".caret") && !/…$/.test(row.innerText.trim()))
      && rows.every((row) => row.querySelector(".said").textContent || row.querySelector(".bad"));
  }, n, WAIT);
  return page.$$eval(".batch tbody tr .said", (said) => said.map((p) => p.textContent));
}

/** The last answer of a conversation, when it is whole. */
export async function answered(page, n) {
  await page.waitForFunction(
    (n) => document.querySelectorAll(".message:not(.user) .speed, .message:not(.user) .bad").length === n,
    n,
    WAIT,
  );
  return page.locator(".message:not(.user) .markdown").last().innerText();
}

/** Loads a model by its address, through the dialog. */
export async function loadFrom(page, url) {
  await page.click("#model-button");
  await page.fill("#model-url", url);
  await page.press("#model-url", "Enter");
  await page.waitForSelector("#model-button .dot:not(.ready)");
}

/** Where to leave pictures of each view, if somebody wants to look at them. */
const shots = process.env.OCELLI_SCREENSHOTS;
if (shots) mkdirSync(shots, { recursive: true });

/** Nothing on the page keeps anybody out, and nothing sticks out of its window. The page must let scripts in. */
export async function check(page, name) {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`) });
  const { violations } = await page.evaluate(async (source) => {
    if (!window.axe) (0, eval)(source);
    return window.axe.run(document, { resultTypes: ["violations"] });
  }, axeSource);
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((n) => n.html).join(" ")}`);
  assert.deepEqual(told, [], name);
  const width = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(width[0] <= width[1], `${name} is ${width[0]} pixels wide in a window of ${width[1]}`);
}

/** What the model saw of the last picture is shown: its size, its tokens, and itself. */
export async function checkSaw(page) {
  await page.locator(".seen summary").last().click();
  const saw = page.locator(".saw").last();
  const size = await saw.locator("dd").first().innerText();
  const [, , , width, height] = size.match(/(\d+) × (\d+) → (\d+) × (\d+)/) ?? assert.fail(size);
  assert.equal(Number(await saw.locator(".tokens").innerText()), (width / 28) * (height / 28));
  const painted = await saw.locator("canvas").evaluate((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(pixels).size > 8;
  });
  assert.ok(painted, "the canvas shows a picture");
}
