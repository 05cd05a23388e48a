//! Sequence diagrams in plain characters: a column for everybody, an arrow for every message, the time at the left.

use std::time::Duration;

/// Room for the time at the left.
const TIME_WIDTH: usize = 12;
/// Least room between two columns.
const MIN_GAP: usize = 18;
/// Most room between two columns; longer labels are cut.
const MAX_GAP: usize = 48;
/// What an arrow is besides its label: a shaft on either side, blanks, and its head.
const SHAFT: usize = 6;

/// Something in a diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A message, or many of one kind.
    Arrow(Arrow),
    /// Something that happened without a message.
    Note {
        /// Since the beginning.
        at: Duration,
        /// What.
        text: String,
    },
}

/// A message from one column to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    /// Since the beginning.
    pub at: Duration,
    /// Column that it leaves.
    pub from: usize,
    /// Column that it reaches.
    pub to: usize,
    /// What it is.
    pub label: String,
    /// Its size in bytes; of an MSRP SEND the size of its content.
    pub bytes: u64,
    /// Messages that it stands for.
    pub messages: usize,
}

impl Step {
    /// When it happened.
    #[must_use]
    pub fn at(&self) -> Duration {
        match self {
            Step::Arrow(Arrow { at, .. }) | Step::Note { at, .. } => *at,
        }
    }
}

/// The lines of a diagram. Arrows are numbered, as the steps of a flow are in a specification.
#[must_use]
pub fn draw(columns: &[String], steps: &[Step]) -> Vec<String> {
    let arrows = labelled(steps);
    let places = places(columns, &arrows);
    let mut lines = vec![head(columns, &places), lifelines(&places)];
    let mut arrows = arrows.into_iter();
    for step in steps {
        let body = match step {
            Step::Note { text, .. } => note(&places, text),
            Step::Arrow(arrow) => {
                let Some(label) = arrows.next().map(|(_, label)| label) else { continue };
                drawn(&places, arrow, &label)
            }
        };
        let time = format!("{:>8.3} s", step.at().as_secs_f64());
        lines.push(format!("{time:<TIME_WIDTH$}{body}").trim_end().to_owned());
    }
    lines.push(lifelines(&places));
    lines
}

/// Every arrow with its label, numbered unless it stands for many.
fn labelled(steps: &[Step]) -> Vec<(&Arrow, String)> {
    let mut number = 0usize;
    let mut label = |arrow: &Arrow| {
        if arrow.messages > 1 {
            return arrow.label.clone();
        }
        number = number.saturating_add(1);
        format!("{number}. {}", arrow.label)
    };
    steps
        .iter()
        .filter_map(|step| match step {
            Step::Arrow(arrow) => Some((arrow, label(arrow))),
            Step::Note { .. } => None,
        })
        .collect()
}

/// Where the columns' lifelines are, wide enough apart for names and labels.
fn places(columns: &[String], arrows: &[(&Arrow, String)]) -> Vec<usize> {
    let by_labels = arrows.iter().map(|(arrow, label)| {
        let spans = arrow.from.abs_diff(arrow.to).max(1);
        length(label).saturating_add(SHAFT).div_ceil(spans)
    });
    let by_names = columns.iter().map(|name| length(name).saturating_add(2));
    let gap = by_labels.chain(by_names).max().unwrap_or(0).clamp(MIN_GAP, MAX_GAP);
    let first = columns.first().map_or(0, |name| length(name) / 2);
    (0..columns.len()).map(|column| first.saturating_add(column.saturating_mul(gap.saturating_add(1)))).collect()
}

fn head(columns: &[String], places: &[usize]) -> String {
    let mut line = " ".repeat(TIME_WIDTH);
    for (name, place) in columns.iter().zip(places) {
        let start = TIME_WIDTH.saturating_add(*place).saturating_sub(length(name) / 2);
        line.extend(std::iter::repeat_n(' ', start.saturating_sub(length(&line))));
        line.push_str(name);
    }
    line
}

