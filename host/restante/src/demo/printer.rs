//! Shows reports: to people with diagrams and a table, to programs as a JSON object a line.

use std::io::{self, Write};

use serde_json::json;

use super::Story;
use super::ledger::{Account, Sums};
use super::report::{self, Report};
use super::sequence::grouped;
use crate::cli::table::{harmless, table};

/// Digits of a hash that are shown.
const HASH_DIGITS: usize = 16;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Somebody at a terminal: with colours.
    Terminal,
    /// A file or a pipe: plain lines.
    Plain,
    /// A program: JSON.
    Program,
}

/// Writes reports as they come.
pub struct Printer<W> {
    audience: Audience,
    out: W,
}

impl<W: Write> Printer<W> {
    /// For an audience.
    pub fn new(audience: Audience, out: W) -> Printer<W> {
        Printer { audience, out }
    }

    /// A story begins.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn begin(&mut self, story: &Story) -> io::Result<()> {
        if self.audience == Audience::Program {
            let begun = json!({ "event": "story-begun", "story": story.name, "title": story.title });
            return writeln!(self.out, "{begun}");
        }
        let heading = self.bold(&format!("{}: {}", story.name, story.title));
        writeln!(self.out, "{heading}")?;
        self.out.flush()
    }

    /// A story is over.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn report(&mut self, report: &Report) -> io::Result<()> {
        if self.audience == Audience::Program {
            for event in report.events() {
                writeln!(self.out, "{event}")?;
            }
            return writeln!(self.out, "{}", report.outcome());
        }
        writeln!(self.out)?;
        for line in report.diagram() {
            writeln!(self.out, "{}", harmless(&line))?;
        }
        writeln!(self.out)?;
        let rows: Vec<Vec<String>> = report.accounts.iter().map(body_row).collect();
        for line in table(&["body", "bytes", "SHA-256", "received"], &rows).lines() {
            writeln!(self.out, "  {line}")?;
        }
        for failure in &report.failures {
            let text = self.red(&harmless(failure));
            writeln!(self.out, "  {text}")?;
        }
        let verdict = if report.is_success() { self.green("ok") } else { self.red("FAILED") };
        writeln!(self.out, "  {verdict}, {:.1} s\n", report.took.as_secs_f64())
    }

    /// All stories are over.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn summary(&mut self, reports: &[Report]) -> io::Result<()> {
        let total = reports.iter().fold(Sums::default(), |total, report| total.and(&report.sums));
        let failed = reports.iter().filter(|report| !report.is_success()).count();
        if self.audience == Audience::Program {
            let summary = json!({
                "event": "summary", "success": failed == 0, "stories": reports.len(), "failed": failed,
                "sums": report::sums(&total),
            });
            return writeln!(self.out, "{summary}");
        }
        let mut rows: Vec<Vec<String>> = reports.iter().map(story_row).collect();
        rows.push(sums_row("all", &total, String::new(), String::new(), failed == 0));
        let head = ["story", "in", "out", "expired", "lost", "repeated", "SHA-256 in", "SHA-256 out", ""];
        write!(self.out, "{}", table(&head, &rows))?;
        writeln!(
            self.out,
            "Counted by the clients from the bodies that they received; of several bodies the hash is over their hashes."
        )?;
        let stories = if reports.len() == 1 { "1 story".to_owned() } else { format!("{} stories", reports.len()) };
        let text = format!(
            "{stories}, {failed} failed: in {}, out {}, expired {}, repeated {}, lost {}",
            total.sent, total.delivered, total.expired, total.repeated, total.lost
        );
        let text = if failed == 0 { self.green(&text) } else { self.red(&text) };
        writeln!(self.out, "{text}")
    }

    fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    fn green(&self, text: &str) -> String {
        self.styled("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.styled("31", text)
    }

    fn styled(&self, style: &str, text: &str) -> String {
        match self.audience {
            Audience::Terminal => format!("\x1b[{style}m{text}\x1b[0m"),
            Audience::Plain | Audience::Program => text.to_owned(),
        }
    }
}

fn body_row(account: &Account) -> Vec<String> {
    let received = match (account.intact, account.altered.first()) {
        (0, None) if account.sent.expires && account.failure_told => "expired, its sender was told".to_owned(),
        (0, None) => "NO".to_owned(),
        (0, Some(altered)) => format!("ALTERED: {}", shortened(altered)),
        (1, None) => "once, the same hash".to_owned(),
        (times, _) => format!("{times} TIMES"),
    };
    let sent = &account.sent;
    vec![sent.what.clone(), grouped(sent.size), shortened(&sent.sha256), received]
}

fn story_row(report: &Report) -> Vec<String> {
    let shown = |digest: &Option<String>| digest.as_deref().map_or_else(|| "-".to_owned(), shortened);
    let (went_in, came_out) = (shown(&report.digests.0), shown(&report.digests.1));
    sums_row(report.name, &report.sums, went_in, came_out, report.is_success())
}

fn sums_row(name: &str, sums: &Sums, went_in: String, came_out: String, is_success: bool) -> Vec<String> {
    let numbers = [sums.sent, sums.delivered, sums.expired, sums.lost, sums.repeated];
    let verdict = if is_success { "ok" } else { "FAILED" };
    let numbers = numbers.into_iter().map(|number| number.to_string());
    std::iter::once(name.to_owned()).chain(numbers).chain([went_in, came_out, verdict.to_owned()]).collect()
}

fn shortened(hash: &str) -> String {
    hash.chars().take(HASH_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::ledger::{Ledger, Received, Sent};
    use crate::demo::stories;

    fn report(lost: bool) -> Report {
        let mut ledger = Ledger::default();
        let (to, message_id, sha256) = ("sip:bob@example.org".to_owned(), "1".to_owned(), "ab".repeat(32));
        ledger.sent(Sent {
            to: to.clone(),
            message_id: message_id.clone(),
            sha256: sha256.clone(),
            size: 1_234,
            what: "a\x1b[2J".to_owned(),
            expires: false,
        });
        if !lost {
            ledger.received(Received { by: to, message_id: Some(message_id), sha256, size: 1_234 });
        }
        Report::new(&stories()[0], Vec::new(), &ledger, Vec::new(), Duration::from_millis(1_500))
    }

    fn printed(audience: Audience, reports: &[Report]) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(audience, &mut out);
        for report in reports {
            printer.begin(&stories()[0]).unwrap();
            printer.report(report).unwrap();
        }
        printer.summary(reports).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_line_says_what_was_lost() {
        let right = printed(Audience::Plain, &[report(false), report(false)]);
        assert_eq!(right.lines().last(), Some("2 stories, 0 failed: in 2, out 2, expired 0, repeated 0, lost 0"));
        let wrong = printed(Audience::Plain, &[report(false), report(true)]);
        assert_eq!(wrong.lines().last(), Some("2 stories, 1 failed: in 2, out 1, expired 0, repeated 0, lost 1"));
        assert!(!right.contains('\x1b') && right.contains("a\\u{1b}[2J") && right.contains("1,234"), "{right}");
        assert!(printed(Audience::Terminal, &[report(false)]).contains("\x1b[32m"));
    }

    #[test]
    fn programs_get_an_object_a_line() {
        let text = printed(Audience::Program, &[report(true)]);
        let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
        assert_eq!(names, ["story-begun", "story-ended", "summary"]);
        assert_eq!((&events[2]["success"], &events[2]["sums"]["lost"]), (&json!(false), &json!(1)));
    }
}
