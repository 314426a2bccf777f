import init from "./ui.js";

await init({ module_or_path: new URL("./ui_bg.wasm", import.meta.url) });
if ("serviceWorker" in navigator) {
  // Without it all works, but for opening the page with the network off.
  navigator.serviceWorker.register("./sw.js", { type: "module" }).catch((error) => console.warn(error));
}
