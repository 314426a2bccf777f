//! `cargo bench -p vision`: the steps from a photo's bytes to its patches.

use divan::Bencher;
use vision::{Picture, Preprocessor, resize_bicubic};

fn main() {
    divan::main();
}

/// A photo-like gradient with texture, so that nothing is constant.
fn photo(width: u32, height: u32) -> Picture {
    let sample = |i: u32| (i.wrapping_mul(2_654_435_761) >> 27) as u8 + (i / (width * 12)) as u8 % 200;
    Picture::new(width, height, (0..width * height * 3).map(sample).collect()).expect("sizes agree")
}

/// A 12-megapixel photo to the largest size the model takes.
#[divan::bench(sample_count = 10, args = [(4032, 3024), (6000, 4000), (1920, 1080), (640, 480)])]
fn resize(bencher: Bencher, (width, height): (u32, u32)) {
    let picture = photo(width, height);
    let (new_h, new_w) = Preprocessor::default().smart_resize(height, width).expect("not thin");
    bencher.bench_local(|| resize_bicubic(&picture.rgb, width, height, new_w, new_h));
}

/// Normalising and cutting a picture that needs no resize.
#[divan::bench(sample_count = 10)]
fn patchify(bencher: Bencher) {
    let picture = photo(2688, 1792);
    let pre = Preprocessor::default();
    bencher.bench_local(|| pre.image(&picture));
}

/// All of it, from pixels to patches.
#[divan::bench(sample_count = 10, args = [(4032, 3024), (640, 480)])]
fn image(bencher: Bencher, (width, height): (u32, u32)) {
    let picture = photo(width, height);
    let pre = Preprocessor::default();
    bencher.bench_local(|| pre.image(&picture));
}
