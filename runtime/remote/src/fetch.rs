//! `fetch`: a page or a picture of the web, from hosts that the user allowed.

mod address;
mod plain;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::agent::{
    Content, Context, Effect, LocalFuture, Origin, Part, Subject, Tool, ToolOutput, ToolSpec, read_arguments,
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::lookup_host;

use crate::client::{builder, said};
use crate::patience::{Impatient, patiently};
use address::is_public;
use plain::plain;

/// Bytes of a body, and of text that one call shows.
const MAX_BODY: usize = 8 << 20;
const MAX_SHOWN: usize = 32 << 10;
/// How long a call may take.
const TIME: Duration = Duration::from_secs(30);
/// Redirects that are followed.
const MAX_HOPS: usize = 5;
/// Characters of an address.
const MAX_URL: usize = 2000;

/// Fetches by GET, without cookies, keys or proxies. Each name is resolved once, and the connection goes to the address
/// that was checked, so a name that changes its mind leads nowhere else.
#[derive(Debug)]
pub struct Fetch {
    spec: ToolSpec,
    hosts: Vec<Host>,
    may_be_private: bool,
    lookup: Lookup,
}

/// Finds the addresses of a name.
type Lookup = fn(String) -> LocalFuture<'static, io::Result<Vec<IpAddr>>>;

/// The only addresses that a connection may go to, whatever name it is for.
struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// A host that may be asked without a yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// In lower case; a leading dot stands for all names below.
    name: String,
}

#[derive(Deserialize)]
struct Arguments {
    url: String,
    #[serde(default)]
    offset: usize,
}

/// Why nothing was fetched, for the model to read.
type Failure = String;

impl Host {
    /// Reads a name or an address; `*.example.com` is every name below `example.com`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no host; give a name as example.com or *.example.com, or an address");
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (".", rest),
            None => ("", text),
        };
        let rest =
            if rest.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{rest}]") } else { rest.to_owned() };
        let url = Url::parse(&format!("http://{rest}/")).map_err(|_| wrong())?;
        // Nothing but the name: no port, path or user.
        let name = url.host_str().filter(|name| **name == *rest.to_ascii_lowercase() && !name.contains('*'));
        match name {
            Some(name) if below.is_empty() || url.domain().is_some() => {
                Ok(Self { name: format!("{below}{name}") })
            }
            _ => Err(wrong()),
        }
    }

    fn covers(&self, host: &str) -> bool {
        match self.name.strip_prefix('.') {
            Some(_) => host.ends_with(&self.name) && host.len() > self.name.len(),
            None => host == self.name,
        }
    }
}

impl Fetch {
    /// A tool that asks these hosts, and others only with a yes. None of them may have a private address, unless
    /// `may_be_private` says so or the user gave that address itself, or `localhost`.
    pub fn new(hosts: Vec<Host>, may_be_private: bool) -> Self {
        let names: Vec<String> = hosts
            .iter()
            .map(
                |host| if host.name.starts_with('.') { format!("*{}", host.name) } else { host.name.clone() },
            )
            .collect();
        let spec = ToolSpec {
            name: "fetch".into(),
            description: format!(
                "Gets a page or a picture of the web, pages as plain text. Allowed hosts: {}. Others need the \
                 user's yes.",
                names.join(", ")
            ),
            parameters: json!({
                "type": "object",
                "properties": {
                    "url": { "type": "string", "maxLength": MAX_URL, "description": "as https://example.com/page" },
                    "offset": { "type": "integer", "minimum": 0, "description": "where to go on in a long text" },
                },
                "required": ["url"],
                "additionalProperties": false,
            }),
        };
        Self { spec, hosts, may_be_private, lookup: |name| Box::pin(system_lookup(name)) }
    }

    fn is_allowed(&self, host: &str) -> bool {
        self.hosts.iter().any(|allowed| allowed.covers(host))
    }

    /// Whether the user named this host itself, so that it may be where it is.
    fn may_be_here(&self, host: &str) -> bool {
        let is_named = self.hosts.iter().any(|allowed| allowed.name == host);
        let is_plain = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        self.may_be_private || (is_named && is_plain)
    }

