//! Video files, through `ffprobe` and `ffmpeg` as child processes when they are installed.
//!
//! They are never linked, and never see a shell. The path is given to them as `file:…` with all
//! other protocols switched off, so neither a name such as `http://…` nor a playlist inside the
//! file makes them open anything else. Both are stopped when their time is over.

use std::fmt::Write;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{FrameSource, Frames, Timeline, VideoOptions};
use crate::{Error, Limits, Picture, Result};

/// `ffprobe` answers in a few hundred bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// How much of a child's complaints is kept for our error message.
const MAX_COMPLAINT: usize = 2000;

/// Asks `ffprobe` about the first video stream of a file.
pub(super) fn open(path: &Path, options: &VideoOptions) -> Result<Frames> {
    let video = VideoFile {
        path: path.to_path_buf(),
        limits: options.decode.limits.clone(),
        timeout: options.timeout,
    };
    let mut answer = video.probe(&[])?;
    if answer.n_frames.is_none() {
        // Some containers do not store the number of frames; counting packets reads the whole file.
        answer.n_frames = video.probe(&["-count_packets"])?.n_packets;
    }
    video.limits.check(answer.width, answer.height)?;
    let unclear = |what: &str| video.failed("ffprobe", format!("the file does not say {what}"));
    let n_frames = answer.n_frames.ok_or_else(|| unclear("how many frames it has"))?;
    let fps = answer.fps.ok_or_else(|| unclear("its frame rate"))?;
    Frames::new(format!("{}", path.display()), Timeline::constant(n_frames, fps)?, Box::new(video))
}

struct VideoFile {
    path: PathBuf,
    limits: Limits,
    timeout: Duration,
}

impl FrameSource for VideoFile {
    fn read(&self, indices: &[usize], each: &mut dyn FnMut(Picture) -> Result<()>) -> Result<()> {
        let mut select = String::new();
        for (i, index) in indices.iter().enumerate() {
            write!(select, "{}eq(n,{index})", if i == 0 { "" } else { "+" }).expect("strings grow");
        }
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-protocol_whitelist", "file", "-i"]).arg(self.url());
        // Selected frames get new times at a constant rate, so that none is dropped or doubled
        // whatever the version of ffmpeg does with gaps.
        command.args(["-map", "0:v:0", "-vf", &format!("select='{select}',setpts=N/25/TB"), "-r", "25"]);
        command.args(["-frames:v", &indices.len().to_string()]);
        // PPM carries each frame's size, which rotation may have changed.
        command.args(["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"]);

        let limits = self.limits.clone();
        let mut running = Running::start(self, "ffmpeg", command, move |stdout, send| {
            let mut stdout = BufReader::new(stdout);
            while let Some(frame) = read_ppm(&mut stdout, &limits)? {
                if !send(frame) {
                    break;
                }
            }
            Ok(())
        })?;
        while let Some(frame) = running.next()? {
            each(frame)?;
        }
        running.finish()
    }
}

/// What `ffprobe` says about a video stream.
struct Answer {
    width: u32,
    height: u32,
    fps: Option<f64>,
    n_frames: Option<usize>,
    n_packets: Option<usize>,
}

impl VideoFile {
    fn probe(&self, extra: &[&str]) -> Result<Answer> {
        let mut command = Command::new("ffprobe");
        command.args(["-v", "error", "-protocol_whitelist", "file", "-select_streams", "v:0"]).args(extra);
        command.args(["-show_entries", "stream=width,height,avg_frame_rate,nb_frames,nb_read_packets"]);
        command.args(["-of", "json", "-i"]).arg(self.url());

        let mut running = Running::start(self, "ffprobe", command, |stdout, send| {
            let mut json = Vec::new();
            stdout.take(MAX_ANSWER).read_to_end(&mut json)?;
            send(json);
            Ok(())
        })?;
        let json = running.next()?.unwrap_or_default();
        running.finish()?;

        let json: Value = serde_json::from_slice(&json)
            .map_err(|error| self.failed("ffprobe", format!("its answer is not JSON: {error}")))?;
        let stream = &json["streams"][0];
        let side = |key: &str| stream[key].as_u64().and_then(|n| u32::try_from(n).ok());
        let (Some(width), Some(height)) = (side("width"), side("height")) else {
            return Err(self.failed("ffprobe", "the file holds no video".to_string()));
        };
        // Counts are written as strings, and as "N/A" when unknown.
        let count = |key: &str| stream[key].as_str().and_then(|n| n.parse().ok()).filter(|&n: &usize| n > 0);
        Ok(Answer {
            width,
            height,
            fps: stream["avg_frame_rate"].as_str().and_then(parse_rate),
            n_frames: count("nb_frames"),
            n_packets: count("nb_read_packets"),
        })
    }

    fn url(&self) -> std::ffi::OsString {
        let mut url = std::ffi::OsString::from("file:");
        url.push(&self.path);
        url
    }

    fn failed(&self, program: &'static str, reason: String) -> Error {
        Error::ProgramFailed { program, path: self.path.clone(), reason }
    }
}

