// What the page asks of the browser and is shortest to say in its own language.

export function setRoot(name, value) {
  const root = document.documentElement;
  if (value) root.setAttribute(name, value);
  else root.removeAttribute(name);
}

export function remember(key, value) {
  try { localStorage.setItem("ocelli-" + key, value); } catch { /* private windows may keep nothing */ }
}

export function recall(key) {
  try { return localStorage.getItem("ocelli-" + key) ?? ""; } catch { return ""; }
}

export function language() {
  return navigator.language ?? "en";
}

export function engine() {
  return new URLSearchParams(location.search).get("engine") ?? recall("engine");
}

// A choice is stronger than the address that the page was opened with.
export function chooseEngine(name) {
  remember("engine", name);
  const url = new URL(location.href);
  url.searchParams.delete("engine");
  history.replaceState(null, "", url);
}

// Asks the browser not to throw stored models away when its disk gets full.
export function persist() {
  navigator.storage?.persist?.().catch(() => {});
}

export async function copy(text) {
  await navigator.clipboard.writeText(text);
}

export function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// Pictures of the clipboard, for a button; the key combination brings its own event.
export async function pasted() {
  const found = [];
  for (const item of await navigator.clipboard.read()) {
    const type = item.types.find((type) => type.startsWith("image/"));
    if (type) found.push(new File([await item.getType(type)], "pasted." + type.split("/")[1], { type }));
  }
  return found;
}

// Whether the program that serves this page also has a model, keeps conversations and runs tools.
export function isServed() {
  return document.documentElement.hasAttribute("data-served");
}

// Asks that program. What it cannot do is thrown in its own words.
async function askDesk(method, path, key, body) {
  const headers = body ? { "content-type": "application/json" } : {};
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch(`api/desk${path}`, { method, headers, body: body || undefined });
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Error(error ?? `the server answered ${response.status}`);
}

export async function desk(method, path, key, body) {
  return (await askDesk(method, path, key, body)).text();
}

export async function deskBytes(path, key) {
  return bytes(await (await askDesk("GET", path, key)).blob());
}

// What that program wants looked at: a picture of the screen. The address that opened the page says that there is one.
export async function look(key) {
  const url = new URL(location.href);
  if (!url.searchParams.has("look")) return undefined;
  url.searchParams.delete("look");
  history.replaceState(null, "", url);
  return new File([await (await askDesk("GET", "/look", key)).blob()], "screen.png", { type: "image/png" });
}

// Where a pointer is in an element, in percent.
export function place(event, id) {
  const { left, top, width, height } = document.getElementById(id).getBoundingClientRect();
  const within = (value) => Math.min(100, Math.max(0, 100 * value));
  return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
}

// A part of a picture, given in percent.
export async function cut(file, x, y, width, height) {
  const picture = await createImageBitmap(file);
  const [left, top] = [(picture.width * x) / 100, (picture.height * y) / 100].map(Math.round);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round((picture.width * width) / 100));
  canvas.height = Math.max(1, Math.round((picture.height * height) / 100));
  canvas.getContext("2d").drawImage(picture, -left, -top);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new File([blob], "region.png", { type: "image/png" });
}

export function objectUrl(blob) {
  return URL.createObjectURL(blob);
}

// Does a task; `told` hears each line when it is there.
export async function deskLines(path, key, body, told) {
  const reader = (await askDesk("POST", path, key, body)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    lines.forEach((line) => told(line));
  }
}

export async function bytes(blob) {
  return new Uint8Array(await blob.arrayBuffer());
}

export async function openCamera() {
  return navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
}

export async function openScreen() {
  return navigator.mediaDevices.getDisplayMedia({ video: true, audio: false });
}

export async function play(video, stream) {
  video.srcObject = stream;
  await video.play();
}

export function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

export function isLive(stream) {
  return stream.getTracks().some((track) => track.readyState === "live");
}

// The picture that a video shows now. Larger ones are made smaller here: no model sees that many pixels, and
// packing them takes longer than captioning.
export async function frame(video, longest) {
  const scale = Math.min(1, longest / Math.max(video.videoWidth, video.videoHeight, 1));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
  canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new File([blob], "frame.png", { type: "image/png" });
}

// A picture with its patches (thin lines) and the blocks that become tokens (thick lines) on it.
export function drawGrid(canvas, rgba, width, height, patch, merge) {
  const scale = Math.max(1, Math.min(3, Math.round(480 / Math.max(width, height))));
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  const picture = document.createElement("canvas");
  picture.width = width;
  picture.height = height;
  picture.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(rgba), width, height), 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const lines = (step, style, thickness) => {
    context.strokeStyle = style;
    context.lineWidth = thickness;
    context.beginPath();
    for (let x = 0; x <= width; x += step) {
      context.moveTo(x * scale, 0);
      context.lineTo(x * scale, canvas.height);
    }
    for (let y = 0; y <= height; y += step) {
      context.moveTo(0, y * scale);
      context.lineTo(canvas.width, y * scale);
    }
    context.stroke();
  };
  lines(patch, "rgb(255 255 255 / .35)", 1);
  lines(patch * merge, "rgb(0 0 0 / .55)", 3);
  lines(patch * merge, "rgb(255 255 255 / .9)", 1.4);
}

export function now() {
  return performance.now();
}

export function memory() {
  return navigator.deviceMemory ?? 0;
}

export function isHidden() {
  return document.hidden;
}

export function nextFrame() {
  return new Promise((done) => setTimeout(done, 30));
}

export function scrollToEnd() {
  const nearEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 160;
  if (nearEnd) requestAnimationFrame(() => scrollTo(0, document.documentElement.scrollHeight));
}

export function focus(id) {
  requestAnimationFrame(() => document.getElementById(id)?.focus());
}