    /// The addresses of a host, all of them checked.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, Failure> {
        let host = url.host_str().ok_or("there is no host in it")?;
        let port = url.port_or_known_default().unwrap_or(0);
        let bare = host.trim_matches(['[', ']']);
        let addresses = match bare.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = (self.lookup)(bare.to_owned()).await;
                found.map_err(|error| format!("`{host}` is not found: {error}"))?
            }
        };
        if addresses.is_empty() {
            return Err(format!("`{host}` has no address"));
        }
        if !self.may_be_here(host)
            && let Some(address) = addresses.iter().find(|address| !is_public(**address))
        {
            return Err(format!("`{host}` is at {address}, which is not of the open internet"));
        }
        Ok(addresses.into_iter().map(|address| (address, port).into()).collect())
    }

    /// Follows an address to where there is something.
    async fn follow(&self, asked: &str) -> Result<(Url, Response), Failure> {
        let mut url = parse(asked)?;
        // A yes was given for the host that was asked.
        let first = url.host_str().unwrap_or_default().to_owned();
        for _ in 0..=MAX_HOPS {
            let host = url.host_str().unwrap_or_default().to_owned();
            if host != first && !self.is_allowed(&host) {
                return Err(format!("it leads to another host; fetch {url} itself if that is wanted"));
            }
            let addresses = self.addresses(&url).await?;
            let client = builder()?.dns_resolver(Arc::new(Pinned(addresses))).build();
            let client = client.map_err(|error| said(&error))?;
            let request =
                client.get(url.clone()).header(ACCEPT, "text/html, text/*, application/json, image/*");
            let response = request.send().await.map_err(|error| said(&error))?;
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Ok((url, response));
            }
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.ok_or_else(|| format!("{status} without an address"))?;
            url = parse(url.join(to).map_err(|_| "it leads to what is no address")?.as_str())?;
        }
        Err(format!("it leads on more than {MAX_HOPS} times"))
    }

    async fn get(&self, it: &Arguments) -> Result<Got, Failure> {
        let (url, mut response) = self.follow(&it.url).await?;
        let status = response.status();
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| said(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY {
                return Err(format!("it is larger than {} MiB", MAX_BODY >> 20));
            }
        }
        if !status.is_success() {
            return Err(format!("{url} answers {status}"));
        }
        Ok(Got { url, kind: kind.to_ascii_lowercase(), body })
    }
}

/// What was fetched.
struct Got {
    url: Url,
    kind: String,
    body: Vec<u8>,
}

impl Got {
    fn text(&self) -> Result<String, Failure> {
        let media = self.kind.split(';').next().unwrap_or_default().trim();
        let is_text = media.starts_with("text/")
            || matches!(media, "" | "application/json" | "application/xml" | "application/xhtml+xml")
            || media.ends_with("+json")
            || media.ends_with("+xml");
        if !is_text {
            return Err(format!("it is neither text nor a picture but `{media}`"));
        }
        let is_latin = ["charset=iso-8859-1", "charset=\"iso-8859-1", "charset=windows-1252"];
        let text = match is_latin.iter().any(|name| self.kind.contains(name)) {
            true => self.body.iter().map(|&byte| char::from(byte)).collect(),
            false => String::from_utf8_lossy(&self.body).into_owned(),
        };
        let is_html = matches!(media, "text/html" | "application/xhtml+xml");
        Ok(if is_html { plain(&text) } else { text })
    }
}

fn parse(text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is not fetched, only http and https are", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("names and passwords do not belong into an address".into());
    }
    if text.len() > MAX_URL {
        return Err(format!("the address is longer than {MAX_URL} characters"));
    }
    Ok(url)
}

impl Tool for Fetch {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    /// An address that is none has no effect, since nothing will be asked.
    fn effect(&self, arguments: &Map<String, Value>) -> Effect {
        let url = arguments.get("url").and_then(Value::as_str).and_then(|url| parse(url).ok());
        match url.as_ref().and_then(Url::host_str) {
            Some(host) if !self.is_allowed(host) => Effect::Reaches(Subject::Host(host.to_owned())),
            _ => Effect::None,
        }
    }

    fn call<'a>(
        &'a self,
        arguments: &'a Map<String, Value>,
        context: Context<'a>,
    ) -> LocalFuture<'a, ToolOutput> {
        Box::pin(async move {
            let it: Arguments = match read_arguments(arguments) {
                Ok(it) => it,
                Err(error) => return ToolOutput::error(error),
            };
            let got = match patiently(self.get(&it), TIME, || (context.wait)(None)).await {
                Ok(got) => got,
                Err(Impatient::GivenUp) => Err("it was given up".into()),
                Err(Impatient::TooLong) => Err(format!("it took longer than {} s", TIME.as_secs())),
            };
            let got = match got {
                Ok(got) => got,
                // A page may have chosen the words.
                Err(error) => return ToolOutput::failure(Origin::Web, error),
            };
            if got.kind.starts_with("image/") && vision::decode(&got.body, &Default::default()).is_ok() {
                let picture = Content::Picture(context.pictures.add(got.body));
                let parts = vec![
                    Part::text(Origin::Web, format!("{}:", got.url)),
                    Part { origin: Origin::Web, content: picture },
                ];
                return ToolOutput { parts, failed: false };
            }
            match got.text().and_then(|text| page(&got.url, &text, it.offset)) {
                Ok(text) => ToolOutput::text(Origin::Web, text),
                Err(error) => ToolOutput::failure(Origin::Web, error),
            }
        })
    }
}