/// `30000/1001` as a number, unless it is `0/0`.
fn parse_rate(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once('/')?;
    let rate = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// The next picture of a stream of PPM files, as `ffmpeg` writes them. `None` at its end.
fn read_ppm(stdout: &mut impl BufRead, limits: &Limits) -> Result<Option<Picture>, io::Error> {
    if stdout.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    // Three lines: `P6`, `width height`, `255`.
    let mut header = Vec::new();
    for _ in 0..3 {
        stdout.by_ref().take(32).read_until(b'\n', &mut header)?;
    }
    let header = String::from_utf8_lossy(&header);
    let fields: Vec<&str> = header.split_ascii_whitespace().collect();
    let &["P6", width, height, "255"] = fields.as_slice() else {
        return Err(invalid(format!("unexpected frame header {header:?}")));
    };
    let side = |text: &str| text.parse::<u32>().map_err(|_| invalid(format!("frame side {text}")));
    let (width, height) = (side(width)?, side(height)?);
    limits.check(width, height).map_err(|error| invalid(error.to_string()))?;
    let mut rgb = vec![0; width as usize * height as usize * 3];
    stdout.read_exact(&mut rgb)?;
    Ok(Some(Picture { width, height, rgb, notes: Vec::new() }))
}

/// A child process whose output arrives as a few large items. Dropping it kills the child.
struct Running<'a, T> {
    file: &'a VideoFile,
    program: &'static str,
    child: Child,
    deadline: Instant,
    items: Receiver<io::Result<T>>,
    complaint: Option<thread::JoinHandle<Vec<u8>>>,
}

impl<'a, T: Send + 'static> Running<'a, T> {
    /// Starts the program. `parse` runs on its own thread, turns standard output into items and
    /// passes them to the given function, which returns false when nobody wants more.
    fn start(
        file: &'a VideoFile,
        program: &'static str,
        mut command: Command,
        parse: impl FnOnce(ChildStdout, &mut dyn FnMut(T) -> bool) -> io::Result<()> + Send + 'static,
    ) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::ProgramMissing { program, path: file.path.clone() },
            _ => file.failed(program, error.to_string()),
        })?;
        let stdout = child.stdout.take().expect("it was piped");
        let mut stderr = child.stderr.take().expect("it was piped");

        // One item in the channel, one in each hand: the child waits when we are slow.
        let (sender, items) = sync_channel(1);
        thread::spawn(move || {
            let result = parse(stdout, &mut |item| sender.send(Ok(item)).is_ok());
            if let Err(error) = result {
                // Nobody listening means that the reader gave up first.
                let _ = sender.send(Err(error));
            }
        });
        let complaint = thread::spawn(move || {
            let mut text = Vec::new();
            let mut chunk = [0; 1024];
            while let Ok(n @ 1..) = stderr.read(&mut chunk) {
                text.extend_from_slice(&chunk[..n.min(MAX_COMPLAINT - text.len())]);
            }
            text
        });
        let deadline = Instant::now() + file.timeout;
        Ok(Running { file, program, child, deadline, items, complaint: Some(complaint) })
    }

    /// The next item, or `None` when output has ended.
    fn next(&mut self) -> Result<Option<T>> {
        match self.items.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(item)) => Ok(Some(item)),
            Ok(Err(error)) => match self.finish() {
                Ok(()) => Err(self.file.failed(self.program, error.to_string())),
                Err(reported) => Err(reported),
            },
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(self.timed_out()),
        }
    }

    /// Waits for the child and turns a bad exit into its own words.
    fn finish(&mut self) -> Result<()> {
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() >= self.deadline => return Err(self.timed_out()),
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(self.file.failed(self.program, error.to_string())),
            }
        };
        if status.success() {
            return Ok(());
        }
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let complaint = String::from_utf8_lossy(&complaint).trim().replace('\n', "; ");
        let reason = if complaint.is_empty() { status.to_string() } else { complaint };
        Err(self.file.failed(self.program, reason))
    }

    fn timed_out(&self) -> Error {
        Error::ProgramTimeout {
            program: self.program,
            path: self.file.path.clone(),
            seconds: self.file.timeout.as_secs(),
        }
    }
}

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        // Both fail when the child has ended by itself, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_fractions() {
        assert_eq!(parse_rate("25/1"), Some(25.0));
        assert_eq!(parse_rate("30000/1001"), Some(30000.0 / 1001.0));
        for bad in ["0/0", "1/0", "-1/1", "x/1", "25", ""] {
            assert_eq!(parse_rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn frames_are_read_one_after_the_other() {
        let stream = b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06P6\n1 1\n255\n\x07\x08\x09";
        let mut stream = &stream[..];
        let limits = Limits::default();
        let first = read_ppm(&mut stream, &limits).unwrap().unwrap();
        assert_eq!((first.width, first.height, first.rgb), (2, 1, vec![1, 2, 3, 4, 5, 6]));
        let second = read_ppm(&mut stream, &limits).unwrap().unwrap();
        assert_eq!((second.width, second.rgb), (1, vec![7, 8, 9]));
        assert!(read_ppm(&mut stream, &limits).unwrap().is_none());
    }

    #[test]
    fn odd_output_is_an_error() {
        let limits = Limits { max_side: 100, ..Limits::default() };
        for stream in ["P5\n1 1\n255\nx", "P6\n0 1\n255\n", "P6\n101 1\n255\n", "P6\n2 2\n255\nxx", "hello"] {
            assert!(read_ppm(&mut stream.as_bytes(), &limits).is_err(), "{stream}");
        }
    }
}
