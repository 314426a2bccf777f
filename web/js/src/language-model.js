// The shape of Chrome's Prompt API (https://github.com/webmachinelearning/prompt-api) over an Ocelli model.

import { Ocelli } from "./index.js";

export class LanguageModel extends EventTarget {
  #model;
  #messages;
  #options;
  #origin;

  constructor(model, origin, messages, options) {
    super();
    this.#model = model;
    this.#origin = origin;
    this.#messages = messages;
    this.#options = options;
    this.inputUsage = 0;
  }

  /** Everything that is needed is here, or comes from where `create` is told. */
  static async availability() {
    return typeof WebAssembly === "object" && typeof Worker === "function" ? "available" : "unavailable";
  }

  static async create({ source = "embedded", engine, initialPrompts = [], temperature, topK, signal, monitor } = {}) {
    const target = new EventTarget();
    monitor?.(target);
    const onProgress = ({ done, total }) => {
      const event = new Event("downloadprogress");
      target.dispatchEvent(Object.assign(event, { loaded: done / total, total: 1 }));
    };
    const model = await Ocelli.load(source, { engine, onProgress, signal });
    return new LanguageModel(model, { source, engine }, initialPrompts.map(message), { temperature, topK });
  }

  get inputQuota() {
    return this.#model.info.context_limit;
  }

  async prompt(input, options) {
    let text = "";
    for await (const piece of this.#run(input, options)) text += piece;
    return text;
  }

  promptStreaming(input, options) {
    const pieces = this.#run(input, options);
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await pieces.return();
      },
    });
  }

  async append(input) {
    this.#messages.push(...messages(input));
  }

  async clone({ signal } = {}) {
    const { source, engine } = this.#origin;
    const model = await Ocelli.load(source, { engine, signal });
    return new LanguageModel(model, this.#origin, [...this.#messages], this.#options);
  }

  destroy() {
    this.#model.close();
  }

  async *#run(input, { signal } = {}) {
    const asked = [...this.#messages, ...messages(input)];
    const reply = this.#model.chat(asked, { ...this.#options, signal });
    for await (const event of reply.events()) {
      if (event.type === "text") yield event.text;
      if (event.type === "answered") {
        const { text, prompt_tokens, generated_tokens } = event.answer;
        this.#messages = [...asked, { role: "assistant", content: text }];
        this.inputUsage = prompt_tokens + generated_tokens;
        if (event.answer.stop_reason === "context_full") this.dispatchEvent(new Event("quotaoverflow"));
      }
    }
  }
}

function messages(input) {
  return typeof input === "string" ? [{ role: "user", content: input }] : input.map(message);
}

function message({ role, content }) {
  if (typeof content === "string") return { role, content };
  return {
    role,
    content: content.map(({ type, value }) => {
      if (type === "text") return { type: "text", text: value };
      if (type === "image") return { type: "image", image: value };
      throw new DOMException(`parts of type ${type} are not supported`, "NotSupportedError");
    }),
  };
}
