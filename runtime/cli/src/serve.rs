//! `ocelli serve`: the model behind the HTTP APIs that other programs speak.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use ::agent::tools::Folders;
use anyhow::{Context, bail};
use axum::Router;
use clap::Args;
use engine::GenerateOptions;
use server::{Access, Options, Routes, Server, Stop};

use crate::Outcome;
use crate::agent::{RULES, ToolArgs};
use crate::args::{ModelArgs, SpeculationArgs, defaults_of};
use crate::desk::{self, Desk, Tasks};
use crate::interrupt::INTERRUPTED;
use crate::output::Output;
use crate::{chat, mcp, server_key, settings};

/// Answer over HTTP, in the words of OpenAI, Anthropic and Ollama
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; with 0.0.0.0 other machines can ask too, with a key that is made and shown once
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// What requests call the model [default: its file name, or `ocelli` for the model inside]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Show the server in a browser
    #[arg(long)]
    open: bool,
    /// Requests to answer at the same time; each takes memory for its conversation
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    slots: u16,
    /// Requests that may wait beside those; more are told to come again later
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: u16,
    /// Let requests name pictures of this folder as file://…, and tools read its files; may be given more than once
    #[arg(long, value_name = "FOLDER", help_heading = "Access")]
    grant: Vec<PathBuf>,
    /// Let tools read and write files of this folder; may be given more than once
    #[arg(long, value_name = "FOLDER", help_heading = "Access")]
    grant_write: Vec<PathBuf>,
    /// Let pages of this origin ask, as `https://example.com`; may be given more than once
    #[arg(long, value_name = "ORIGIN", help_heading = "Access", value_parser = origin)]
    allow_origin: Vec<String>,
    /// Answer under this name too, beside localhost and addresses; may be given more than once
    #[arg(long, value_name = "NAME", help_heading = "Access")]
    allow_host: Vec<String>,
    /// Make another key, in place of the one made earlier
    #[arg(long, help_heading = "Access")]
    new_key: bool,
    /// Leave out notes
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    speculation: SpeculationArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

impl ServeArgs {
    /// Whether no other machine can ask.
    #[cfg(all(feature = "desktop", target_os = "linux"))]
    pub(crate) fn is_for_this_machine(&self) -> bool {
        self.listen.ip().is_loopback()
    }
}

/// A server that is about to answer.
#[cfg_attr(
    not(all(feature = "desktop", target_os = "linux")),
    expect(dead_code, reason = "the rest is for `ocelli desktop`")
)]
pub(crate) struct Served {
    /// For a browser on this machine.
    pub(crate) url: String,
    /// What its page has beside the model, if that can be kept.
    pub(crate) desk: Option<Arc<Desk>>,
    pub(crate) stop: Stop,
}

pub(crate) fn run(args: ServeArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    let open = args.open;
    serve(args, output, |served, output| {
        if open && let Err(error) = open::that(&served.url) {
            output.warning(&format!("cannot open a browser: {error}"));
        }
        Ok(())
    })
}

