//! How things look. Of colours, only cyan and yellow: people who see few tell these apart.

use ratatui::style::{Color, Modifier, Style};

/// The styles, with or without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::top) struct Palette {
    /// Whether colour is wanted.
    pub colored: bool,
}

impl Palette {
    /// The line above everything.
    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What stands over a list; that of the list that moves stands out.
    pub fn heading(self, has_focus: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::UNDERLINED);
        if has_focus { self.tint(style.add_modifier(Modifier::BOLD), Color::Cyan) } else { style }
    }

    /// The line that keys act on.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What the eye looks for.
    pub fn accent(self) -> Style {
        self.tint(Style::new(), Color::Cyan)
    }

    /// What should be looked at.
    pub fn warning(self) -> Style {
        self.tint(Style::new().add_modifier(Modifier::BOLD), Color::Yellow)
    }

    /// What matters least.
    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn tint(self, style: Style, color: Color) -> Style {
        if self.colored { style.fg(color) } else { style }
    }
}
