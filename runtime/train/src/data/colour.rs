//! The colour words: how each is painted, and which word a painted colour gets.

use Colour::{Black, Blue, Brown, Green, Grey, Orange, Pink, Purple, Red, White, Yellow};

/// A colour the grammar has a word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Black,
    White,
    Brown,
    Grey,
}

/// Linear mixing is not needed here: these are display values in 0–1.
pub(crate) type Rgb = [f32; 3];

impl Colour {
    /// Colours given to things and shapes.
    pub(crate) const PAINTS: [Colour; 9] = [Red, Orange, Yellow, Green, Blue, Purple, Pink, Black, White];
    /// Colours of plain backgrounds.
    pub(crate) const GROUNDS: [Colour; 11] =
        [Red, Orange, Yellow, Green, Blue, Purple, Pink, Black, White, Brown, Grey];

    /// The English word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Red => "red",
            Orange => "orange",
            Yellow => "yellow",
            Green => "green",
            Blue => "blue",
            Purple => "purple",
            Pink => "pink",
            Black => "black",
            White => "white",
            Brown => "brown",
            Grey => "grey",
        }
    }

    /// The typical display value.
    pub(crate) fn rgb(self) -> Rgb {
        let [r, g, b] = match self {
            Red => [222, 38, 38],
            Orange => [247, 138, 24],
            Yellow => [250, 217, 40],
            Green => [52, 168, 60],
            Blue => [38, 98, 222],
            Purple => [130, 50, 180],
            Pink => [250, 140, 190],
            Black => [26, 26, 28],
            White => [246, 246, 246],
            Brown => [124, 78, 42],
            Grey => [140, 140, 142],
        };
        [r as f32 / 255.0, g as f32 / 255.0, b as f32 / 255.0]
    }

    /// This colour at `tone` 0 (deep shade) to 1 (highlight); 0.5 is the typical value.
    pub(crate) fn shade(self, tone: f32) -> Rgb {
        let base = self.rgb();
        match self {
            Black => [0.01 + 0.30 * tone; 3],
            White => [0.62 + 0.38 * (tone * 1.5).min(1.0); 3],
            _ if tone < 0.5 => base.map(|c| c * (0.45 + 1.1 * tone)),
            _ => base.map(|c| c + (1.0 - c) * (tone - 0.5) * 1.1),
        }
    }

    /// The word for a display value, if people would agree on it.
    pub(crate) fn of(rgb: Rgb) -> Option<Colour> {
        let value = rgb[0].max(rgb[1]).max(rgb[2]);
        let saturation = 1.0 - rgb[0].min(rgb[1]).min(rgb[2]) / value.max(f32::EPSILON);
        if value < 0.2 {
            return Some(Black);
        }
        if saturation < 0.12 {
            return match value {
                v if v > 0.88 => Some(White),
                v if v < 0.26 => Some(Black),
                v if (0.32..0.8).contains(&v) => Some(Grey),
                _ => None,
            };
        }
        // The gaps between these bands are where people disagree.
        match hue(rgb) {
            h if !(14.0..342.0).contains(&h) => match saturation > 0.58 {
                true if value > 0.55 => Some(Red),
                true => Some(Brown).filter(|_| value < 0.42),
                false => Some(Pink).filter(|_| value > 0.85 && saturation > 0.2),
            },
            h if (14.0..40.0).contains(&h) && value < 0.62 => Some(Brown),
            h if (20.0..38.0).contains(&h) => Some(Orange).filter(|_| value > 0.8 && saturation > 0.6),
            h if (44.0..64.0).contains(&h) => Some(Yellow).filter(|_| value > 0.75 && saturation > 0.45),
            h if (85.0..165.0).contains(&h) => Some(Green),
            h if (196.0..245.0).contains(&h) => Some(Blue).filter(|_| saturation > 0.3),
            h if (260.0..310.0).contains(&h) => Some(Purple).filter(|_| saturation > 0.25),
            h if (310.0..342.0).contains(&h) => Some(Pink).filter(|_| value > 0.75),
            _ => None,
        }
    }
}

/// Degrees on the colour circle; 0 for greys.
pub(crate) fn hue(rgb: Rgb) -> f32 {
    let [r, g, b] = rgb;
    let max = r.max(g).max(b);
    let range = max - r.min(g).min(b);
    if range <= 0.0 {
        return 0.0;
    }
    let sextant = if max == r {
        ((g - b) / range).rem_euclid(6.0)
    } else if max == g {
        (b - r) / range + 2.0
    } else {
        (r - g) / range + 4.0
    };
    sextant * 60.0
}

/// How bright a display value looks, 0–1 (Rec. 601 weights).
pub(crate) fn luma(rgb: Rgb) -> f32 {
    0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
}

/// How far apart two display values are, 0 to about 1.7.
pub(crate) fn distance(a: Rgb, b: Rgb) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_called_by_its_own_name() {
        for colour in Colour::GROUNDS {
            assert_eq!(Colour::of(colour.rgb()), Some(colour));
        }
    }
}
