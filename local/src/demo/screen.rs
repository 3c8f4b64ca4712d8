//! What people see: lines that stay, and on a terminal one more that shows what is going on.

use std::io::{IsTerminal, Stdout, Write};
use std::time::Duration;

use tokio::time::Instant;

/// How often the live line becomes a line of its own where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Back to the line's beginning, which is emptied, and no wrapping: a line that is too long for the window is cut.
const LIVE_LINE: &str = "\r\x1b[2K\x1b[?7l";
/// Empties the line and wraps again.
const NO_LIVE_LINE: &str = "\r\x1b[2K\x1b[?7h";

/// Which colours there are. Without a terminal, or with `NO_COLOR`, there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colours(bool);

impl Colours {
    /// None.
    pub const NONE: Self = Self(false);
    /// All.
    pub const ALL: Self = Self(true);

    /// For what is good.
    #[must_use]
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what is not.
    #[must_use]
    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// For headings.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what matters less.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The screen. That nobody looks any more (a closed pipe) is no failure: the demo goes on and says how it went by
/// its exit code.
#[derive(Debug)]
pub struct Screen<W: Write = Stdout> {
    out: W,
    terminal: bool,
    colours: Colours,
    live: bool,
    last_plain: Instant,
}

impl Screen {
    /// Standard output, with the environment's word on colours.
    ///
    /// Source: no-color.org.
    #[must_use]
    pub fn stdout() -> Self {
        let out = std::io::stdout();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = out.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colours = if terminal && !set("NO_COLOR") { Colours::ALL } else { Colours::NONE };
        Self::new(out, terminal, colours)
    }
}

impl<W: Write> Screen<W> {
    fn new(out: W, terminal: bool, colours: Colours) -> Self {
        Self { out, terminal, colours, live: false, last_plain: Instant::now() }
    }

    /// The colours that may be used.
    pub const fn colours(&self) -> Colours {
        self.colours
    }

    /// Prints a line that stays.
    pub fn line(&mut self, text: &str) {
        self.clear();
        self.last_plain = Instant::now();
        self.write(&format!("{text}\n"));
    }

    /// Shows what is going on, instead of what was shown before; without a terminal, a line now and then.
    pub fn live(&mut self, text: &str) {
        self.hint(text);
        if !self.terminal && self.last_plain.elapsed() >= PLAIN_EVERY {
            self.line(text);
        }
    }

    /// The same for what nobody misses: without a terminal, nothing.
    pub fn hint(&mut self, text: &str) {
        if self.terminal {
            self.live = true;
            self.write(&format!("{LIVE_LINE}{text}"));
        }
    }

    /// Takes the live line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.live) {
            self.write(NO_LIVE_LINE);
        }
    }

    fn write(&mut self, text: &str) {
        drop(self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()));
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: bool, show: impl FnOnce(&mut Screen<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        show(&mut Screen::new(&mut out, terminal, Colours::NONE));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_takes_the_place_of_the_live_one() {
        let shown = shown(true, |screen| {
            screen.live("working");
            screen.line("done");
            screen.line("more");
        });
        assert_eq!(shown, format!("{LIVE_LINE}working{NO_LIVE_LINE}done\nmore\n"));
    }

    #[test]
    fn the_live_line_does_not_outlive_the_screen() {
        assert_eq!(shown(true, |screen| screen.live("working")), format!("{LIVE_LINE}working{NO_LIVE_LINE}"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_terminal_progress_is_a_line_now_and_then() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, false, Colours::NONE);
        screen.live("1");
        tokio::time::advance(PLAIN_EVERY).await;
        screen.live("2");
        screen.live("3");
        drop(screen);
        assert_eq!(out, b"2\n");
    }

    #[test]
    fn colours_are_on_or_off() {
        assert_eq!(
            (Colours::ALL.red("x").as_str(), Colours::NONE.red("x").as_str()),
            ("\x1b[31mx\x1b[0m", "x")
        );
    }
}
