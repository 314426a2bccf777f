/** Where a model comes from. */
export type Source =
  | "embedded"
  | string
  | URL
  | Blob
  | File[]
  | FileList
  | { server: string | URL; key?: string };

/** Whatever shows a picture. */
export type Picture = Blob | Uint8Array | ArrayBuffer | ImageData | CanvasImageSource;

export interface Progress {
  /** The file that is on its way. */
  file: string;
  /** Bytes of the whole model that are here. */
  done: number;
  /** Bytes of the whole model. */
  total: number;
  /** Whether they come from this device rather than over the network. */
  fromStore: boolean;
}

export interface LoadOptions {
  /** What shall compute; "fastest", the default, is the graphics processor if there is one. */
  engine?: "fastest" | "web_gpu" | "processor";
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface Options {
  /** 0, the default, is greedy. */
  temperature?: number;
  /** The likeliest tokens to choose from; 0 is all of them. */
  topK?: number;
  /** The share of the probability to choose from. */
  topP?: number;
  /** The same seed gives the same answer. */
  seed?: number;
  /** Tokens of the answer at most; 256 if not given. */
  maxTokens?: number;
  /** Texts that end the answer. */
  stop?: string[];
  /** Whether the model shall think first. */
  thinking?: boolean;
  signal?: AbortSignal;
}

export type Part =
  | string
  | Picture
  | { type: "text"; text: string }
  | { type: "image"; image: Picture };

export interface Message {
  role: "system" | "user" | "assistant";
  content: string | Part[];
}

export interface Answer {
  text: string;
  reasoning: string | null;
  stop_reason: "eos" | "stop_string" | "max_tokens" | "context_full" | "cancelled";
  prompt_tokens: number;
  cached_tokens: number;
  generated_tokens: number;
  /** Milliseconds from the request to the first token. */
  ttft_ms: number;
  prefill_ms: number;
  decode_ms: number;
  /** Everything that was lost or changed on the way in. */
  notes: string[];
  /** What each token after the first cost the graphics processor, if one computed. */
  gpu: GpuCost | null;
}

/** What a token costs, on average. */
export interface GpuCost {
  dispatches: number;
  submits: number;
  reads: number;
  /** Of weights that kernels read. */
  weight_bytes: number;
  bytes_read_back: number;
  /** Of its memory in use, or kept for the next answer, at the end. */
  held_bytes: number;
}

/** A picture as the model sees it. */
export interface PictureView {
  sight: Sight;
  /** The resized picture, four bytes a pixel. */
  rgba: Uint8Array;
}

/** What became of a picture on its way into the model. */
export interface Sight {
  /** Width and height. */
  original: [number, number];
  resized: [number, number];
  patch_size: number;
  merge_size: number;
  n_tokens: number;
  notes: string[];
}

export type ReplyEvent =
  | { type: "seen"; view: PictureView }
  | { type: "prefill"; done: number; total: number }
  | { type: "reasoning"; text: string }
  | { type: "text"; text: string }
  /** The graphics processor went away, and this goes on with the answer. */
  | { type: "moved"; engine: ModelInfo["engine"] }
  | { type: "answered"; answer: Answer };

export interface ModelInfo {
  name: string;
  engine: { kind: "web_gpu" | "processor" | "server"; detail: string; why: string };
  takes_pictures: boolean | null;
  bytes: number;
  context_limit: number;
  load_ms: number;
  notes: string[];
}

export interface StoredModel {
  key: string;
  url: string;
  bytes: number;
  total: number;
}

/** An error of the engine. Aborts are `DOMException`s named `AbortError`, as everywhere. */
export class OcelliError extends Error {
  readonly kind: "cancelled" | "no_model" | "network" | "storage" | "input" | "device";
}

/** An answer that streams: iterate over its text, or await it. It can be read once. */
export class Reply implements AsyncIterable<string>, PromiseLike<string> {
  [Symbol.asyncIterator](): AsyncIterator<string>;
  events(): AsyncGenerator<ReplyEvent>;
  answer(): Promise<Answer>;
  text(): Promise<string>;
  then: Promise<string>["then"];
}

/** A loaded model. */
export class Ocelli {
  static load(source?: Source, options?: LoadOptions): Promise<Ocelli>;
  /** What it is, and what runs it now. */
  readonly info: ModelInfo;
  /** Says what a picture shows. */
  caption(picture: Picture, options?: Options): Reply;
  /** Answers a conversation. */
  chat(messages: Message[], options?: Options): Reply;
  /** Models kept on this device. */
  stored(): Promise<{ models: StoredModel[]; usage: number; quota: number }>;
  /** Removes a stored model. */
  forget(key: string): Promise<void>;
  /** Ends the worker and frees its memory. */
  close(): void;
}
