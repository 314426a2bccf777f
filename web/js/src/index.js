// Ocelli for JavaScript: a model in a worker of its own, answers as promises or as streams.

/** An error of the engine; `kind` says what to do about it. */
export class OcelliError extends Error {
  constructor(problem) {
    super(problem.message ?? (problem.kind === "no_model" ? "no model is loaded" : problem.kind));
    this.name = problem.kind === "cancelled" ? "AbortError" : "OcelliError";
    this.kind = problem.kind;
  }
}

/** The worker, and who waits for which of its events. */
class Line {
  #worker = new Worker(new URL("./worker-main.js", import.meta.url), { type: "module" });
  #listeners = new Map();
  #lastId = 0;
  #started;
  #dead = null;

  constructor() {
    this.#started = new Promise((resolve) => {
      this.#worker.onmessage = ({ data: event }) => {
        if (event.type === "started") return resolve();
        this.#listeners.get(event.id)?.(event);
      };
    });
    this.#worker.onerror = (event) => this.end(`the engine stopped: ${event.message}`);
  }

  end(message) {
    this.#dead = message;
    this.#worker.terminate();
    for (const [id, listen] of this.#listeners) {
      listen({ type: "failed", id, problem: { kind: "device", message } });
    }
  }

  /** Events about one request, to the last. Leaving the loop early cancels the request. */
  async *ask(request, { files, signal } = {}) {
    signal?.throwIfAborted();
    await this.#started;
    if (this.#dead) throw new OcelliError({ kind: "device", message: this.#dead });
    const id = ++this.#lastId;
    const events = [];
    let wake = () => {};
    this.#listeners.set(id, (event) => {
      events.push(event);
      wake();
    });
    const cancel = () => this.#worker.postMessage({ request: { type: "cancel", id } });
    signal?.addEventListener("abort", cancel);
    let ended = false;
    try {
      this.#worker.postMessage({ request: { ...request, id }, files });
      while (!ended) {
        while (events.length === 0) await new Promise((resolve) => (wake = resolve));
        const event = events.shift();
        ended = ["loaded", "answered", "stored", "failed"].includes(event.type);
        if (event.type === "failed") {
          signal?.throwIfAborted();
          throw new OcelliError(event.problem);
        }
        yield event;
      }
      signal?.throwIfAborted();
    } finally {
      signal?.removeEventListener("abort", cancel);
      this.#listeners.delete(id);
      if (!ended) cancel();
    }
  }

  /** The last event about a request. */
  async last(request, options) {
    let last;
    for await (const event of this.ask(request, options)) {
      last = event;
      options?.onEvent?.(event);
    }
    return last;
  }
}

/** An answer that streams: iterate over its text, or wait for all of it. It runs once. */
export class Reply {
  #events;
  #answer;
  #settle;

  constructor(events) {
    this.#events = events;
    this.#answer = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    // Who only iterates hears of an error there.
    this.#answer.catch(() => {});
  }

  async *[Symbol.asyncIterator]() {
    for await (const event of this.events()) if (event.type === "text") yield event.text;
  }

  /** All events: `seen`, `prefill`, `reasoning`, `text`, `moved` and at last `answered`. */
  async *events() {
    const events = this.#events;
    if (!events) throw new TypeError("this reply was read before");
    this.#events = null;
    try {
      for await (const event of events) {
        if (event.type === "answered") this.#settle.resolve(event.answer);
        yield event;
      }
    } catch (error) {
      this.#settle.reject(error);
      throw error;
    } finally {
      this.#settle.reject(new OcelliError({ kind: "cancelled" }));
    }
  }

  /** The whole answer, with its counts, timings and notes. */
  async answer() {
    if (this.#events) for await (const _ of this.events());
    return this.#answer;
  }

  /** The text of the whole answer. */
  async text() {
    return (await this.answer()).text.trim();
  }

  // So that a reply can be awaited like a promise of its text.
  then(resolve, reject) {
    return this.text().then(resolve, reject);
  }
}

/** A loaded model. */
export class Ocelli {
  #line;

  constructor(line, info) {
    this.#line = line;
    this.info = info;
  }

