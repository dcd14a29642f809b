//! How states look: a word always, a colour where there may be one.

use std::env;

use ratatui::style::{Color, Modifier, Style};

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    colours: bool,
}

impl Theme {
    /// As people ask for it: <https://no-color.org>.
    pub(super) fn of_environment() -> Self {
        Self::new(env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    pub(super) fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// Of a stream's state.
    pub(super) fn state(self, state: &str) -> Style {
        match state {
            "active" => self.colour(Color::Green),
            "warning" => self.colour(Color::Yellow).add_modifier(Modifier::BOLD),
            "stalled" => self.colour(Color::Red).add_modifier(Modifier::BOLD),
            "draining" => self.colour(Color::Cyan),
            _ => self.faint(),
        }
    }

    /// Of charts.
    pub(super) fn chart(self) -> Style {
        self.colour(Color::Blue)
    }

    /// Of what is amiss.
    pub(super) fn amiss(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Of titles.
    #[expect(clippy::unused_self, reason = "a style like the others")]
    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of what matters less.
    #[expect(clippy::unused_self, reason = "a style like the others")]
    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Of the row that is chosen.
    #[expect(clippy::unused_self, reason = "a style like the others")]
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
