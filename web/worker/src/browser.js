// What the browser offers to a worker and is shortest to say in its own language.

const ROOT = "models";

// Handles that have been asked something. Where a handle is collected as garbage before it has answered, Chromium
// drops the answer, and the promise never settles.
const asked = new Set();
async function ask(handle, question) {
  asked.add(handle);
  try {
    return await question(handle);
  } finally {
    asked.delete(handle);
  }
}

async function root(create) {
  return ask(await navigator.storage.getDirectory(), (top) => top.getDirectoryHandle(ROOT, { create }));
}

// Resolves, with the function that gives it back, when nobody else in this browser holds `name`.
export function hold(name) {
  return new Promise((got, failed) => {
    navigator.locks.request(name, () => new Promise((release) => got(release))).catch(failed);
  });
}

// The folder of a model, or null if it is not there.
export async function folder(key, create) {
  try {
    return await ask(await root(create), (models) => models.getDirectoryHandle(key, { create }));
  } catch (error) {
    if (!create && error.name === "NotFoundError") return null;
    throw error;
  }
}

export async function forget(key) {
  await ask(await root(true), (models) => models.removeEntry(key, { recursive: true }));
}

export async function keys() {
  const found = [];
  for await (const [key, handle] of (await root(true)).entries()) {
    if (handle.kind === "directory") found.push(key);
  }
  return found;
}

// A file to write at any place in; nobody else can have it meanwhile.
export async function writer(directory, name) {
  return ask(await directory.getFileHandle(name, { create: true }), (file) => file.createSyncAccessHandle());
}

// A file to read, or null if it is not there.
export async function reader(directory, name) {
  try {
    return await ask(await directory.getFileHandle(name), (file) => file.getFile());
  } catch (error) {
    if (error.name === "NotFoundError") return null;
    throw error;
  }
}

// [bytes stored, bytes that can be stored]
export async function estimate() {
  const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  return [usage, quota];
}

// Why there is no GPU; empty if there is one.
export async function whyNoGpu() {
  if (!navigator.gpu) return "this browser offers no WebGPU";
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return adapter ? "" : "WebGPU offers no adapter: this browser cannot use the GPU, or no longer after a failure";
}

export function sleep(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

// Lets messages in. Timers would wait for some milliseconds each time, and for a second in hidden tabs.
const channel = new MessageChannel();
const waiting = [];
channel.port1.onmessage = () => waiting.shift()();
export function turn() {
  return new Promise((done) => {
    waiting.push(done);
    channel.port2.postMessage(0);
  });
}
