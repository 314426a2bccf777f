//! The one client for HTTP.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};
use rustls::{ClientConfig, RootCertStore};

/// How long a server may take to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A client that goes where it is told and nowhere else: it follows no redirect and asks no proxy.
///
/// It trusts the certificates that this machine trusts, or those of Mozilla where a machine has none.
///
/// # Errors
/// If encryption cannot be set up.
pub fn client() -> Result<Client, String> {
    builder()?.build().map_err(|error| said(&error))
}

pub(crate) fn builder() -> Result<ClientBuilder, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = rustls::crypto::ring::default_provider();
    let tls = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIME)
        .redirect(Policy::none())
        .no_proxy()
        .user_agent(concat!("ocelli/", env!("CARGO_PKG_VERSION")));
    Ok(builder)
}

/// Whether others can read what is sent to this address on its way: it is not encrypted, and leaves this machine.
pub fn is_overheard(url: &Url) -> bool {
    let is_here = url.host_str().is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    url.scheme() == "http" && !is_here
}

/// An error with its causes, which say what is wrong; the address is left out, since whoever asked knows it.
pub(crate) fn said(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut said = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "it took too long".to_owned(),
        (false, true) => "it cannot be reached".to_owned(),
        (false, false) => "it broke off".to_owned(),
    };
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            said += &format!(": {text}");
        }
        cause = inner.source();
    }
    said
}