async fn system_lookup(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// A piece of a text, and where it goes on.
fn page(url: &Url, text: &str, offset: usize) -> Result<String, Failure> {
    let start = text.ceil_char_boundary(offset.min(text.len()));
    let end = text.floor_char_boundary(start.saturating_add(MAX_SHOWN).min(text.len()));
    let shown = &text[start..end];
    match (shown.is_empty(), end < text.len()) {
        (true, _) if text.is_empty() => Ok(format!("{url} holds no text")),
        (true, _) => Err(format!("{url} has only {} bytes of text", text.len())),
        (false, true) => Ok(format!("{url}:\n{shown}\n… of {} bytes; go on with offset {end}", text.len())),
        (false, false) => Ok(format!("{url}:\n{shown}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        let covers = |host: &str, name: &str| Host::parse(host).unwrap().covers(name);
        assert!(covers("Example.com", "example.com") && !covers("example.com", "www.example.com"));
        assert!(covers("*.example.com", "a.b.example.com") && !covers("*.example.com", "example.com"));
        assert!(!covers("*.example.com", "badexample.com") && !covers("*.example.com", ".example.com"));
        assert!(covers("127.0.0.1", "127.0.0.1") && covers("::1", "[::1]"));
        for wrong in ["", "*", "*.", "a b", "http://x", "x/y", "x:80", "u@x", "*.127.0.0.1", "x?y", "x#y"] {
            assert!(Host::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_hosts_need_a_yes() {
        let fetch = Fetch::new(vec![Host::parse("example.com").unwrap()], false);
        let effect = |url: &str| fetch.effect(json!({ "url": url }).as_object().unwrap());
        assert_eq!(effect("https://example.com/a?b"), Effect::None);
        assert_eq!(effect("https://EXAMPLE.com."), Effect::Reaches(Subject::Host("example.com.".into())));
        assert_eq!(effect("http://example.org"), Effect::Reaches(Subject::Host("example.org".into())));
        // These will not be asked at all.
        for wrong in ["file:///etc/passwd", "x", "http://a:b@example.org/", "data:text/html,x"] {
            assert_eq!(effect(wrong), Effect::None);
            assert!(parse(wrong).is_err());
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// A tool for which every name is found at this address.
    fn at(lookup: Lookup, may_be_private: bool) -> Fetch {
        Fetch { lookup, ..Fetch::new(vec![Host::parse("*.test").unwrap()], may_be_private) }
    }

    fn get(fetch: &Fetch, url: &str) -> Result<String, Failure> {
        run(fetch.get(&Arguments { url: url.into(), offset: 0 })).and_then(|got| got.text())
    }

    #[test]
    fn names_of_closed_addresses_are_refused() {
        for lookup in [
            (|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) })) as Lookup,
            |_| Box::pin(async { Ok(vec!["1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap()]) }),
            |_| Box::pin(async { Ok(vec!["::ffff:169.254.169.254".parse().unwrap()]) }),
        ] {
            let error = get(&at(lookup, false), "http://a.test/").unwrap_err();
            assert!(error.contains("not of the open internet"), "{error}");
        }
        for url in ["http://127.0.0.1:1/", "http://[::1]:1/", "http://2130706433:1/", "http://0x7f.1:1/"] {
            let error = get(&Fetch::new(Vec::new(), false), url).unwrap_err();
            assert!(error.contains("not of the open internet"), "{url}: {error}");
        }
    }

    /// A name server could answer otherwise the next time, so there must be no next time.
    #[test]
    fn a_name_is_resolved_once_and_its_address_kept() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        let lookup: Lookup = |_| {
            // Another address from the second time on, where nobody answers.
            let last = 1 + LOOKUPS.fetch_add(1, Ordering::SeqCst) as u8;
            Box::pin(async move { Ok(vec![[127, 0, 0, last].into()]) })
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 1000];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        assert_eq!(get(&at(lookup, true), &format!("http://rebind.test:{port}/x")).unwrap(), "hi");
        let request = thread.join().unwrap().to_ascii_lowercase();
        assert!(request.starts_with("get /x http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: rebind.test:{port}")), "{request}");
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn long_texts_come_in_pages() {
        let url = Url::parse("http://x/").unwrap();
        let text = "ü".repeat(MAX_SHOWN);
        let first = page(&url, &text, 0).unwrap();
        assert!(first.ends_with(&format!("of {} bytes; go on with offset {MAX_SHOWN}", 2 * MAX_SHOWN)));
        assert!(page(&url, &text, MAX_SHOWN + 1).unwrap().ends_with('ü'));
        assert!(page(&url, &text, usize::MAX).unwrap_err().contains("only 65536 bytes"));
        assert!(page(&url, "", 0).unwrap().contains("no text"));
    }
}
