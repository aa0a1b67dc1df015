//! Aligned columns for people: by the width on a terminal, not by characters or bytes.

use std::io::{self, IsTerminal};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: &str = "  ";
/// The width where standard output is no terminal: wide enough that what reads it (grep, a mail) sees whole messages.
const WIDTH_OF_A_FILE: usize = 500;
/// The last column keeps at least this much, however narrow the terminal.
const LEAST_LAST_COLUMN: usize = 20;

/// How wide a line may be.
pub(super) fn line_width() -> usize {
    if !io::stdout().is_terminal() {
        return WIDTH_OF_A_FILE;
    }
    terminal_size::terminal_size().map_or(WIDTH_OF_A_FILE, |(width, _)| usize::from(width.0))
}

/// Columns under a heading; the last one is cut so that lines fit `width`. Cells are made one line each.
pub(super) fn aligned(heading: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let cells: Vec<Vec<String>> = std::iter::once(heading.iter().map(ToString::to_string).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| flat(cell)).collect()))
        .collect();
    let last = heading.len().saturating_sub(1);
    let widths: Vec<usize> =
        (0..last).map(|column| cells.iter().map(|row| row[column].width()).max().unwrap_or_default()).collect();
    let before_last = widths.iter().sum::<usize>() + GAP.len() * last;
    let room = width.saturating_sub(before_last).max(LEAST_LAST_COLUMN);
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width - cell.width()));
            line.push_str(GAP);
        }
        line.push_str(&cut(&row[last], room));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values in two columns; further lines of a value are indented below it. Control characters, which a
/// terminal would obey, are replaced.
pub(super) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.width()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in pairs {
        for (number, line) in value.trim_end().split('\n').enumerate() {
            let name = if number == 0 { name } else { "" };
            let line = line.replace(|character: char| character.is_control() && character != '\t', "\u{fffd}");
            let line = format!("{name}{}{GAP}{line}", " ".repeat(width - name.width()));
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// `text` on one line.
fn flat(text: &str) -> String {
    text.split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// `text` in at most `width` columns, with a mark where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used >= width {
            break;
        }
        short.push(character);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::{aligned, cut, pairs};

    #[test]
    fn columns_align_by_width_and_the_last_one_fits() {
        let rows = [
            vec!["日本".to_owned(), "a message that\nis long".to_owned()],
            vec!["Zürich".to_owned(), "short".to_owned()],
        ];
        let text = aligned(&["name", "message"], &rows, 28);
        assert_eq!(text, "name    message\n日本    a message that is l…\nZürich  short\n");
    }

    #[test]
    fn wide_characters_are_not_halved() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
    }

    #[test]
    fn values_stand_in_one_column() {
        let text = pairs(&[("name", "Or\u{1b}[31mders".to_owned()), ("message", "one\ntwo\n".to_owned())]);
        assert_eq!(text, "name     Or\u{fffd}[31mders\nmessage  one\n         two\n");
    }
}
