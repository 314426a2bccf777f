//! Asks a running server from one client, then from many at once, and tells how it bore that.
//!
//! ```sh
//! cargo run --release -- serve --listen 127.0.0.1:8080 &
//! cargo run --release --package server --example load -- 127.0.0.1:8080 64 120 $!
//! ```
//!
//! The arguments are the address, the number of clients, the seconds that each part takes, and the number of the
//! server's process, whose memory is told if it is given. Every eighth question has a picture. Each client asks again
//! as soon as it has its answer; one that was sent away with 429 comes back when the server says.

#![expect(clippy::print_stdout, reason = "a report is printed")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

/// Tokens of each answer.
const ANSWER_LEN: usize = 48;
const PICTURE: &[u8] = include_bytes!("../../../assets/images/two-apples.png");

/// What one client, or all of them together, went through.
#[derive(Debug, Default)]
struct Report {
    ttft_ms: Vec<f64>,
    n_tokens: u64,
    n_sent_away: u64,
    errors: Vec<String>,
}

/// What became of one question.
enum Fate {
    Answered { ttft_ms: f64, n_tokens: u64 },
    SentAway { retry_after: Duration },
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let number = |i: usize, default: u64| args.get(i).map_or(default, |text| text.parse().expect("a number"));
    let address = args.first().expect("the address of a running server");
    let (n_clients, seconds, process) = (number(1, 64), number(2, 120), number(3, 0));
    let alone = load(address, 1, seconds, process);
    let together = load(address, n_clients, seconds, process);
    println!("throughput of {n_clients} clients against one: {:.2}x", together / alone);
}

/// Runs so many clients for so long, tells what they went through, and returns tokens a second.
fn load(address: &str, n_clients: u64, seconds: u64, process: u64) -> f64 {
    let (before, started) = (resident_mib(process), Instant::now());
    let end = started + Duration::from_secs(seconds);
    let clients: Vec<_> = (0..n_clients)
        .map(|client| {
            let address = address.to_owned();
            thread::spawn(move || run_client(&address, client, end))
        })
        .collect();
    thread::sleep(Duration::from_secs(seconds / 2));
    let middle = resident_mib(process);
    let mut all = Report::default();
    for client in clients {
        let report = client.join().expect("clients do not panic");
        all.ttft_ms.extend(report.ttft_ms);
        all.n_tokens += report.n_tokens;
        all.n_sent_away += report.n_sent_away;
        all.errors.extend(report.errors);
    }
    let tokens_per_s = all.n_tokens as f64 / started.elapsed().as_secs_f64();
    all.ttft_ms.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let at = (q * all.ttft_ms.len() as f64) as usize;
        all.ttft_ms.get(at.min(all.ttft_ms.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    println!(
        "{n_clients} clients, {seconds} s: {} answers, {tokens_per_s:.1} tokens/s, first token after {:.0} ms \
         (median) and {:.0} ms (p99), {} sent away with 429, {} errors",
        all.ttft_ms.len(),
        quantile(0.5),
        quantile(0.99),
        all.n_sent_away,
        all.errors.len(),
    );
    if let (Some(before), Some(middle), Some(after)) = (before, middle, resident_mib(process)) {
        println!("  memory before, in the middle and after: {before:.0}, {middle:.0} and {after:.0} MiB");
    }
    for error in all.errors.iter().take(5) {
        println!("  {error}");
    }
    tokens_per_s
}

fn run_client(address: &str, client: u64, end: Instant) -> Report {
    let mut report = Report::default();
    for n in 0.. {
        if Instant::now() >= end {
            break;
        }
        match ask(address, &question(client, n)) {
            Ok(Fate::Answered { ttft_ms, n_tokens }) => {
                report.ttft_ms.push(ttft_ms);
                report.n_tokens += n_tokens;
            }
            Ok(Fate::SentAway { retry_after }) => {
                report.n_sent_away += 1;
                thread::sleep(retry_after.min(end.saturating_duration_since(Instant::now())));
            }
            Err(error) => report.errors.push(error),
        }
    }
    report
}

/// No two questions are alike, so nothing but their first words is known from before.
fn question(client: u64, n: u64) -> Value {
    let mut content =
        vec![json!({ "type": "text", "text": format!("Question {n} of client {client}: what is this?") })];
    if (client + n).is_multiple_of(8) {
        let url =
            format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(PICTURE));
        content.push(json!({ "type": "image_url", "image_url": { "url": url } }));
    }
    json!({
        "messages": [{ "role": "user", "content": content }], "max_tokens": ANSWER_LEN, "ignore_eos": true,
        "temperature": 1, "seed": n, "stream": true, "stream_options": { "include_usage": true },
    })
}

fn ask(address: &str, body: &Value) -> Result<Fate, String> {
    let started = Instant::now();
    let failed = |error: std::io::Error| format!("after {:?}: {error}", started.elapsed());
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .map_err(failed)?;
    let mut status = String::new();
    let mut retry_after = Duration::from_secs(1);
    let (mut ttft_ms, mut n_tokens, mut is_done) = (None, 0, false);
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(failed)?;
        if status.is_empty() {
            status = line.split(' ').nth(1).unwrap_or("nothing").to_owned();
        } else if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("retry-after")
        {
            retry_after = value.trim().parse().map_or(retry_after, Duration::from_secs);
        } else if let Some(data) = line.strip_prefix("data: ") {
            is_done |= data == "[DONE]";
            let event: Value = serde_json::from_str(data).unwrap_or_default();
            if let Some(message) = event["error"]["message"].as_str() {
                return Err(message.to_owned());
            }
            if event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) {
                ttft_ms.get_or_insert(started.elapsed().as_secs_f64() * 1000.0);
            }
            n_tokens = event["usage"]["completion_tokens"].as_u64().unwrap_or(n_tokens);
        }
    }
    match (status.as_str(), ttft_ms) {
        ("429", _) => Ok(Fate::SentAway { retry_after }),
        ("200", Some(ttft_ms)) if is_done => Ok(Fate::Answered { ttft_ms, n_tokens }),
        _ => Err(format!("the server answered with {status} and did not end it")),
    }
}

/// Memory of a process, where the system tells it.
fn resident_mib(process: u64) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
