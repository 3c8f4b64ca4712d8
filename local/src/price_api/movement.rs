//! How prices move: a function of a seed, a coin's code and a tick, and of nothing else.
//!
//! The same seed gives the same history on every machine. A price wanders around the recorded one and never
//! drifts away from it, however long the stack runs.

/// Ticks from one turning point of a price's slow wave to the next.
const WAVE: u64 = 12;

/// Moves `rate` to where it is at `tick`. `amplitude` is the largest move as a fraction of the rate (0.02: 2 %).
pub(super) fn moved(rate: f64, amplitude: f64, seed: u64, code: &str, tick: u64) -> f64 {
    let coin = code.bytes().fold(seed, |state, byte| mix(state ^ u64::from(byte)));
    #[expect(clippy::cast_precision_loss, reason = "a remainder below 12 is exact in an f64")]
    let along = (tick % WAVE) as f64 / WAVE as f64;
    let (from, to) = (noise(coin, tick / WAVE), noise(coin, tick / WAVE + 1));
    let slow = from + (to - from) * along;
    let fast = noise(!coin, tick);
    rate * (1.0 + amplitude * (0.9 * slow + 0.1 * fast))
}

/// Prints a number as JavaScript does, because the API is written in it: the shortest digits that read back as
/// the same number, in exponent form below 1e-6 and from 1e21.
///
/// Source: ECMAScript, `Number::toString`.
pub(super) fn javascript(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && size < 1e-6 {
        format!("{number:e}")
    } else if size >= 1e21 {
        format!("{number:e}").replace('e', "e+")
    } else {
        format!("{number}")
    }
}

/// A number in [-1, 1) that only `coin` and `step` decide.
fn noise(coin: u64, step: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in an f64")]
    let unit = (mix(coin ^ mix(step)) >> 11) as f64 / (1_u64 << 53) as f64;
    2.0 * unit - 1.0
}

/// SplitMix64's step: every bit of the input changes half of the output's.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_printed_as_javascript_prints_them() {
        // What `String(x)` answers in JavaScript.
        for (number, text) in [
            (2.4980008270697834e-9, "2.4980008270697834e-9"),
            (9.1e-7, "9.1e-7"),
            (1e-6, "0.000001"),
            (1.0, "1"),
            (30328.19874964158, "30328.19874964158"),
            (1e20, "100000000000000000000"),
            (1.5e21, "1.5e+21"),
            (0.0, "0"),
            (-5e-7, "-5e-7"),
        ] {
            assert_eq!(javascript(number), text);
        }
    }

    proptest! {
        #[test]
        fn printed_numbers_read_back_as_themselves(number in proptest::num::f64::NORMAL) {
            prop_assert_eq!(javascript(number).parse::<f64>().unwrap(), number);
        }

        #[test]
        fn prices_stay_within_their_amplitude(seed: u64, code in "[A-Z_]{1,8}", tick in 0..u64::MAX - WAVE) {
            let rate = moved(100.0, 0.02, seed, &code, tick);
            prop_assert!((98.0..=102.0).contains(&rate), "{}", rate);
        }
    }

    #[test]
    fn one_seed_gives_one_history_and_neighbouring_ticks_differ() {
        let history = |seed| (0..100).map(|tick| moved(100.0, 0.02, seed, "BTC", tick)).collect::<Vec<_>>();
        assert_eq!(history(7), history(7));
        assert_ne!(history(7), history(8));
        assert!(history(7).windows(2).all(|pair| pair[0] != pair[1]));
    }
}
