// `ocelli desktop` on a virtual screen: a key shows the screen to the page, where a region of it is asked about.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import * as support from "./support.mjs";
import { answered, PATIENCE, scratch } from "./support.mjs";

const SCREEN = [800, 600];
const opened = join(scratch, "opened");
const bus = join(scratch, "bus");
let screen, desktop, browser, env;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** What `find` gives as soon as that is something. */
async function eventually(what, find) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await sleep(100)) {
    try {
      const found = find();
      if (found) return found;
    } catch {
      // not yet
    }
  }
  throw new Error(`${what}: it did not come`);
}

before(async () => {
  screen = spawn("Xvfb", ["-displayfd", "1", "-screen", "0", `${SCREEN.join("x")}x24`, "-nolisten", "tcp", "-noreset"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const number = await new Promise((resolve) => screen.stdout.once("data", (data) => resolve(String(data).trim())));
  // Stands for the browser: the addresses are written down.
  const bin = join(scratch, "bin");
  mkdirSync(bin);
  const opener = join(bin, "xdg-open");
  writeFileSync(opener, `#!/bin/sh\necho "$1" >> ${opened}\n`);
  chmodSync(opener, 0o755);
  env = {
    ...process.env,
    DISPLAY: `:${number}`,
    HOME: scratch,
    PATH: `${bin}:${process.env.PATH}`,
    WAYLAND_DISPLAY: "",
    XDG_CONFIG_HOME: join(scratch, "config"),
    XDG_DATA_HOME: join(scratch, "data"),
    XDG_SESSION_TYPE: "x11",
  };
  execFileSync("xsetroot", ["-solid", "#c83214"], { env });
  const script = `echo $DBUS_SESSION_BUS_ADDRESS > ${bus}; exec ${support.ocelli} desktop --listen 127.0.0.1:0`;
  desktop = spawn("dbus-run-session", ["--", "sh", "-c", script], { env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  desktop.said = "";
  for (const stream of [desktop.stdout, desktop.stderr]) stream.on("data", (data) => (desktop.said += data));
  desktop.on("exit", (code) => (desktop.said += `it ended with ${code}`));
  browser = await support.launch();
  await eventually("the keys", () => /asks about the screen/.test(desktop.said));
});

after(async () => {
  await browser?.close();
  // The bus, and what runs on it.
  if (desktop?.exitCode === null) process.kill(-desktop.pid, "SIGKILL");
  screen?.kill();
});

/** The addresses that were opened, when there are `n`. */
const addresses = (n) =>
  eventually(`address ${n}; ${desktop.said}`, () => {
    const lines = readFileSync(opened, "utf8").trim().split("\n");
    return lines.length >= n && lines;
  });

/** Chooses a line of the tray's menu, as the tray of a desktop does. */
function choose(line) {
  const address = { ...env, DBUS_SESSION_BUS_ADDRESS: readFileSync(bus, "utf8").trim() };
  const call = (...args) => execFileSync("gdbus", ["call", "--session", ...args], { env: address, encoding: "utf8" });
  const names = call("--dest", "org.freedesktop.DBus", "--object-path", "/org/freedesktop/DBus", "--method", "org.freedesktop.DBus.ListNames");
  const [name] = names.match(/org\.kde\.StatusNotifierItem-[\d-]+/) ?? assert.fail(names);
  const menu = ["--dest", name, "--object-path", "/MenuBar", "--method"];
  const layout = call(...menu, "com.canonical.dbusmenu.GetLayout", "0", "--", "-1", "[]");
  const [, id] = layout.match(new RegExp(`\\((\\d+), \\{[^}]*'label': <['"]${line}['"]>`)) ?? assert.fail(layout);
  call(...menu, "com.canonical.dbusmenu.Event", id, "clicked", "<0>", "0");
}

test("a key shows the screen, and a region of it is asked about", async () => {
  execFileSync("xdotool", ["key", "ctrl+alt+o"], { env });
  const [address] = await addresses(1);
  const page = await support.open(await browser.newContext({ bypassCSP: true }), address);
  await page.waitForSelector("dialog#region[open] img");
  await page.waitForFunction(() => document.querySelector("#stage img").naturalWidth > 0);
  assert.ok(!page.url().includes("look"), "the address asks for it once only");
  await support.check(page, "region");
  const { x, y, width, height } = await page.locator("#stage").boundingBox();
  await page.mouse.move(x + width / 4, y + height / 4);
  await page.mouse.down();
  await page.mouse.move(x + width / 2, y + height / 2, { steps: 4 });
  await page.mouse.up();
  await page.click("#cut");
  await page.waitForSelector(".attached img");
  const seen = await page.$eval(".attached img", async (img) => {
    await img.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: img.naturalWidth, height: img.naturalHeight });
    const context = canvas.getContext("2d");
    context.drawImage(img, 0, 0);
    return { size: [img.naturalWidth, img.naturalHeight], pixel: [...context.getImageData(3, 3, 1, 1).data] };
  });
  for (const side of [0, 1]) assert.ok(Math.abs(seen.size[side] - SCREEN[side] / 4) <= 2, `${seen.size}`);
  assert.deepEqual(seen.pixel, [0xc8, 0x32, 0x14, 255]);
  await page.fill("#message", "What colour is this?");
  await page.press("#message", "Enter");
  assert.ok((await answered(page, 1)).length > 3);
  // Nobody else gets the picture of the screen.
  const again = await fetch(`${new URL(address).origin}/api/desk/look`);
  assert.equal(again.status, 404);
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test("numbers choose a region, too", async () => {
  choose("Ask about the screen");
  const address = (await addresses(2))[1];
  const page = await support.open(await browser.newContext(), address);
  await page.waitForSelector("dialog#region[open] img");
  const numbers = page.locator("#region input");
  for (const [i, value] of [[2, 50], [3, 10], [0, 80]]) {
    await numbers.nth(i).fill(String(value));
    await numbers.nth(i).blur();
  }
  // What is chosen stays within the picture.
  assert.equal(await numbers.nth(0).inputValue(), "50");
  await page.locator("#cut").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector(".attached img");
  const [width, height] = await page.$eval(".attached img", async (img) => {
    await img.decode();
    return [img.naturalWidth, img.naturalHeight];
  });
  assert.deepEqual([width, height], [SCREEN[0] / 2, SCREEN[1] / 10]);
  await page.context().close();
});

test("what cannot be done is said, and the menu ends it all", async () => {
  choose("Ask about the clipboard's picture");
  await eventually("the error", () => /no picture in the clipboard/.test(desktop.said));
  choose("Open");
  assert.match((await addresses(3))[2], /^http:\/\/127\.0\.0\.1:\d+$/);
  try {
    choose("Quit");
  } catch {
    // It may be gone before it has replied.
  }
  await eventually("the end", () => /it ended with 0/.test(desktop.said));
});