  /** Loads a model: `"embedded"`, an address, files of the user, or a server. */
  static async load(source = "embedded", { engine = "fastest", onProgress, signal } = {}) {
    const line = new Line();
    try {
      const { files, ...described } = describe(source);
      const onEvent = (event) => {
        if (event.type === "fetching") {
          const { file, done, total, from_store: fromStore } = event;
          onProgress?.({ file, done, total, fromStore });
        }
      };
      const { model } = await line.last({ type: "load", source: described, engine }, { files, signal, onEvent });
      return new Ocelli(line, model);
    } catch (error) {
      line.end("it was not loaded");
      throw error;
    }
  }

  /** Says what a picture shows. */
  caption(picture, { signal, ...options } = {}) {
    return new Reply(
      this.#ask(async () => ({ type: "caption", picture: await bytes(picture), options: wire(options) }), signal),
    );
  }

  /** Answers a conversation. */
  chat(messages, { signal, ...options } = {}) {
    return new Reply(
      this.#ask(async () => {
        return { type: "chat", messages: await Promise.all(messages.map(message)), options: wire(options) };
      }, signal),
    );
  }

  async *#ask(request, signal) {
    for await (const event of this.#line.ask(await request(), { signal })) {
      if (event.type === "moved") this.info.engine = event.engine;
      yield event;
    }
  }

  /** Models kept on this device, and how much room they take. */
  async stored() {
    const { models, usage, quota } = await this.#line.last({ type: "list_stored" });
    return { models, usage, quota };
  }

  /** Removes a stored model. */
  async forget(key) {
    await this.#line.last({ type: "forget", key });
  }

  /** Ends the worker and frees its memory. */
  close() {
    this.#line.end("the model was closed");
  }
}

function describe(source) {
  if (source === "embedded") return { type: "embedded" };
  if (typeof source === "string" || source instanceof URL) {
    return { type: "url", url: new URL(source, globalThis.location?.href).href };
  }
  if (source instanceof Blob) source = [source];
  if (Array.isArray(source) || (typeof FileList !== "undefined" && source instanceof FileList)) {
    const files = [...source];
    return { type: "files", name: files[0]?.name ?? "", files };
  }
  if (source?.server) return { type: "server", url: String(source.server), key: source.key ?? null };
  throw new TypeError('a model is "embedded", an address, a File or several, or { server: address }');
}

async function bytes(picture) {
  if (picture instanceof Uint8Array) return picture;
  if (picture instanceof ArrayBuffer) return new Uint8Array(picture);
  if (picture instanceof Blob) return new Uint8Array(await picture.arrayBuffer());
  const canvas = await drawn(picture);
  const blob = canvas.convertToBlob
    ? await canvas.convertToBlob({ type: "image/png" })
    : await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new Uint8Array(await blob.arrayBuffer());
}

/** Elements, bitmaps, frames of videos: whatever can be drawn. */
async function drawn(picture) {
  if (picture instanceof ImageData) picture = await createImageBitmap(picture);
  const width = picture.naturalWidth ?? picture.videoWidth ?? picture.displayWidth ?? picture.width;
  const height = picture.naturalHeight ?? picture.videoHeight ?? picture.displayHeight ?? picture.height;
  if (!(width > 0 && height > 0)) throw new TypeError("a picture is a Blob, bytes, or something that can be drawn");
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas;
}

async function message({ role, content }) {
  const parts = typeof content === "string" ? [content] : content;
  return { role, parts: await Promise.all(parts.map(part)) };
}

async function part(part) {
  if (typeof part === "string") return { type: "text", text: part };
  if (part?.type === "text") return { type: "text", text: part.text ?? part.value };
  const picture = part?.type === "image" ? (part.image ?? part.value) : part;
  return { type: "image", bytes: await bytes(picture) };
}

/** Options as JavaScript spells them to options as the engine does. */
function wire(options) {
  const names = { maxTokens: "max_tokens", topK: "top_k", topP: "top_p" };
  return Object.fromEntries(
    Object.entries(options)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [names[name] ?? name, value]),
  );
}
