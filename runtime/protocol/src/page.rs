//! What a server and the page that it serves have to agree on.

/// Scripts, styles and workers come from the server alone, and none of them inline. Connections may go anywhere,
/// because users name their own models and servers; a page of fixed models should allow only these.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; \
    style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; manifest-src 'self'; \
    connect-src 'self' https: http://localhost:* http://127.0.0.1:*; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// What comes with every file of the page: names in lower case, and values.
pub const HEADERS: [(&str, &str); 8] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    // Together these two allow shared memory, and keep other sites out.
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(self), display-capture=(self), microphone=(), geolocation=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    // Builds follow each other under the same names.
    ("cache-control", "no-cache"),
];

/// The attribute of the document's root that tells the page that its server also has a model, keeps conversations
/// and runs tools.
pub const SERVED: &str = "data-served";
