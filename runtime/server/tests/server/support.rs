//! Starts servers on the embedded model, talks HTTP to them, and asks the engine directly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use engine::{Answer, Batch, Device, Engine, GenerateOptions, Message, ModelFiles, Part, Role};
use serde_json::{Value, json};
use server::{Options, Server, Stop};

/// What the served model is called.
pub(crate) const MODEL: &str = "small";

/// How long any answer may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn files() -> ModelFiles {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/model");
    ModelFiles::open(&path).unwrap()
}

fn clock() -> engine::Clock {
    let start = Instant::now();
    Box::new(move || start.elapsed().as_secs_f64() * 1000.0)
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::at("127.0.0.1:0", options)
    }

    pub(crate) fn at(address: &str, options: Options) -> Self {
        let server =
            Server::bind(address.parse().unwrap(), Options { model: MODEL.into(), ..options }).unwrap();
        let port = server.address().unwrap().port();
        let stop = server.stop();
        let thread = std::thread::spawn(move || {
            let batch = Batch::open(&files(), Device::default(), clock()).unwrap();
            server.run(&batch).unwrap();
        });
        Self { address: ([127, 0, 0, 1], port).into(), stop, thread: Some(thread) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request with these lines of header and reads the whole response.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let mut stream = self.connect();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        Reply::read(stream)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[&self.host()], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[&self.host(), "Content-Type: application/json"], &body.to_string())
    }

    pub(crate) fn host(&self) -> String {
        format!("Host: {}", self.address)
    }

    /// Sends a request and leaves the response to be read.
    pub(crate) fn begin(&self, path: &str, body: &Value) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        let (host, body) = (self.host(), body.to_string());
        write!(stream, "POST {path} HTTP/1.1\r\n{host}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        BufReader::new(stream)
    }

    /// A number that is counted.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").expect(200).body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Waits until a number is as expected.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, expected: u64) {
        let start = Instant::now();
        while self.metric(name) != expected {
            assert!(start.elapsed() < PATIENCE, "{name} is {}, not {expected}", self.metric(name));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn read(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let status = line().split(' ').nth(1).unwrap_or("0").parse().unwrap();
        let headers = std::iter::repeat_with(&mut line).take_while(|line| !line.is_empty());
        let headers: Vec<(String, String)> = headers
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let mut body = Vec::new();
        if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
            while let Some(chunk) = read_chunk(&mut stream) {
                body.extend(chunk);
            }
        } else {
            stream.read_to_end(&mut body).unwrap();
        }
        Self { status, headers, body: String::from_utf8(body).unwrap() }
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The events of a stream: name and data each.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        assert!(self.body.ends_with("\n\n"), "{self:#?}");
        let blocks = self.body.trim_end_matches('\n').split("\n\n").filter(|block| !block.starts_with(": "));
        blocks
            .map(|block| {
                let (mut name, mut data) = (String::new(), None);
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", value)) => name = value.to_owned(),
                        Some(("data", value)) => data = Some(value.to_owned()),
                        _ => panic!("{line:?} in {self:#?}"),
                    }
                }
                (name, data.unwrap_or_else(|| panic!("{block:?} has no data")))
            })
            .collect()
    }

    /// The objects of OpenAI's stream, which ends with `[DONE]`.
    #[track_caller]
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().unwrap().1, "[DONE]");
        events.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect()
    }
}

/// The next chunk of a body, `None` at its end.
pub(crate) fn read_chunk(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut size = String::new();
    stream.read_line(&mut size).unwrap();
    let size = usize::from_str_radix(size.trim_end(), 16).unwrap_or(0);
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).ok()?;
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}

/// The engine that serves, asked directly.
pub(crate) fn engine() -> Engine {
    Engine::open(&files(), Device::default(), clock()).unwrap()
}

pub(crate) fn ask(engine: &mut Engine, messages: &[Message], options: &GenerateOptions) -> Answer {
    pollster::block_on(engine.chat(messages, options, &mut |_| ControlFlow::Continue(()))).unwrap()
}

pub(crate) fn user(text: &str) -> Message {
    Message::text(Role::User, text)
}

/// A picture with a stripe, as PNG.
pub(crate) fn png(side: u32) -> Vec<u8> {
    let picture =
        image::RgbImage::from_fn(side, side, |x, y| image::Rgb([(x * 3) as u8, (y * 2) as u8, 200]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What the model gets of a picture.
pub(crate) fn part(engine: &Engine, png: &[u8]) -> Part {
    let picture = vision::decode(png, &vision::DecodeOptions::default()).unwrap();
    Part::Image(Arc::new(engine.preprocessor().image(&picture).unwrap()))
}

/// A request of OpenAI's API for a text that never ends by itself.
pub(crate) fn endless() -> Value {
    json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": "Tell me something." }],
        "temperature": 0,
        "ignore_eos": true,
    })
}