/// Serves until it is stopped. `ready` is called when the address is known.
pub(crate) fn serve(
    args: ServeArgs,
    output: &mut Output,
    ready: impl FnOnce(Served, &Output) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    output.set_quiet(args.quiet);
    let files = args.model.files()?;
    let batch = args.model.batch_of(&files, output)?;
    let needs_key = !args.listen.ip().is_loopback();
    if args.new_key && !needs_key {
        bail!("--new-key is for other machines, but {} is reached from this one only", args.listen);
    }
    let key = needs_key.then(|| server_key::obtain(args.new_key, output)).transpose()?;
    let model = args.name.unwrap_or_else(|| name_of(args.model.model.as_deref()));
    let tools = ToolArgs::attended(args.grant.clone(), args.grant_write);
    // Says now what is wrong with them, rather than to each task.
    tools.toolbox()?;
    let desk = desk(model.clone(), tools)
        .inspect_err(|error| output.warning(&format!("no conversation can be kept for the page: {error:#}")));
    let desk = desk.ok().map(Arc::new);
    let folders = mcp::folders(&args.grant).unwrap_or_else(|error| {
        output.warning(&format!("{error}; questions at /mcp can name no files"));
        Folders::default()
    });
    let folders = Arc::new(folders);
    let options = Options {
        model,
        defaults: GenerateOptions {
            speculation: args.speculation.speculation(),
            ..defaults_of(&files.generation_defaults()?)
        },
        n_slots: args.slots.into(),
        queue: args.queue.into(),
        routes: Some(Routes::new({
            let desk = desk.clone();
            move |asker| {
                let mcp = mcp::routes(asker, Arc::clone(&folders));
                mcp.merge(desk.clone().map_or_else(Router::new, desk::routes))
            }
        })),
        granted: args.grant,
        access: Access { key, origins: args.allow_origin, hosts: args.allow_host, ..Access::default() },
        pages: pages(),
        ..Options::default()
    };
    output.note(&format!("{} is served as `{}`; Ctrl-C ends", files.name(), options.model));
    let server = Server::bind(args.listen, options)?;
    let address = server.address()?;
    let url = format!("http://{}", shown(address));
    output.line(&url)?;
    if let Some(desk) = &desk {
        desk.url.set(format!("http://{}", own(address))).expect("it is set here only");
    }

    let (stop, is_stopping) = (server.stop(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        // The first one lets answers end, the second one does not.
        if is_stopping.swap(true, Ordering::SeqCst) {
            process::exit(INTERRUPTED);
        }
        stop.stop();
    })
    .context("cannot listen for Ctrl-C")?;
    ready(Served { url, desk, stop: server.stop() }, output)?;
    server.run(&batch)?;
    Ok(Outcome::Done)
}

/// What requests call a model that has no other name.
fn name_of(path: Option<&Path>) -> String {
    let stem = path.and_then(|path| {
        let path = path.canonicalize().ok()?;
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        Some(name?.to_string_lossy().into_owned())
    });
    stem.unwrap_or_else(|| "ocelli".to_owned())
}

/// Conversations and tools for the page.
fn desk(model: String, tools: ToolArgs) -> anyhow::Result<Desk> {
    Ok(Desk {
        url: OnceLock::new(),
        model,
        conversations: chat::conversations()?,
        rules: settings::folder()?.join(RULES),
        toolbox: Box::new(move || tools.toolbox()),
        tasks: Tasks::default(),
        look: Mutex::default(),
    })
}

/// The page, if it is inside.
fn pages() -> Option<Router> {
    #[cfg(feature = "page")]
    return Some(crate::page::routes());
    #[cfg(not(feature = "page"))]
    return None;
}

/// Where this program reaches itself.
fn own(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// An address that a browser on this machine can open.
fn shown(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map_err(|_| "an address and a port are needed, as 127.0.0.1:8080".to_owned())
}

fn origin(text: &str) -> Result<String, String> {
    let wanted = || "an origin is needed, as https://example.com: no path and no `*`".to_owned();
    let (scheme, authority) = text.split_once("://").ok_or_else(wanted)?;
    let is_origin = matches!(scheme, "http" | "https")
        && !authority.is_empty()
        && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    if is_origin { Ok(text.to_owned()) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact() {
        for good in ["https://example.com", "http://localhost:3000", "http://[::1]:80"] {
            assert_eq!(origin(good).unwrap(), good);
        }
        for bad in ["*", "example.com", "https://example.com/", "https://*.example.com", "null", "file://x"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_ports() {
        assert_eq!(address("localhost:80").unwrap(), address("127.0.0.1:80").unwrap());
        assert!(address("0.0.0.0").is_err() && address("example.com:80").is_err());
        assert_eq!(shown(address("0.0.0.0:81").unwrap()), "localhost:81");
        assert_eq!(shown(address("[::1]:81").unwrap()), "[::1]:81");
    }

    #[test]
    fn models_are_named_after_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("ERNIE-4.5-VL");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a.Q4_K.gguf"), "").unwrap();
        assert_eq!(name_of(Some(&folder)), "ERNIE-4.5-VL");
        assert_eq!(name_of(Some(&folder.join("a.Q4_K.gguf"))), "a.Q4_K");
        assert_eq!(name_of(None), "ocelli");
    }
}
