//! Tables for a terminal, with everything that a peer chose made harmless.

use std::borrow::Cow;

/// `text` with control characters written as escapes: what came from peers and guests must not steer a terminal.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    let hidden = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(hidden) {
        Cow::Owned(
            text.chars()
                .flat_map(|character| {
                    if hidden(character) { character.escape_default().collect::<Vec<_>>() } else { vec![character] }
                })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// Columns aligned by spaces, one line a row, the head first.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| harmless(cell).into_owned()).collect()))
        .collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row: &Vec<String>| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', (width + 2).saturating_sub(cell.chars().count())));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// So many of something: `1 message`, `2 messages`.
#[must_use]
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(harmless("a\x1b[2Jb\r\n\u{202e}c"), "a\\u{1b}[2Jb\\r\\n\\u{202e}c");
        assert!(matches!(harmless("naïve 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn one_of_something_is_no_plural() {
        assert_eq!(
            [counted(0u32, "byte"), counted(1usize, "byte"), counted(2u64, "byte")],
            ["0 bytes", "1 byte", "2 bytes"]
        );
    }

    #[test]
    fn columns_line_up() {
        let rows =
            vec![vec!["1".to_owned(), "sip:bob@example.org".to_owned()], vec!["12345".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["id", "from"], &rows), "id     from\n1      sip:bob@example.org\n12345  x\n");
    }
}
