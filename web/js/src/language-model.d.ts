import type { LoadOptions, Picture, Source } from "./index.js";

export interface LanguageModelPart {
  type: "text" | "image";
  value: string | Picture;
}

export interface LanguageModelMessage {
  role: "system" | "user" | "assistant";
  content: string | LanguageModelPart[];
}

export interface LanguageModelCreateOptions {
  /** Which model; the one inside if not given. */
  source?: Source;
  /** What shall compute, as for `Ocelli.load`. */
  engine?: LoadOptions["engine"];
  initialPrompts?: LanguageModelMessage[];
  temperature?: number;
  topK?: number;
  signal?: AbortSignal;
  monitor?: (target: EventTarget) => void;
}

/** The shape of Chrome's Prompt API. */
export class LanguageModel extends EventTarget {
  static availability(): Promise<"available" | "unavailable">;
  static create(options?: LanguageModelCreateOptions): Promise<LanguageModel>;
  readonly inputUsage: number;
  readonly inputQuota: number;
  prompt(input: string | LanguageModelMessage[], options?: { signal?: AbortSignal }): Promise<string>;
  promptStreaming(
    input: string | LanguageModelMessage[],
    options?: { signal?: AbortSignal },
  ): ReadableStream<string>;
  append(input: string | LanguageModelMessage[]): Promise<void>;
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModel>;
  destroy(): void;
}