fn lifelines(places: &[usize]) -> String {
    let body: String = empty(places).into_iter().collect();
    format!("{}{body}", " ".repeat(TIME_WIDTH))
}

fn empty(places: &[usize]) -> Vec<char> {
    let width = places.last().map_or(0, |last| last.saturating_add(1));
    (0..width).map(|at| if places.contains(&at) { '|' } else { ' ' }).collect()
}

fn drawn(places: &[usize], arrow: &Arrow, label: &str) -> String {
    let mut row = empty(places);
    let (Some(from), Some(to)) = (places.get(arrow.from), places.get(arrow.to)) else {
        return label.to_owned();
    };
    let (left, right) = (from.min(to).saturating_add(1), *from.max(to));
    let shaft = if arrow.messages > 1 { '.' } else { '-' };
    let text = format!(" {} ", cut(label, right.saturating_sub(left).saturating_sub(SHAFT)));
    let text_at =
        if from < to { left.saturating_add(2) } else { right.saturating_sub(2).saturating_sub(length(&text)) };
    let head_at = if from < to { right.saturating_sub(1) } else { left };
    let head = if from < to { '>' } else { '<' };
    for (at, place) in row.iter_mut().enumerate().filter(|(at, _)| (left..right).contains(at)) {
        let of_text = at.checked_sub(text_at).and_then(|offset| text.chars().nth(offset));
        *place = if at == head_at { head } else { of_text.unwrap_or(shaft) };
    }
    row.into_iter().collect()
}

/// A note goes through all lifelines.
fn note(places: &[usize], text: &str) -> String {
    let width = places.last().map_or(0, |last| last.saturating_add(1));
    format!("{:=<width$}", format!("== {text} "))
}

fn cut(text: &str, most: usize) -> String {
    if length(text) <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn arrow(at: u64, from: usize, to: usize, label: &str) -> Step {
        let at = Duration::from_millis(at);
        Step::Arrow(Arrow { at, from, to, label: label.to_owned(), bytes: 0, messages: 1 })
    }

    #[test]
    fn arrows_run_between_columns_and_are_numbered() {
        let many = Arrow {
            at: Duration::from_millis(1_500),
            from: 1,
            to: 2,
            label: "... 3 more SENDs ...".to_owned(),
            bytes: 3,
            messages: 3,
        };
        let steps = [
            arrow(0, 0, 1, "MESSAGE"),
            arrow(12, 1, 0, "202 Accepted"),
            Step::Note { at: Duration::from_millis(700), text: "killed".to_owned() },
            Step::Arrow(many),
            arrow(1_600, 0, 2, "straight through"),
        ];
        let expected = [
            "            Alice                    Restante                      Bob",
            "              |                          |                          |",
            "   0.000 s    |-- 1. MESSAGE ----------->|                          |",
            "   0.012 s    |<------ 2. 202 Accepted --|                          |",
            "   0.700 s  == killed ===============================================",
            "   1.500 s    |                          |.. ... 3 more SENDs ... .>|",
            "   1.600 s    |-- 3. straight through ----------------------------->|",
            "              |                          |                          |",
        ];
        let drawn = draw(&columns(&["Alice", "Restante", "Bob"]), &steps);
        assert_eq!(drawn, expected, "\n{}", drawn.join("\n"));
    }

    #[test]
    fn a_long_label_is_cut_and_a_column_that_is_not_there_breaks_nothing() {
        let lines = draw(&columns(&["A", "B"]), &[arrow(0, 0, 1, &"x".repeat(100)), arrow(1, 0, 7, "lost")]);
        assert!(lines.iter().all(|line| length(line) <= TIME_WIDTH + MAX_GAP + 2), "{lines:?}");
        assert!(lines[2].contains("x…"), "{lines:?}");
        assert!(lines[3].ends_with("2. lost"));
        assert_eq!(draw(&[], &[]).len(), 3);
    }
}
