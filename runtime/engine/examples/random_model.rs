//! Writes a GGUF file with random weights in the shape of a published model, for measurements.
//!
//! `cargo run --release -p engine --example random_model -- vl-28b-a3b q4_0 OUT.gguf [SEED] [ZIPF]`
//!
//! With ZIPF, some experts are chosen more often than others: the one of rank r in proportion to r^-ZIPF.

#![expect(clippy::print_stderr, reason = "a command reports to its terminal")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use engine::quantize::Preset;
use engine::random_model::{RandomModel, Routing, SHAPES};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    let &[shape, preset, out, ref rest @ ..] = args else {
        let shapes: Vec<&str> = SHAPES.iter().map(|(name, _)| *name).collect();
        return Err(format!("usage: random_model {} TYPE OUT.gguf [SEED] [ZIPF]", shapes.join("|")).into());
    };
    let preset = Preset::named(preset).ok_or("there is no such type; see `ocelli quantize --help`")?;
    let seed = rest.first().map_or(Ok(1), |seed| seed.parse())?;
    let routing = match rest.get(1) {
        Some(exponent) => Routing::Zipf(exponent.parse()?),
        None => Routing::Even,
    };
    let random = RandomModel::new(shape, &preset, routing, seed)?;
    let mut file = BufWriter::new(File::create(out)?);
    let mut shown = 0;
    random.write(&mut file, &mut |written| {
        if written / 1_000_000_000 > shown {
            shown = written / 1_000_000_000;
            eprintln!("{shown} GB of {:.1}", random.file_len() as f64 / 1e9);
        }
    })?;
    file.flush()?;
    eprintln!("{out}: {} bytes", random.file_len());
    Ok(())
}
