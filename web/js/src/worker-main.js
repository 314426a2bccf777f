// The worker's script: loads the engine, then takes messages.
import init, { start } from "./worker.js";

await init({ module_or_path: new URL("./worker_bg.wasm", import.meta.url) });
start();
