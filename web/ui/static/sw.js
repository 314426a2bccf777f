// Keeps the page itself, so that it opens with the network off. The build fills in the two constants.
// Weights are kept by the worker, which can check and resume them.

const CACHE = "ocelli-" + "VERSION";
const FILES = ["FILES"];

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(["./", ...FILES].map((url) => new Request(url, { cache: "reload" }))))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => names.filter((name) => name.startsWith("ocelli-") && name !== CACHE))
      .then((old) => Promise.all(old.map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

// The network first, so that a new build shows at once; what is kept if there is none.
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin || event.request.headers.has("range")) return;
  event.respondWith(
    fetch(event.request).catch(async (error) => {
      const kept = await (await caches.open(CACHE)).match(event.request, { ignoreSearch: true });
      if (kept) return kept;
      throw error;
    }),
  );
});
