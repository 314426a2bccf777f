//! Arithmetic: a text to a number.

/// Bytes of an expression.
const MAX_LEN: usize = 4096;
/// Nested brackets, signs and powers.
const MAX_DEPTH: usize = 64;

/// The value of an expression of numbers, `+ - * / % ^`, brackets, `pi`, `e` and functions.
///
/// # Errors
/// Says where it cannot be read, or that it has no finite value.
pub(super) fn evaluate(text: &str) -> Result<f64, String> {
    if text.len() > MAX_LEN {
        return Err(format!("the expression has {} bytes, the limit is {MAX_LEN}", text.len()));
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    let value = parser.sum()?;
    match parser.peek() {
        None if value.is_finite() => Ok(value),
        None => Err("the expression has no finite value".into()),
        Some(_) => Err(parser.wrong("an operator")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, wanted: &[char]) -> Option<char> {
        let found = self.peek().filter(|c| wanted.contains(c))?;
        self.at += found.len_utf8();
        Some(found)
    }

    fn wrong(&mut self, wanted: &str) -> String {
        match self.peek() {
            Some(found) => {
                format!("{wanted} is needed at character {}, but there is `{found}`", self.column())
            }
            None => format!("{wanted} is needed at the end"),
        }
    }

    fn column(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        while let Some(operator) = self.take(&['+', '-', '−']) {
            let other = self.product()?;
            value = if operator == '+' { value + other } else { value - other };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.signed()?;
        while let Some(operator) = self.take(&['*', '×', '/', '÷', '%']) {
            let other = self.signed()?;
            value = match operator {
                '*' | '×' => value * other,
                '%' => value % other,
                _ if other == 0.0 => return Err("division by zero".into()),
                _ => value / other,
            };
        }
        Ok(value)
    }

    /// A sign binds less than a power: `-2^2` is -4.
    fn signed(&mut self) -> Result<f64, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        let value = match self.take(&['+', '-', '−']) {
            Some('+') => self.signed()?,
            Some(_) => -self.signed()?,
            None => {
                let base = self.atom()?;
                match self.take(&['^']) {
                    Some(_) => base.powf(self.signed()?),
                    None => base,
                }
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn atom(&mut self) -> Result<f64, String> {
        match self.peek() {
            Some('(') => self.bracket(),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.named(),
            _ => Err(self.wrong("a number")),
        }
    }

    fn bracket(&mut self) -> Result<f64, String> {
        self.take(&['(']).ok_or_else(|| self.wrong("`(`"))?;
        let value = self.sum()?;
        self.take(&[')']).ok_or_else(|| self.wrong("`)`"))?;
        Ok(value)
    }

    fn number(&mut self) -> Result<f64, String> {
        let rest = &self.text[self.at..];
        let digits = |text: &str| {
            text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '_').len()
        };
        let mut len = digits(rest);
        // An exponent only where digits follow: `2e` is no number.
        if let Some(exponent) = rest[len..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let n = exponent[sign..].len()
                - exponent[sign..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
            len += if n > 0 { 1 + sign + n } else { 0 };
        }
        let text = rest[..len].replace('_', "");
        let value = text.parse().map_err(|_| format!("`{text}` is no number"))?;
        self.at += len;
        Ok(value)
    }

    fn named(&mut self) -> Result<f64, String> {
        let rest = &self.text[self.at..];
        let len = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).len();
        let name = &rest[..len];
        let function: fn(f64) -> f64 = match name {
            "pi" | "e" => {
                self.at += len;
                return Ok(if name == "pi" { std::f64::consts::PI } else { std::f64::consts::E });
            }
            "sqrt" => f64::sqrt,
            "abs" => f64::abs,
            "round" => f64::round,
            "floor" => f64::floor,
            "ceil" => f64::ceil,
            "exp" => f64::exp,
            "ln" => f64::ln,
            "log10" => f64::log10,
            "log2" => f64::log2,
            "sin" => f64::sin,
            "cos" => f64::cos,
            "tan" => f64::tan,
            _ => {
                return Err(format!(
                    "`{name}` is not known; functions are sqrt, abs, round, floor, ceil, exp, ln, log10, log2, sin, cos, tan"
                ));
            }
        };
        self.at += len;
        Ok(function(self.bracket()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn precedence_is_that_of_school() {
        for (text, expected) in [
            ("1 + 2 * 3", 7.0),
            ("(1+2)*3", 9.0),
            ("-2^2", -4.0),
            ("2^3^2", 512.0),
            ("2^-1", 0.5),
            ("10 / 4 / 5", 0.5),
            ("7 % 4 - 1", 2.0),
            ("1_000 × 1.5e3", 1.5e6),
            ("sqrt(16) + abs(-3) + round(2.5)", 10.0),
            ("2 * pi - 2*pi", 0.0),
            ("3 − 5", -2.0),
        ] {
            assert_eq!(evaluate(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("1 +", "a number is needed at the end"),
            ("1 2", "an operator is needed at character 3, but there is `2`"),
            ("(1", "`)` is needed at the end"),
            ("1/0", "division by zero"),
            ("ln(0)", "no finite value"),
            ("open('x')", "`open` is not known"),
            ("1.2.3", "`1.2.3` is no number"),
            ("2e", "an operator is needed"),
            ("", "a number is needed"),
        ] {
            let error = evaluate(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(evaluate(&"(".repeat(4000)).unwrap_err().contains("nested"));
        assert!(evaluate(&"1".repeat(5000)).unwrap_err().contains("limit"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+*/%^()0-9.e_ a-z×é]{0,40}") {
            let _ = evaluate(&text);
        }

        #[test]
        fn sums_of_whole_numbers_are_exact(a in -9999_i32..9999, b in -9999_i32..9999) {
            prop_assert_eq!(evaluate(&format!("{a} - ({b}) * 3")), Ok(f64::from(a) - f64::from(b) * 3.0));
        }
    }
}
